//! `shell`: a command of the user's own. Every line of standard output is the agent's text, exit code 0
//! is success.

use std::path::PathBuf;

use orchestra_types::{Exit, Failure, FailureCode, ShellCommand};

use super::{
    adapter::{Action, Adapter, CommandLine, Launch, Stream, Verdict},
    launch::args,
    text::Plain,
};

/// Runs a command line by `sh -c`, or an argument list directly.
#[derive(Debug, Default)]
pub(super) struct Shell {
    plain: Plain,
}

impl Adapter for Shell {
    fn command(&mut self, launch: &Launch<'_>) -> Result<CommandLine, Failure> {
        let (program, arguments) = match launch.command {
            Some(ShellCommand::Argv(argv)) => direct(argv)?,
            Some(ShellCommand::Line(line)) => by_shell(line)?,
            None => by_shell(launch.prompt)?,
        };
        let mut line = launch.command_line_of(program, Vec::new(), &[]);
        line.args.splice(0..0, arguments);
        Ok(line)
    }

    fn on_line(&mut self, stream: Stream, line: &[u8]) -> Vec<Action> {
        self.plain.on_line(stream, line)
    }

    fn cancel(&mut self) -> Vec<Action> {
        self.plain.cancel()
    }

    fn finish(&mut self, exit: &Exit) -> Verdict {
        self.plain.finish(exit)
    }
}

fn direct(argv: &[String]) -> Result<(PathBuf, Vec<String>), Failure> {
    match argv.split_first() {
        Some((program, rest)) if !program.is_empty() => Ok((program.into(), rest.to_vec())),
        _ => Err(nothing_to_run()),
    }
}

fn by_shell(line: &str) -> Result<(PathBuf, Vec<String>), Failure> {
    if line.trim().is_empty() {
        return Err(nothing_to_run());
    }
    Ok((PathBuf::from("/bin/sh"), args(["-c", line])))
}

fn nothing_to_run() -> Failure {
    Failure::new(
        FailureCode::BadRequest,
        "the command of this `shell` task is empty: give it a command line",
    )
}
