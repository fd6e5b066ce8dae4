//! `orchestra-head`.

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(name = "orchestra-head", version = orchestra_version::LONG)]
struct Cli {
    #[command(flatten)]
    args: orchestra_head::Args,
}

fn main() -> ExitCode {
    match orchestra_head::run(Cli::parse().args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
