//! Reports to the head: on disk before they are sent, numbered for the worker's whole life, kept
//! until the head has acknowledged them.

mod file;
mod handle;
mod waiting;

pub use file::{Error, NewReport, Spool};
pub use handle::{Closed, Handle, Progress, start};
pub use waiting::Waiting;
