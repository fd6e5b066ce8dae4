//! `orchestra-worker`, the worker's own binary.

use std::process::ExitCode;

use clap::Parser;
use orchestra_worker::{Args, SelfCommand};

#[derive(Parser)]
#[command(name = "orchestra-worker", version = orchestra_version::LONG)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = SelfCommand::current(&[])
        .map_err(Into::into)
        .and_then(|me| orchestra_worker::run(cli.args, me));
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
