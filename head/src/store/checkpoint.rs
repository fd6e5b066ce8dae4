//! Checkpoints: rows move from the journal into sled, a slice at a time, so that segments can be
//! used anew.
//!
//! ```text
//! recent rows ─freeze─► moving rows ─slices─► sled's memory ─flush─► file ─sync, on a job─► retire
//! ```
//!
//! A row that was written again after the freeze is passed over: the journal still has its newest
//! value, and a later checkpoint moves it. So a row that is rewritten often costs sled little. The
//! last slice has the row that says up to where sled has everything; a crash before it is durable
//! only means that the journal is replayed from the earlier position, onto the same rows.

use sled::IVec;

use super::{Result, Store, job::Job, journal::Position, key, large, table::Table};

/// A journal of this size is moved into the database.
const BEGIN_AT_BYTES: u64 = if cfg!(any(test, feature = "fail-points")) {
    512
} else {
    16 * 1024
} * 1024;
/// Up to this size it is moved only while nobody waits: a burst of submissions, or rows that are
/// soon written again, must not wait for the database.
pub(super) const PACE_AT_BYTES: u64 = 4 * BEGIN_AT_BYTES;
/// With so much more, each commit moves as many rows as it brings; with twice as much, twice as many.
pub(super) const PACE_BYTES: u64 = 4 * BEGIN_AT_BYTES;
/// A journal of this size lets a commit wait for the disk.
pub(super) const WAIT_AT_BYTES: u64 = 16 * BEGIN_AT_BYTES;
/// Rows that one slice moves: sled is good up to 256, and an input may be waiting.
const SLICE_ROWS: usize = 128;

/// What there is to do while nobody waits for the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Nothing.
    Nothing,
    /// Call again at once, unless somebody waits.
    More,
    /// Call again soon: the disk is at work.
    Soon,
}

/// A checkpoint on its way.
#[derive(Debug)]
pub(super) struct Checkpoint {
    pub table: Table,
    /// The last row that was moved.
    moved: Option<IVec>,
    /// Rows that commits let wait.
    owed: usize,
    /// What the database has when all rows are moved.
    reaches: Position,
    /// Runs once all rows are moved.
    syncing: Option<Job<()>>,
}

impl Checkpoint {
    /// Moves everything again.
    fn restart(&mut self) {
        self.moved = None;
        self.syncing = None;
    }
}

impl Checkpoint {
    /// Whether only the disk is waited for.
    pub fn is_moved(&self) -> bool {
        self.syncing.is_some()
    }
}

/// How many rows are to be moved for `rows` that came, with a journal of so many bytes.
pub(super) fn owed(rows: usize, journal_bytes: u64) -> usize {
    let over = journal_bytes.saturating_sub(PACE_AT_BYTES);
    let owed = (rows as u64).saturating_mul(over).div_ceil(PACE_BYTES);
    usize::try_from(owed).unwrap_or(usize::MAX)
}

impl Store {
    /// Does a little of what can wait. To be called when nobody waits for the store.
    pub fn idle(&mut self) -> Result<Idle> {
        if !self.may_grow()? {
            return Ok(Idle::Nothing);
        }
        self.journal.make_ahead()?;
        self.mark.keep(self.journal.durable())?;
        self.begin_checkpoint();
        let Some(checkpoint) = &self.moving else {
            return Ok(Idle::Nothing);
        };
        let did = match &checkpoint.syncing {
            None => self.move_slice(),
            Some(job) if job.is_done() => self.end_checkpoint(),
            Some(_) => return Ok(Idle::Soon),
        };
        self.unless_full(did)?;
        Ok(Idle::More)
    }

