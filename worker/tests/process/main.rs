//! The supervisor and its client, with real processes.
//!
//! This program is also the supervisor, the nursery, and a worker that is killed: see `main`.
#![expect(clippy::unwrap_used, reason = "a test, where a panic is the report")]

use std::{path::Path, process::ExitCode};

use libtest_mimic::{Arguments, Trial};
use orchestra_worker::process::{nursery_main, supervise_main};

/// A test and its name.
type Test = (&'static str, fn());

macro_rules! tests {
    ($($name:ident,)*) => {
        &[$((stringify!($name), $name as fn())),*]
    };
}

mod cli;
mod endings;
mod nursery;
mod restarts;
mod stopped;
mod support;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("supervise") => supervise_main(Path::new(&args[2])),
        Some("nursery") => nursery_main(),
        Some("idle-worker") => nursery::idle_worker(),
        Some("worker") => restarts::worker(Path::new(&args[2])),
        Some(_) | None => libtest_mimic::run(&Arguments::from_args(), trials()).exit_code(),
    }
}

fn trials() -> Vec<Trial> {
    let all = [
        cli::TESTS,
        endings::TESTS,
        nursery::TESTS,
        restarts::TESTS,
        stopped::TESTS,
    ];
    let trial = |(name, test): Test| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    };
    all.concat().into_iter().map(trial).collect()
}
