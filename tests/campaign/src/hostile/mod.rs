//! Programs that do what they can to outlive their attempt, and who watches them.
//!
//! ```text
//! own numbers of processes (a PID namespace), few of them, so that they come again all the time
//!   head ── worker ── supervisor ── hostile tree        by token, in each command line
//!                                        │ killed        ▲ looked at every few milliseconds
//!   crowd: bystanders who get the numbers of the dead, and whom nobody may signal
//! ```

mod attempts;
mod crowd;
mod inside;
mod kind;
mod program;
mod sight;
mod stale;
mod tree;

pub use inside::{Asked, Mode, Report, run_inside};

use std::process::ExitCode;

/// The first argument of a hostile program.
const PROGRAM: &str = "--hostile";
/// The first argument of a proof that runs with numbers of its own.
const INSIDE: &str = "--hostile-inside";

/// This program is also each hostile program, and the part of the proof that runs inside of a
/// namespace: what it is asked to be, if it is one of them. For the beginning of `main`.
#[must_use]
pub fn hidden() -> Option<ExitCode> {
    let mut args = std::env::args().skip(1);
    let first = args.next()?;
    let rest: Vec<String> = args.collect();
    match first.as_str() {
        PROGRAM => Some(program::main(&rest)),
        INSIDE => Some(inside::main(&rest)),
        _ => None,
    }
}
