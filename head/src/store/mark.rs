//! How far the journal is durable, noted outside of it.
//!
//! A journal whose end is lost reads like one that was never longer. So the number of its last durable
//! frame is noted in a file beside it: once a minute while there are commits, and when the head stops. A
//! journal that ends before that frame has lost what was acknowledged.
//!
//! ```text
//! magic with the format 8 · number u64 · crc u32
//! ```
//!
//! IMPORTANT: it is written only after what it names is durable. It may be missing, in a store of an
//! earlier version, and it may be behind.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use orchestra_config::durable::{self, Access};

use super::{Error, Result, error::io_error, job::Job};
use crate::points;

/// How often it is written at most while there are commits. In tests they always are worth it.
const EVERY: Duration = if cfg!(any(test, feature = "fail-points")) {
    Duration::ZERO
} else {
    Duration::from_secs(60)
};
const NAME: &str = "mark";
const MAGIC: &[u8; 8] = b"ORCHMRK\x01";
const BYTES: usize = 20;

/// The mark of a store.
#[derive(Debug)]
pub(super) struct Mark {
    path: PathBuf,
    /// What it says, or will say when the writing has ended.
    number: u64,
    tried_at: Option<Instant>,
    writing: Option<Job<()>>,
}

impl Mark {
    /// Reads the mark of the store in `dir`.
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join(NAME);
        let number = match fs::read(&path) {
            Ok(bytes) => number_in(&bytes).unwrap_or_else(|| {
                tracing::warn!(path = %path.display(), "the mark of the journal's end is damaged, and written anew");
                0
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(source) => return Err(io_error("read", &path, source)),
        };
        Ok(Self {
            path,
            number,
            tried_at: None,
            writing: None,
        })
    }

    /// The frame that it names; 0 when there is none.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Has it written on a thread of its own when that is due.
    pub fn keep(&mut self, durable: u64) -> Result<()> {
        if self.writing.as_ref().is_some_and(|job| !job.is_done()) {
            return Ok(());
        }
        self.settle()?;
        let is_due = self.tried_at.is_none_or(|at| at.elapsed() >= EVERY);
        if durable <= self.number || !is_due {
            return Ok(());
        }
        let path = self.path.clone();
        let work = move || write(&path, durable);
        self.writing = Some(Job::start(&self.path, work)?);
        (self.number, self.tried_at) = (durable, Some(Instant::now()));
        Ok(())
    }

    /// Writes it, unless it says this already.
    pub fn write(&mut self, durable: u64) -> Result<()> {
        self.settle()?;
        if durable > self.number {
            unless_full(write(&self.path, durable))?;
            self.number = durable;
        }
        Ok(())
    }

    /// Waits for the writing.
    fn settle(&mut self) -> Result<()> {
        match self.writing.take() {
            Some(job) => unless_full(job.finish(&self.path)),
            None => Ok(()),
        }
    }
}

/// On a full disk the mark stays behind, which costs nothing that was promised.
fn unless_full(written: Result<()>) -> Result<()> {
    match written {
        Err(error) if error.is_full() => {
            tracing::warn!("no room to note how far the journal is durable");
            Ok(())
        }
        written => written,
    }
}

fn write(path: &Path, number: u64) -> Result<()> {
    let written = points::reach("mark.write")
        .and_then(|()| durable::write(path, &bytes_of(number), Access::Private));
    written.map_err(|source| io_error("write", path, source))
}

fn bytes_of(number: u64) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..16].copy_from_slice(&number.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..16]);
    bytes[16..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn number_in(bytes: &[u8]) -> Option<u64> {
    let number = u64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?);
    (bytes == bytes_of(number)).then_some(number)
}

/// The mark of the store in `dir`, where it does not say what was written: for a check. A start writes it anew.
pub fn damaged_mark(dir: &Path) -> Result<Option<PathBuf>> {
    let path = dir.join(NAME);
    match fs::read(&path) {
        Ok(bytes) => Ok(number_in(&bytes).is_none().then_some(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(io_error("read", &path, source)),
    }
}

/// A journal that ends too early.
pub(super) fn ends_early(journal: &Path, end: u64, durable: u64) -> Error {
    Error::Damaged {
        path: journal.to_owned(),
        why: format!("it ends at commit {end}, but commit {durable} was durable"),
    }
}
