//! Files that only take up room, so that a little can be given back on a full disk. An agent that has filled
//! it could not even end: its last output and its end are written down before anything of it can go.
//!
//! Whoever needs the room removes one. What is missing is made again when the disk has room.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use orchestra_config::durable;

use crate::room::Room;

/// The last output of two streams and the records of an end take less.
const FILE_BYTES: u64 = 512 * 1024;
/// On a small disk a file is this part of it.
const DISK_PARTS: u64 = 200;
/// Each attempt may take one while it runs and one for its end.
const FILES_PER_SLOT: u32 = 2;
/// Most files: so many attempts hardly end at once.
const FILES_MAX: u32 = 32;

/// The files of one worker.
#[derive(Clone, Debug)]
pub struct Ballast {
    dir: PathBuf,
    files: u32,
}

impl Ballast {
    /// Those in `dir`, for a worker that runs so many agents at once.
    #[must_use]
    pub fn new(dir: PathBuf, slots: u32) -> Self {
        Self {
            dir,
            files: slots.saturating_mul(FILES_PER_SLOT).min(FILES_MAX),
        }
    }

    /// Makes what is missing when the disk has room. What cannot be made is only missed on a full disk.
    pub fn keep(&self) {
        if let Err(error) = self.make() {
            tracing::debug!(dir = %self.dir.display(), %error, "no ballast");
        }
    }

    fn make(&self) -> io::Result<()> {
        // One that a worker was killed over is empty, and gives nothing back.
        let is_there = |path: PathBuf| path.metadata().is_ok_and(|meta| meta.len() > 0);
        let missing = |number: &u32| !is_there(self.file(*number));
        let missing: Vec<u32> = (0..self.files).filter(missing).collect();
        if missing.is_empty() {
            return Ok(());
        }
        durable::create_private_dir(&self.dir)?;
        let room = Room::look(std::slice::from_ref(&self.dir));
        if room.lacking().is_some() {
            return Ok(());
        }
        let bytes = FILE_BYTES.min(room.total / DISK_PARTS);
        missing
            .into_iter()
            .try_for_each(|number| take_up(&self.file(number), bytes))
    }

    fn file(&self, number: u32) -> PathBuf {
        self.dir.join(number.to_string())
    }
}

/// Gives the room of one file back; whether there was one.
#[must_use]
pub fn release(dir: &Path) -> bool {
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    files
        .map(|file| file.path())
        .any(|path| fs::remove_file(path).is_ok())
}

fn take_up(path: &Path, bytes: u64) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).mode(0o600).open(path)?;
    let none = rustix::fs::FallocateFlags::empty();
    rustix::fs::fallocate(&file, none, 0, bytes).map_err(|error| {
        // A file without blocks would give nothing back.
        let _only_for_order = fs::remove_file(path);
        error.into()
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn each_release_gives_one_back_and_all_are_made_again() {
        let tmp = tempfile::tempdir().unwrap();
        let ballast = Ballast::new(tmp.path().join("ballast"), 1);
        assert!(!release(&ballast.dir), "it was never made");
        ballast.keep();
        let blocks = |number| ballast.file(number).metadata().unwrap().blocks() * 512;
        assert_eq!((blocks(0), blocks(1)), (FILE_BYTES, FILE_BYTES));
        assert!(release(&ballast.dir) && release(&ballast.dir));
        assert!(!release(&ballast.dir));
        fs::write(ballast.file(1), "").unwrap();
        ballast.keep();
        assert_eq!((blocks(0), blocks(1)), (FILE_BYTES, FILE_BYTES));
        assert!(!ballast.file(2).exists());
    }
}
