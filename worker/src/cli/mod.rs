//! One file per AI CLI: how it is started, what its output means, how it is told to stop.
//!
//! Adapters are pure and deterministic: no clock, no I/O, no randomness. After a crash of the worker the
//! raw log is replayed through a fresh adapter and gives the same events. What touches the machine
//! (which CLIs are installed) is `probe` alone.

mod acp;
mod adapter;
mod agent;
mod claude;
mod codex;
mod json;
mod json_lines;
mod launch;
mod plain;
mod probe;
mod provider_error;
mod registry;
mod shell;
mod story;
mod text;
mod title;

pub use adapter::{Action, Adapter, CommandLine, Kept, Launch, Stream, Verdict};
pub use probe::{Glance, Probe, glance, probe};
pub use registry::adapter_for;
