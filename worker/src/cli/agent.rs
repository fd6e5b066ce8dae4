//! `agent`: Orchestra's own agent, which is our own binary started again.

use orchestra_config::AgentRunner;
use orchestra_types::{Exit, Failure, FailureCode};

use super::{
    adapter::{Action, Adapter, CommandLine, Launch, Stream, Verdict},
    json_lines::Reader,
    launch::args,
};

/// Orchestra's own agent.
#[derive(Debug, Default)]
pub(super) struct Agent {
    reader: Reader,
}

impl Adapter for Agent {
    fn command(&mut self, launch: &Launch<'_>) -> Result<CommandLine, Failure> {
        self.reader.start(launch);
        let Some((program, first)) = launch.self_command.split_first() else {
            let why = "the worker does not know its own program, which the agent is part of";
            return Err(Failure::new(FailureCode::Internal, why));
        };
        let mut arguments = first.to_vec();
        arguments.extend(args(["agent", "run"]));
        if let Some(agent) = launch.config.and_then(|c| c.agent.as_ref()) {
            arguments.extend(service(agent));
        }
        if let Some(model) = launch.wanted_model() {
            arguments.extend(args(["--model", model]));
        }
        let mut line = launch.command_line_of(program.into(), arguments, &[]);
        line.stdin = launch.prompt.as_bytes().to_vec();
        Ok(line)
    }

    fn on_line(&mut self, stream: Stream, line: &[u8]) -> Vec<Action> {
        self.reader.on_line(stream, line)
    }

    fn cancel(&mut self) -> Vec<Action> {
        self.reader.cancel()
    }

    fn finish(&mut self, exit: &Exit) -> Verdict {
        self.reader.finish(exit)
    }
}

/// Which model service it calls. The key itself is read from its environment only.
fn service(agent: &AgentRunner) -> Vec<String> {
    let mut arguments = args(["--provider", &agent.provider]);
    if let Some(url) = &agent.base_url {
        arguments.extend(args(["--base-url", url]));
    }
    if let Some(name) = &agent.api_key_env {
        arguments.extend(args(["--api-key-env", name]));
    }
    arguments
}
