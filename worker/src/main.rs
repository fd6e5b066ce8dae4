//! `orchestra-worker`, the worker's own binary.

use std::process::ExitCode;

use clap::{
    Parser,
    error::{ContextKind, ContextValue},
};
use orchestra_worker::{Args, SelfCommand};

#[derive(Parser)]
#[command(name = "orchestra-worker", version = orchestra_version::LONG)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| told(error).exit());
    let done = SelfCommand::current(&[])
        .map_err(Into::into)
        .and_then(|me| orchestra_worker::run(cli.args, me));
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

/// The error, with what is wrong where a variable is empty that stands for an option.
fn told(error: clap::Error) -> clap::Error {
    let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let words: Vec<_> = std::env::args_os().collect();
    let why = orchestra_config::empty_variable(option, &words, |name| std::env::var_os(name));
    match why {
        Some(why) => clap::Error::raw(error.kind(), why),
        None => error,
    }
}
