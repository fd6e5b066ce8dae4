//! `orchestra-head`.

use std::process::ExitCode;

use clap::{
    Parser,
    error::{ContextKind, ContextValue},
};

#[derive(Parser)]
#[command(name = "orchestra-head", version = orchestra_version::LONG)]
struct Cli {
    #[command(flatten)]
    args: orchestra_head::Args,
}

fn main() -> ExitCode {
    match orchestra_head::run(
        Cli::try_parse()
            .unwrap_or_else(|error| told(error).exit())
            .args,
    ) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
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
