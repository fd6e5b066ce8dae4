//! Waiting for tasks and watching them at work, over a connection that may break: what was missed
//! is asked for again, nothing is shown twice.

mod absence;
mod changes;
mod events;
mod own;
mod task;
mod wait;

pub use changes::Changes;
pub use events::{Events, Piece};
pub use own::{refuse_after_own, refuse_own};
pub use task::{Until, closing, follow};
pub use wait::{Which, ended_well, wait_for};
