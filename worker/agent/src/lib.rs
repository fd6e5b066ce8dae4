//! Orchestra's own minimal agent: a loop of model call and tools.
//!
//! ```text
//! stdin: prompt -> session -> agent loop <-> provider (Anthropic Messages, Chat Completions)
//!                                |
//!                                +-> tools (bash, read, write, edit, todo, task = a child loop)
//! stdout: JSON lines of docs/agent-format.md
//! ```
//! It is a process of its own (`orchestra-worker agent run`), so that it can be driven and killed
//! like every other AI coding CLI. It knows nothing of heads, workers and tasks.
#![warn(missing_docs)]

mod args;
mod chat;
mod events;
mod failure;
mod instructions;
mod provider;
mod run;
mod session;
mod tools;
mod turn;

#[cfg(test)]
mod tests;

pub use args::{Args, Provider};
pub use run::run;
