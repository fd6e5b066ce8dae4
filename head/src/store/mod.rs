//! What is durable. The only door to sled 0.34.7, and the only place that knows keys and bytes.
//!
//! One tree, `state`. A key is a table's letter and a big-endian number or a name; a value is a
//! format byte, a place byte, and a prost message from `orchestra.store.v1`:
//!
//! ```text
//! t <task>            task         s <task>            specification, written once
//! a <task> <attempt>  attempt      o <task> <attempt>  its end
//! w <worker>          worker       r <worker>          reports recorded up to
//! k <key>             submission   m format            format of the whole
//! ```
//!
//! What makes sled safe here:
//! - `flush` calls `sync_file_range`, which survives no loss of power: a commit ends with
//!   `sync_data` on our own descriptor of the database's file.
//! - Batches of more than 256 operations poison it: a step is one batch if it fits. One that does
//!   not is cut between tasks, and what makes the rest count comes last (see `batch`).
//! - Large values are never synced: they go to the blob directory (see `large`).
//! - It deadlocks under concurrency: one thread owns the store, hence `&mut self` on `commit`.
//! - Its errors are sticky: the owner stops the process on any [`Error::is_fatal`].

mod batch;
mod codec;
mod decode;
mod encode;
mod error;
mod key;
mod large;
mod open;
mod page;
mod read;

#[cfg(test)]
mod tests;

use std::{fs::File, path::PathBuf};

use crate::blobs::Blobs;

pub use error::Error;
pub use page::{Row, references};

/// What a store operation gives.
pub type Result<T> = std::result::Result<T, Error>;

/// The store.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    db: sled::Db,
    tree: sled::Tree,
    /// Our own descriptor of the database's file, for `sync_data`.
    file: File,
    blobs: Blobs,
}
