//! The head: durable queue, scheduler shell, gRPC services.
//!
//! ```text
//! grpc ──► engine (one thread: core + store) ──► sessions, closer, watchers
//!   └────► events, blobs: bytes that are too many for the store
//! ```
//!
//! Decisions are `orchestra_core`'s. This crate gives them a thread, a disk and a network.

mod args;
pub mod backup;
pub mod blobs;
pub mod check;
mod closing;
pub mod compaction;
pub mod context;
pub mod disk;
mod door;
mod earlier;
pub mod engine;
pub mod events;
mod grpc;
mod keeping;
mod listen;
mod lock;
mod manifest;
pub mod memory;
pub mod metrics;
pub mod points;
pub mod progress;
mod ready;
mod removed;
mod run;
pub mod security;
mod shutdown;
mod sparing;
mod starting;
pub mod store;
mod subtask;
pub mod traces;

pub use args::Args;
pub use run::run;
