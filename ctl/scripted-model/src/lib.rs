//! A model server that follows a script: the one part of the demo and of the tests that is not
//! real. It speaks the wire formats that AI coding CLIs speak, so that the real CLIs run against
//! it without any network, and it says that it is scripted in each answer's header.
//!
//! ```text
//! request -> api (parse) -> Conversation -> engine + Script -> Answer -> api (render) -> stream
//!                                             |                                          |
//!                                           tools (script word -> offered tool)       trouble
//! ```
//! It owns no decision about tasks and knows nothing of the head or the workers.
#![warn(missing_docs)]

mod answer;
mod api;
mod cli;
mod conversation;
mod engine;
mod fill;
mod play;
mod record;
mod route;
pub mod script;
mod server;
mod tools;

pub use cli::{Args, run, serve};
pub use conversation::Api;
pub use record::Record;
pub use script::Script;
pub use server::{Server, ServerOptions};

/// The header that every answer carries.
pub const HEADER: &str = "x-orchestra-scripted-model";
