//! Events of an attempt: numbered and on disk first, then pushed to the head until it has them.

mod journal;
mod push;

pub use journal::{Cause, Error, Journal};
pub use push::{Pushed, Source, push, sign};
