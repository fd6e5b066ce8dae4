//! One head for each state directory.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// The lock of a killed head can linger for a moment.
const PATIENCE: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(50);

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another head has it.
    #[error("another head runs in `{dir}` (process {pid}); `ctl stop` stops it")]
    Held {
        /// The directory.
        dir: PathBuf,
        /// The other head, as it wrote itself down.
        pid: String,
    },
    /// The file cannot be used.
    #[error("failed to lock `{path}`")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Held until it is dropped, or the process ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of `dir`.
    pub fn take(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("lock");
        let failed = |source| Error::Io {
            path: path.clone(),
            source,
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.mode(0o600).open(&path).map_err(failed)?;
        if !try_until(&file, Instant::now() + PATIENCE).map_err(failed)? {
            let mut pid = String::new();
            file.read_to_string(&mut pid).map_err(failed)?;
            return Err(Error::Held {
                dir: dir.to_owned(),
                pid: pid.trim().to_owned(),
            });
        }
        note(&mut file).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

fn try_until(file: &File, until: Instant) -> io::Result<bool> {
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) if Instant::now() >= until => return Ok(false),
            Err(TryLockError::WouldBlock) => thread::sleep(RETRY),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

fn note(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_head_is_told_which_process_has_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::take(dir.path()).unwrap();
        let error = Lock::take(dir.path()).unwrap_err().to_string();
        assert!(error.contains(&std::process::id().to_string()), "{error}");
        drop(first);
        Lock::take(dir.path()).unwrap();
    }
}
