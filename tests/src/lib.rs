//! The harness of the system tests: what starts, asks, waits for and cleans up after a cluster.
//!
//! The tests themselves are in `system/`. They drive the built binaries as a person does, through
//! `ctl`, its exit codes and its JSON; nothing here links the head, the worker or `ctl`.
#![warn(missing_docs)]

mod background;
mod binaries;
mod clis;
mod cluster;
mod collector;
mod command;
mod hang;
mod impair;
mod isolation;
mod machine;
mod model;
mod mount;
mod neighbour;
mod processes;
mod project;
mod setup;
mod sink;
mod suite;
#[cfg(test)]
mod texts;
mod wait;

pub use background::Background;
pub use binaries::Binaries;
pub use cluster::{Cluster, scene};
pub use collector::Collector;
pub use command::{Output, run};
pub use impair::Fault;
pub use isolation::enter;
pub use machine::{Need, tool};
pub use model::Model;
pub use mount::Mount;
pub use neighbour::{Cable, Neighbour};
pub use processes::{Marker, alive, freeze, hang_up, kill_9, terminate, thaw, with_file};
pub use project::Project;
pub use setup::{GATE, Setup};
pub use sink::{Sink, Span};
pub use suite::{Suite, Test};
pub use wait::{Deadline, until};
