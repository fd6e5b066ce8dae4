//! The server as a program of its own, without building `ctl`.

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: orchestra_scripted_model::Args,
}

fn main() -> anyhow::Result<ExitCode> {
    orchestra_scripted_model::run(Cli::parse().args)
}