    /// Moves rows in proportion to those that came and to the journal's size, so that a store that is
    /// never idle moves them all the same, and its journal stays bounded. To be called after a
    /// commit's messages are sent.
    pub fn keep_pace(&mut self) -> Result<()> {
        self.note_room_for_little();
        if !self.may_grow()? {
            return Ok(());
        }
        self.journal.make_ahead()?;
        self.mark.keep(self.journal.durable())?;
        self.begin_checkpoint();
        let rows = std::mem::take(&mut self.committed);
        if let Some(checkpoint) = &mut self.moving {
            checkpoint.owed += owed(rows, self.journal.bytes());
        }
        while let Some(checkpoint) = &mut self.moving {
            let did = match &checkpoint.syncing {
                None if checkpoint.owed >= SLICE_ROWS => {
                    checkpoint.owed -= SLICE_ROWS;
                    self.move_slice()
                }
                Some(job) if job.is_done() || self.journal.bytes() > WAIT_AT_BYTES => {
                    self.end_checkpoint()
                }
                None | Some(_) => break,
            };
            if !self.unless_full(did)? {
                break;
            }
        }
        Ok(())
    }

    /// Whether files may grow. A database that was closed because they could not is opened again.
    fn may_grow(&mut self) -> Result<bool> {
        if let Some(disk) = &self.disk
            && disk.look().is_err()
        {
            return Ok(false);
        }
        if !self.database.is_open() {
            let opened = self.database.reopen();
            return self.unless_full(opened);
        }
        Ok(true)
    }

    /// Passes a full disk over: the journal has everything that the database may have lost, so that
    /// the checkpoint begins anew once there is room. sled's errors stay for good, hence the
    /// closing.
    pub(super) fn unless_full(&mut self, did: Result<()>) -> Result<bool> {
        match (did, &self.disk) {
            (Ok(()), _) => Ok(true),
            (Err(error), Some(disk)) if error.is_full() => {
                tracing::warn!(%error, "the database found the disk full; it goes on later");
                disk.release_ballast();
                self.database.close(disk.found_full());
                if let Some(checkpoint) = &mut self.moving {
                    checkpoint.restart();
                }
                let opened = self.database.reopen();
                match opened {
                    Err(error) if !error.is_full() => Err(error),
                    Ok(()) | Err(_) => Ok(false),
                }
            }
            (Err(error), _) => Err(error),
        }
    }

    fn begin_checkpoint(&mut self) {
        if self.moving.is_none() && self.journal.bytes() > BEGIN_AT_BYTES {
            self.freeze();
        }
    }

    pub(super) fn freeze(&mut self) {
        self.moving = Some(Checkpoint {
            table: std::mem::take(&mut self.recent),
            moved: None,
            owed: 0,
            reaches: self.journal.position(),
            syncing: None,
        });
    }

    pub(super) fn move_slice(&mut self) -> Result<()> {
        let Some(checkpoint) = &mut self.moving else {
            return Ok(());
        };
        let mut batch = sled::Batch::default();
        let mut left = SLICE_ROWS;
        let mut moved = checkpoint.moved.take();
        let after = moved.clone();
        let mut rows = checkpoint.table.after(after.as_ref());
        for (key, place) in rows.by_ref() {
            moved = Some(key.clone());
            if self.recent.get(key).is_some() {
                continue;
            }
            match place {
                Some(place) => {
                    let value = self.journal.read(place)?;
                    large::verify(key, &value)?;
                    batch.insert(key, value);
                }
                None => batch.remove(key),
            }
            left -= 1;
            if left == 0 {
                break;
            }
        }
        let all = rows.next().is_none();
        drop(rows);
        checkpoint.moved = moved;
        if all {
            batch.insert(key::JOURNAL, large::position(checkpoint.reaches));
        }
        self.database.apply(batch)?;
        if all {
            self.database.flush()?;
            checkpoint.syncing = Some(Job::start(&self.path, self.database.syncer())?);
        }
        Ok(())
    }

    pub(super) fn end_checkpoint(&mut self) -> Result<()> {
        let Some(checkpoint) = &mut self.moving else {
            return Ok(());
        };
        if let Some(job) = checkpoint.syncing.take() {
            job.finish(&self.path)?;
        }
        self.journal.retire(checkpoint.reaches.segment)?;
        self.moving = None;
        Ok(())
    }
}
