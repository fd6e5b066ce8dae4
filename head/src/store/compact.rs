//! Compaction: the database is written anew, without the room of rows that are gone.
//!
//! ```text
//! journal ─► sled, all of it │ db ─rows─► db.compacting, with a journal of its own ─► compared
//!                            │ exchange the two directories, in one step ─► remove the old one
//! ```
//! A crash before the exchange leaves the old database as it was, one behind it the new one; in both
//! cases `db.compacting` is of no use, and the next opening removes it.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use orchestra_config::durable;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{Result, Store, database::Database, error::io_error, key, large, open};
use crate::{blobs::Blobs, points, progress::Progress};

/// How long the threads of a database that is closed may take to end.
const PATIENCE: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_millis(5);
/// More operations in one batch poison sled.
const BATCH_ROWS: usize = 128;

/// What a compaction did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// Rows that are kept.
    pub rows: u64,
    /// Their bytes.
    pub live: u64,
    /// What the database took on disk before, in bytes.
    pub before: u64,
    /// What it takes now.
    pub after: u64,
    /// What the whole store took on disk, with its journal, before the first step.
    pub disk_before: u64,
    /// What that takes now.
    pub disk_after: u64,
}

/// Writes the database in `path` anew. The caller holds the head's lock. Until it has succeeded
/// nothing has changed.
pub fn compact(path: &Path, blobs: Blobs, progress: &Progress) -> Result<Compacted> {
    let measured =
        |bytes: io::Result<u64>| bytes.map_err(|source| io_error("measure", path, source));
    // What waits in the journal moves into the database first, which makes that larger.
    let disk_before = measured(bytes_of_all(path))?;
    let mut store = Store::open(path, blobs)?;
    store.move_all()?;
    let before = measured(bytes_of_database(path))?;
    let beside = beside(path);
    let copied = copy(&store.database, &beside, progress);
    drop(store);
    let exchanged = copied.and_then(|copied| exchange(path, &beside).map(|()| copied));
    let (rows, live) = exchanged.inspect_err(|_| {
        // The error that is told is the first one; the next opening removes what is left.
        let _ = fs::remove_dir_all(&beside);
    })?;
    remove_left_over(path)?;
    Ok(Compacted {
        rows,
        live,
        before,
        after: measured(bytes_of_database(path))?,
        disk_before,
        disk_after: measured(bytes_of_all(path))?,
    })
}

