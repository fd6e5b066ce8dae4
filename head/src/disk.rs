//! Room on the disk that the head's state lies on.
//!
//! A full disk is no reason to lose anything, or to stop: while less than the reserve is free, what
//! would change something is refused or waits, reads go on, and the rest goes on by itself when
//! there is room again. A ballast file keeps the little that opening a database takes, or the end of a
//! chain of tasks.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Largest reserve that is chosen by itself; on a small disk it is a tenth of that.
const RESERVE_BYTES: u64 = 64 * 1024 * 1024;
/// Size of the ballast; on a small disk a fiftieth of that.
const BALLAST_BYTES: u64 = 8 * 1024 * 1024;
/// How long an answer is good for those who ask often.
const GOOD_FOR: Duration = Duration::from_millis(50);
/// How often those who wait for room look.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// There is too little room.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the head's disk is full: make {} MB free in `{}`; what was acknowledged is safe, and the head goes \
     on by itself when there is room; tasks can be cancelled meanwhile", needed.div_ceil(1_000_000), dir.display()
)]
pub struct Full {
    /// Where.
    pub dir: PathBuf,
    /// How many bytes more must be free.
    pub needed: u64,
}

/// A file system, watched. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Disk {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    /// Changes in tests only.
    reserve: AtomicU64,
    ballast: Ballast,
    seen: Mutex<Seen>,
    /// Whether what is small can be written on a full disk, too.
    for_little: AtomicBool,
}

#[derive(Debug, Default)]
struct Seen {
    at: Option<Instant>,
    full: bool,
    free: u64,
}

#[derive(Debug)]
struct Ballast {
    path: PathBuf,
    bytes: u64,
}

impl Disk {
    /// Watches the file system of `dir`. Without a `reserve` it is 64 MiB, or a tenth of a small
    /// disk. When next to nothing is free, the ballast goes, so that the database opens.
    #[must_use]
    pub fn watch(dir: &Path, reserve: Option<u64>) -> Self {
        let (total, free) = space(dir).unwrap_or((u64::MAX, u64::MAX));
        let ballast = Ballast {
            path: dir.join("ballast"),
            bytes: BALLAST_BYTES.min(total / 50),
        };
        if free < ballast.bytes {
            ballast.release();
        }
        let inner = Inner {
            dir: dir.to_owned(),
            reserve: reserve.unwrap_or(RESERVE_BYTES.min(total / 10)).into(),
            ballast,
            seen: Mutex::default(),
            for_little: AtomicBool::new(false),
        };
        let disk = Self {
            inner: Arc::new(inner),
        };
        if disk.look().is_ok() {
            disk.inner.ballast.keep(free);
        }
        disk
    }

    /// Whether there is room. Good for being asked often.
    pub fn room(&self) -> Result<(), Full> {
        self.room_for(0)
    }

    /// Whether there is room for so many bytes, and the reserve.
    pub fn room_for(&self, bytes: u64) -> Result<(), Full> {
        let seen = self.seen();
        let good = seen.at.is_some_and(|at| at.elapsed() < GOOD_FOR);
        let (full, free) = (seen.full, seen.free);
        drop(seen);
        if !good {
            self.look()?;
        } else if full {
            return Err(self.full(free, 0));
        }
        let free = self.seen().free;
        if free < self.reserve().saturating_add(bytes) {
            return Err(self.full(free, bytes));
        }
        Ok(())
    }

    /// Whether there is room for something small that matters the more when the disk is full: to end a task, or
    /// to hear that a worker's disk is full.
    pub fn room_for_little(&self) -> Result<(), Full> {
        match self.inner.for_little.load(Ordering::Relaxed) {
            true => Ok(()),
            false => self.room(),
        }
    }

    /// The store says whether it can write such without more of the disk.
    pub fn note_room_for_little(&self, is_there: bool) {
        self.inner.for_little.store(is_there, Ordering::Relaxed);
    }

    /// Whether there is room at this moment.
    pub fn look(&self) -> Result<(), Full> {
        let free = space(&self.inner.dir).map_or(u64::MAX, |(_, free)| free);
        let mut seen = self.seen();
        // What ends being full asks for a little more than what begins it: no to and fro.
        let limit = self.reserve() + u64::from(seen.full) * self.reserve() / 4;
        let full = free < limit;
        let was = std::mem::replace(&mut seen.full, full);
        seen.free = free;
        seen.at = Some(Instant::now());
        drop(seen);
        match (was, full) {
            (false, true) => tracing::warn!(free, "the disk is full: changes wait for room"),
            (true, false) => {
                tracing::info!(free, "there is room on the disk again");
                self.inner.ballast.keep(free);
            }
            (true, true) | (false, false) => {}
        }
        if full {
            return Err(self.full(free, 0));
        }
        Ok(())
    }

    /// Waits until there is room.
    pub async fn until_room(&self) {
        while self.room().is_err() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Gives the ballast's room to who needs it now.
    pub fn release_ballast(&self) {
        self.inner.ballast.release();
        // Whoever sees room next makes it anew.
        self.seen().full = true;
    }

    /// What is said when a write found no room.
    #[must_use]
    pub fn found_full(&self) -> Full {
        let mut seen = self.seen();
        seen.full = true;
        let free = seen.free;
        drop(seen);
        self.full(free, 0)
    }

    /// As if somebody filled the disk, or freed it.
    #[cfg(test)]
    pub fn set_reserve(&self, bytes: u64) {
        self.inner.reserve.store(bytes, Ordering::Relaxed);
        self.seen().at = None;
    }

    fn reserve(&self) -> u64 {
        self.inner.reserve.load(Ordering::Relaxed)
    }

    fn full(&self, free: u64, bytes: u64) -> Full {
        let wanted = self.reserve() + self.reserve() / 4 + bytes;
        Full {
            dir: self.inner.dir.clone(),
            needed: wanted.saturating_sub(free).max(1),
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        let seen = self.inner.seen.lock();
        // What is in it is whole at any time.
        seen.unwrap_or_else(|broken| broken.into_inner())
    }
}

impl Ballast {
    fn release(&self) {
        if fs::remove_file(&self.path).is_ok() {
            tracing::warn!("the ballast is released: the disk is full");
        }
    }

    /// Makes the file when there is more than enough room. One that cannot be made is only missed
    /// when the disk is full.
    fn keep(&self, free: u64) {
        if self.path.exists() || free < self.bytes.saturating_mul(8) {
            return;
        }
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600);
        let none = rustix::fs::FallocateFlags::empty();
        let made = file.open(&self.path).and_then(|file| {
            rustix::fs::fallocate(&file, none, 0, self.bytes).map_err(std::io::Error::from)
        });
        if let Err(error) = made {
            tracing::debug!(%error, "no ballast");
        }
    }
}

/// All bytes, and those that are free for us.
fn space(dir: &Path) -> std::io::Result<(u64, u64)> {
    let found = rustix::fs::statvfs(dir)?;
    let blocks = |count: u64| count.saturating_mul(found.f_frsize);
    Ok((blocks(found.f_blocks), blocks(found.f_bavail)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_that_cannot_be_met_is_a_full_disk_that_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::watch(dir.path(), Some(u64::MAX / 4));
        let text = disk.room().unwrap_err().to_string();
        assert!(text.contains("the head's disk is full: make "), "{text}");
        assert!(text.contains(dir.path().to_str().unwrap()), "{text}");
        let disk = Disk::watch(dir.path(), Some(0));
        assert_eq!(disk.room(), Ok(()));
        assert!(disk.room_for(u64::MAX / 4).is_err());
    }
}
