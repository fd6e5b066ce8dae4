//! What is durable. The only door to sled 0.34.7, and the only place that knows keys and bytes.
//!
//! One tree, `state`. A key is a table's letter and a big-endian number or a name; a value is a
//! format byte, a place byte, a checksum, and a prost message from `orchestra.store.v1`:
//!
//! ```text
//! t <task>            task         s <task>            specification, written once
//! a <task> <attempt>  attempt      o <task> <attempt>  its end
//! w <worker>          worker       r <worker>          reports recorded up to
//! e <schedule>        recurring task    i <table>         ids given, also of rows that are gone
//! k <key>             submission   c <account>         account
//! l <task>            what it used p <project>         what it used today
//! m format            format of the whole
//! ```
//!
//! ```text
//! commit ─► journal, one fdatasync ─► acknowledged
//!              │  rows whose newest value only the journal has are known in memory
//!              └─ checkpoint, in slices, when nobody waits ─► sled, flush, fdatasync
//! ```
//!
//! sled's own flush costs several waits for the disk and a rewrite of what is near; the journal
//! costs one (see `journal`), and rows that are rewritten soon reach sled once (see `checkpoint`).
//!
//! What makes sled safe here:
//! - `flush` calls `sync_file_range`, which survives no loss of power: a checkpoint ends with
//!   `sync_data` on the database's file, and the journal has everything until then.
//! - Batches of more than 256 operations poison it: a slice has fewer.
//! - Large values are never synced: they go to the blob directory (see `large`).
//! - It deadlocks under concurrency: one thread owns the store, hence `&mut self` on `commit`.
//! - Its errors are sticky: the owner stops the process when a write fails. A read that fails
//!   costs what was asked only, and a check goes on behind it (see `lost`).

mod checkpoint;
mod codec;
mod commit;
mod compact;
mod database;
mod decode;
mod encode;
mod error;
mod job;
mod journal;
mod key;
mod large;
mod lost;
mod made;
mod mark;
mod migrate;
mod open;
mod page;
mod read;
mod rows;
mod table;

#[cfg(test)]
pub(crate) mod tests;

use std::path::PathBuf;

use crate::{
    blobs::Blobs,
    disk::{Disk, Full},
};

pub use checkpoint::Idle;
pub use compact::{Compacted, compact};
pub use error::Error;
pub use key::{
    acked as acked_key, attempt as attempt_key, of_change as keys_of, outcome as outcome_key,
    spec as spec_key, task as task_key, task_of,
};
pub use lost::Lost;
pub use made::was_made;
pub use mark::damaged_mark;
pub use page::{Page, Row, change_of, references};

/// The journal's room that is kept for what the core changes by itself while the disk is full: an
/// eighth of a segment, 512 KiB. A new segment has more.
const OWN_ROOM_BYTES: u64 = journal::SEGMENT_BYTES / 8;

/// What a store operation gives.
pub type Result<T> = std::result::Result<T, Error>;

/// The store.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    database: database::Database,
    journal: journal::Journal,
    mark: mark::Mark,
    /// Rows that only the journal has.
    recent: table::Table,
    /// Rows on their way into the database. Those in `recent` are newer.
    moving: Option<checkpoint::Checkpoint>,
    frame: journal::Frame,
    /// Rows that came since `keep_pace`.
    committed: usize,
    /// None: nobody watches whether there is room.
    disk: Option<Disk>,
    blobs: Blobs,
}

impl Store {
    /// The same store, which leaves the database alone while there is no room on the disk.
    #[must_use]
    pub fn on(mut self, disk: Disk) -> Self {
        self.disk = Some(disk);
        self.note_room_for_little();
        self
    }

    /// Whether there is room for what changes something.
    pub fn room(&self) -> std::result::Result<(), Full> {
        self.disk.as_ref().map_or(Ok(()), Disk::room)
    }

    /// Notes how far the journal is durable, before a stop in order.
    pub fn close(mut self) -> Result<()> {
        self.mark.write(self.journal.durable())
    }

    /// The disk that it watches.
    #[must_use]
    pub fn disk(&self) -> Option<Disk> {
        self.disk.clone()
    }

    /// Whether the journal has room for what the core changes by itself, without more of the disk.
    #[must_use]
    pub fn has_own_room(&self) -> bool {
        self.journal.room() > OWN_ROOM_BYTES
    }

    /// Says whether the journal has room for what is small and matters on a full disk, beside that.
    fn note_room_for_little(&self) {
        if let Some(disk) = &self.disk {
            disk.note_room_for_little(self.journal.room() > 2 * OWN_ROOM_BYTES);
        }
    }
}