/// Removes what a compaction left that was cut off, or the old database behind one that was not.
pub(super) fn remove_left_over(path: &Path) -> Result<()> {
    let beside = beside(path);
    let removed = points::reach("compact.remove").and_then(|()| fs::remove_dir_all(&beside));
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io_error("remove", &beside, error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

impl Store {
    /// Moves every row into the database.
    fn move_all(&mut self) -> Result<()> {
        if self.moving.is_none() {
            self.freeze();
        }
        while let Some(checkpoint) = &self.moving {
            match checkpoint.is_moved() {
                false => self.move_slice()?,
                true => self.end_checkpoint()?,
            }
        }
        Ok(())
    }
}

/// The number of rows, and their bytes.
fn copy(from: &Database, beside: &Path, progress: &Progress) -> Result<(u64, u64)> {
    let (mut rows, mut live) = (0, 0);
    for found in rows_of(from) {
        let (key, value) = found?;
        large::verify(&key, &value)?;
        rows += 1;
        live += (key.len() + value.len()) as u64;
    }
    progress.expect(2 * live);
    durable::create_private_dir(beside).map_err(|source| io_error("make", beside, source))?;
    let to = Database::open(beside)?;
    let mut batch = sled::Batch::default();
    let mut waiting = 0;
    for found in rows_of(from) {
        let (key, value) = found?;
        pass(progress, &key, &value)?;
        batch.insert(key, value);
        waiting += 1;
        if waiting == BATCH_ROWS {
            reach("compact.copy", beside)?;
            to.apply(std::mem::take(&mut batch))?;
            waiting = 0;
        }
    }
    reach("compact.copy", beside)?;
    to.apply(batch)?;
    // Durable, and with a journal: from here on it is a whole store.
    open::begin(&to, &beside.join("journal"))?;
    compare(from, &to, progress)?;
    Ok((rows, live))
}

/// What is about to take the place of everything is looked at once more.
fn compare(from: &Database, to: &Database, progress: &Progress) -> Result<()> {
    let mut copies = rows_of(to);
    for found in rows_of(from) {
        let row = found?;
        pass(progress, &row.0, &row.1)?;
        if copies.next().transpose()?.as_ref() != Some(&row) {
            let why = "its copy is another one; nothing was changed".to_owned();
            return Err(large::damaged(&row.0, why));
        }
    }
    match copies.next() {
        None => Ok(()),
        Some(more) => Err(large::damaged(&more?.0, "it was made up".to_owned())),
    }
}

/// All rows but those that say where the journal is.
fn rows_of(database: &Database) -> impl Iterator<Item = Result<(sled::IVec, sled::IVec)>> {
    let own = |key: &[u8]| key == key::FORMAT || key == key::JOURNAL;
    let rows = database.from(&[]);
    rows.filter(move |row| row.as_ref().map_or(true, |(key, _)| !own(key)))
}

fn pass(progress: &Progress, key: &[u8], value: &[u8]) -> Result<()> {
    Ok(progress.passed((key.len() + value.len()) as u64)?)
}

/// Lets the two directories trade places, in one step.
fn exchange(path: &Path, beside: &Path) -> Result<()> {
    // IMPORTANT: sled's threads know their files by path, and must be gone before other files are
    // there.
    let _closed = [closed(path)?, closed(beside)?];
    sync_all(beside).map_err(|source| io_error("sync", beside, source))?;
    reach("compact.exchange", path)?;
    let swapped = renameat_with(CWD, beside, CWD, path, RenameFlags::EXCHANGE);
    swapped.map_err(|source| io_error("exchange", path, source.into()))?;
    let above = path.parent().unwrap_or(Path::new("/"));
    let synced = File::open(above).and_then(|dir| dir.sync_all());
    synced.map_err(|source| io_error("sync", above, source))
}

/// A database that nobody has open, and that nobody opens while this lives.
fn closed(path: &Path) -> Result<File> {
    let file = path.join("db");
    let failed = |source| io_error("lock", &file, source);
    let handle = File::open(&file).map_err(failed)?;
    let until = Instant::now() + PATIENCE;
    loop {
        match handle.try_lock() {
            Ok(()) => return Ok(handle),
            Err(TryLockError::WouldBlock) if Instant::now() < until => thread::sleep(RETRY),
            Err(error) => return Err(failed(error.into())),
        }
    }
}

fn reach(point: &'static str, path: &Path) -> Result<()> {
    points::reach(point).map_err(|source| io_error("write", path, source))
}

fn beside(path: &Path) -> PathBuf {
    path.with_extension("compacting")
}

/// Without the journal, whose files are of one size whatever is in them.
fn bytes_of_database(path: &Path) -> io::Result<u64> {
    bytes_in(path, |_| Ok(0))
}

/// With the journal: rows may be in either.
fn bytes_of_all(path: &Path) -> io::Result<u64> {
    bytes_in(path, bytes_of_all)
}

fn bytes_in(path: &Path, of_directory: impl Fn(&Path) -> io::Result<u64>) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        if meta.is_dir() {
            bytes += of_directory(&entry.path())?;
        } else if meta.is_file() {
            bytes += std::os::unix::fs::MetadataExt::blocks(&meta) * 512;
        }
    }
    Ok(bytes)
}

fn sync_all(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        match path.is_dir() {
            true => sync_all(&path)?,
            false => File::open(&path)?.sync_all()?,
        }
    }
    File::open(dir)?.sync_all()
}
