//! Where a backup is read from: a file, or what can be read but once.

use std::{
    fs::File,
    io::{self, Read, Seek},
    os::{fd::AsFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::Context;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::OFlags,
    io::Errno,
};

use super::Error;
use crate::progress::Progress;

/// How often who waits for a pipe looks whether anybody waits for it.
const LOOK_EVERY: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 250_000_000,
};

/// Where a backup comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// What is at a path, which may be a pipe.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

impl Input {
    /// The backup in a file that can be read from its begin as often as needed. What comes through a
    /// pipe is written to one without a name first, on the disk where `target` is or will be: it is
    /// gone with this process, however that ends.
    pub(super) fn open(&self, target: &Path, progress: &Progress) -> Result<File, Error> {
        let file = self.opened()?;
        let kind = file.metadata().context("failed to look at the backup")?;
        if kind.is_dir() {
            return Err(Error::foreign("it is a directory"));
        }
        if kind.is_file() {
            return Ok(file);
        }
        Ok(spooled(file, existing(target), progress)?)
    }

    fn opened(&self) -> Result<File, Error> {
        match self {
            Self::File(path) => match open(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    Err(Error::NoFile { file: path.clone() })
                }
                file => Ok(file.with_context(|| format!("failed to open `{}`", path.display()))?),
            },
            Self::Stdin => {
                let stdin = io::stdin().as_fd().try_clone_to_owned();
                Ok(stdin.context("failed to open standard input")?.into())
            }
        }
    }
}

/// A pipe is opened although nobody writes to it yet: else a thread could be lost to it.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    File::options().read(true).custom_flags(flags).open(path)
}

/// The directory nearest to `target` that is there.
fn existing(target: &Path) -> &Path {
    let above = target.ancestors().find(|dir| dir.is_dir());
    above.unwrap_or(Path::new("."))
}

fn spooled(from: File, dir: &Path, progress: &Progress) -> anyhow::Result<File> {
    let failed = || {
        let dir = dir.display();
        format!(
            "failed to keep what comes through the pipe in a file in `{dir}` until all of it is there"
        )
    };
    let mut spool = tempfile::tempfile_in(dir).with_context(failed)?;
    let from = Piped { from, progress };
    io::copy(&mut progress.counting(from), &mut spool).with_context(failed)?;
    spool.rewind().with_context(failed)?;
    Ok(spool)
}

/// Waits for what comes, as long as somebody waits for it.
struct Piped<'a> {
    from: File,
    progress: &'a Progress,
}

impl Read for Piped<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.progress.passed(0).map_err(io::Error::other)?;
            let mut wanted = [PollFd::new(&self.from, PollFlags::IN)];
            match poll(&mut wanted, Some(&LOOK_EVERY)) {
                Ok(0) | Err(Errno::INTR) => continue,
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
            match self.from.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }
}
