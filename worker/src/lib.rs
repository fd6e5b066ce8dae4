//! The worker: takes orders from the head, runs agents in workspaces, and reports back.
//!
//! Nothing that was promised to the head is lost: orders, reports and events are on disk before
//! anything depends on them, and a worker that comes back finds its attempts again.
//!
//! ```text
//! head <-- control stream --> session --- orders ---> fleet --> one owner for each attempt
//!   ^                            ^                                |      |
//!   |                            `--- reports --- spool <---------'      +-- workspace, CLI
//!   `-------- bulk: events, bundles, results <---------------------------'
//! ```

mod account;
mod args;
mod attempt;
mod ballast;
mod blobs;
mod blocking;
mod board;
mod bulk;
pub mod cli;
mod clock;
mod daemon;
mod disk;
mod events;
mod fleet;
mod frames;
pub mod gc;
mod git;
mod ground;
mod housekeeping;
mod identity;
mod installation;
mod interim;
mod join;
mod lease;
mod meter;
mod ports;
mod prefetch;
pub mod process;
mod prompt;
mod registry;
mod renewal;
mod room;
mod self_command;
mod session;
mod setup;
mod spool;
mod stumbles;
mod waiting;

use std::{process::ExitCode, time::Duration};

use args::{AgentCommand, Command};

pub use args::Args;
pub use attempt::running;
pub use self_command::SelfCommand;

/// Runs what the command line asks for. `me` is how this program runs itself again as the worker.
pub fn run(args: Args, me: SelfCommand) -> anyhow::Result<ExitCode> {
    match args.command {
        None => setup::run(args.run, me),
        Some(Command::Run(args)) => setup::run(args, me),
        Some(Command::Join(args)) => join::run(args, me),
        Some(Command::Supervise { dir }) => Ok(process::supervise_main(&dir)),
        Some(Command::Nursery) => Ok(process::nursery_main()),
        Some(Command::SetUp(args)) => {
            let timeout = Duration::from_millis(args.timeout_ms);
            let unready = process::SetUp {
                command: args.command,
                timeout,
                record: args.record,
            };
            Ok(process::set_up_main(&unready, &args.cli))
        }
        Some(Command::Agent {
            command: AgentCommand::Run(args),
        }) => orchestra_agent::run(args),
    }
}
