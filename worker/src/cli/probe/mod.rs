//! Which runners this machine has: programs on PATH, their versions, whether they can work.
//!
//! The one part of `cli` that touches the machine. It starts nothing but `--version`, of CLIs that are known
//! to answer that harmlessly, and not even that where an npm package tells its version.

mod package;
mod program;
mod runners;

pub use runners::{Glance, Probe, glance, probe};
