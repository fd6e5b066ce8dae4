//! One client of the Agent Client Protocol (JSON-RPC 2.0 on standard input and output, one object a line)
//! for every CLI that speaks it.
//!
//! `client` holds the conversation, `calls` the tool calls, `usage` the counting, `outcome` the judging,
//! `notes` what a CLI says in the agent's name, and `agents` what each CLI needs to be started and what it does in its own way.

mod agents;
mod calls;
mod client;
mod notes;
mod outcome;
mod permission;
mod setup;
mod usage;

pub(super) use agents::{PLAIN, profile};
pub(super) use client::Acp;
