//! A lock between processes.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use rustix::{
    fs::{FlockOperation, Mode, OFlags, flock},
    io::Errno,
};

use crate::error::{IoContext, Result};

/// A lock that is held until this is dropped.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Drop for Lock {
    /// IMPORTANT: not by closing alone. A process that another thread has just forked holds the file
    /// open too, until it becomes another program.
    fn drop(&mut self) {
        // It can only fail for a file that is no lock.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

/// The lock, unless somebody else holds it.
pub(crate) fn try_exclusive(path: &Path) -> Result<Option<Lock>> {
    try_lock(open(path)?, path)
}

fn try_lock(file: File, path: &Path) -> Result<Option<Lock>> {
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(Lock(file))),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error).at("lock", path),
    }
}

/// The lock of a directory itself, unless somebody else holds it.
pub(crate) fn try_directory(path: &Path) -> Result<Option<Lock>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = rustix::fs::open(path, flags, Mode::empty()).at("open", path)?;
    try_lock(File::from(dir), path)
}

/// Waits until nobody else holds the lock file at `path`.
pub(crate) fn exclusive(path: &Path) -> Result<Lock> {
    let file = open(path)?;
    flock(&file, FlockOperation::LockExclusive).at("lock", path)?;
    Ok(Lock(file))
}

fn open(path: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .at("open", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_free_although_another_process_still_has_the_file_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = try_exclusive(&path).unwrap().unwrap();
        assert!(try_exclusive(&path).unwrap().is_none());
        // As in a child between its fork and its program.
        let inherited = held.0.try_clone().unwrap();
        drop(held);
        assert!(try_exclusive(&path).unwrap().is_some());
        drop(inherited);
    }
}
