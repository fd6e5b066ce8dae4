//! The other programs inside of this one, which `ctl start` and `ctl demo` run as processes of
//! their own. Hidden: they are no part of what a person types.

use std::{ffi::OsString, process::ExitCode};

use clap::{Parser, Subcommand};
use orchestra_worker::SelfCommand;

use crate::error::{Error, OrFailed, Result};

/// Another program.
#[derive(Debug, Subcommand)]
pub enum Part {
    /// Run the head
    #[command(hide = true)]
    Head(Head),
    /// Run a worker
    #[command(hide = true)]
    Worker(Box<orchestra_worker::Args>),
    /// Serve a model that follows a script
    #[command(hide = true)]
    ScriptedModel(orchestra_scripted_model::Args),
}

/// The head, which knows nothing of terminals itself.
#[derive(Debug, clap::Args)]
pub struct Head {
    /// Leave the terminal's session, so that its end is not ours
    #[arg(long)]
    own_session: bool,
    #[command(flatten)]
    args: orchestra_head::Args,
}

/// A part's command line, without the commands for people.
#[derive(Debug, Parser)]
#[command(name = "ctl")]
struct Alone {
    #[command(subcommand)]
    part: Part,
}

/// The part that a command line asks for; none where it is for a person, or not understood. A process
/// that is to be small would else keep what it needs to know of all commands in memory.
pub fn asked(arguments: impl IntoIterator<Item = OsString>) -> Option<Part> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let is_part = Part::has_subcommand(arguments.get(1)?.to_str()?);
    let parse = || Alone::try_parse_from(arguments).ok();
    is_part.then(parse).flatten().map(|alone| alone.part)
}

/// Runs it.
pub fn run(part: Part) -> Result<ExitCode> {
    match part {
        Part::Head(head) => orchestra_head::run(head.detached()).map_err(failed),
        Part::Worker(args) => {
            let me = SelfCommand::current(&["worker"])
                .or_failed(|| "failed to find the own program".to_owned())?;
            orchestra_worker::run(*args, me).map_err(failed)
        }
        Part::ScriptedModel(args) => orchestra_scripted_model::run(args).map_err(failed),
    }
}

impl Head {
    /// The program's own arguments, once it is as detached as was asked for.
    fn detached(self) -> orchestra_head::Args {
        if self.own_session {
            // It fails only for the leader of a process group, which has left already.
            let _ = rustix::process::setsid();
        }
        self.args
    }
}

fn failed(error: anyhow::Error) -> Error {
    Error::failed(format!("{error:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};

    fn asked_of(line: &str) -> Option<Part> {
        asked(line.split(' ').map(OsString::from))
    }

    #[test]
    fn a_part_alone_reads_its_command_line_as_all_of_ctl_does() {
        for line in [
            "ctl worker nursery",
            "ctl worker --own-session --state /s --slots 3",
            "ctl worker supervise /s/1.1",
            "ctl head --own-session --state /s",
        ] {
            let all = Cli::try_parse_from(line.split(' ')).unwrap();
            let Some(Command::Part(part)) = all.command else {
                panic!("{line}");
            };
            assert_eq!(
                format!("{:?}", asked_of(line).unwrap()),
                format!("{part:?}")
            );
        }
    }

    #[test]
    fn what_is_for_a_person_is_left_to_all_of_ctl() {
        for line in [
            "ctl",
            "ctl status",
            "ctl worker --help",
            "ctl worker --json",
        ] {
            assert!(asked_of(line).is_none(), "{line}");
        }
    }
}
