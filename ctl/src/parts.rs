//! The other programs inside of this one, which `ctl start` and `ctl demo` run as processes of
//! their own. Hidden: they are no part of what a person types.

use std::process::ExitCode;

use clap::Subcommand;
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
