//! What the head and the worker write down about themselves while they serve: `head.json` and
//! `worker.json`.

use std::{
    fs::{self, File},
    io,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use orchestra_config::StateDir;
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use serde::Deserialize;

use super::process::Process;
use crate::error::{Error, OrFailed, Result};

/// How long the lock of a worker that ends may linger.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// The part of both files that ctl needs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Record {
    /// The process.
    pub pid: u32,
    /// When it started, in clock ticks after boot.
    pub start_time: u64,
    /// The worker's id; the head has none.
    #[serde(default)]
    pub id: String,
    /// How long the worker's agents may take to end when it is stopped; the head has none.
    #[serde(default)]
    pub stop_within_ms: Option<u64>,
    /// Whether the worker is ending: it takes nothing new. The head does not say so here.
    #[serde(default)]
    pub ending: bool,
}

/// The head's process, if it lives and serves.
pub fn head(state: &StateDir) -> Result<Option<Process>> {
    process(&state.head().join("head.json"))
}

/// Whether a head was killed or crashed: one that ends as it should takes its record away.
pub fn has_head_died(state: &StateDir) -> bool {
    let left = state.head().join("head.json").exists();
    left && !matches!(head(state), Ok(Some(_)))
}

/// The local worker's process, if it lives.
pub fn worker(state: &StateDir) -> Result<Option<Process>> {
    process(&state.worker().join("worker.json"))
}

/// What the local worker says about itself, alive or not.
pub fn worker_record(state: &StateDir) -> Result<Option<Record>> {
    read(&state.worker().join("worker.json"))
}

/// Whether a worker runs that has not written its record: its disk was full when it started. The lock
/// of one that was killed goes with the last of its threads.
pub fn is_worker_hidden(state: &StateDir) -> bool {
    let Ok(lock) = File::open(state.worker().join("lock")) else {
        return false;
    };
    let give_up = Instant::now() + LOCK_PATIENCE;
    loop {
        match flock(&lock, FlockOperation::NonBlockingLockShared) {
            Err(Errno::WOULDBLOCK) if Instant::now() < give_up => thread::sleep(LOCK_RETRY),
            locked => return locked == Err(Errno::WOULDBLOCK),
        }
    }
}

fn process(path: &Path) -> Result<Option<Process>> {
    let Some(record) = read(path)? else {
        return Ok(None);
    };
    Process::find(record.pid, record.start_time)
        .or_failed(|| format!("failed to look for process {}", record.pid))
}

fn read(path: &Path) -> Result<Option<Record>> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(unreadable(path, e)),
    };
    serde_json::from_slice(&text)
        .map(Some)
        .or_failed(|| format!("`{}` is not what a head or worker writes", path.display()))
}

/// A file of the state directory that is there and cannot be read.
pub fn unreadable(path: &Path, error: io::Error) -> Error {
    let is_closed = error.kind() == io::ErrorKind::PermissionDenied;
    let failed = Error::failed(format!("failed to read `{}`", path.display())).because(error);
    match is_closed {
        true => failed.hint(
            "you may not read it; where this state directory is another user's, run `ctl` as that user, or copy its \
             `client` directory into a state directory of your own and name that with `--state DIR`",
        ),
        false => failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::again::Again;

    #[test]
    fn another_users_directory_is_told_as_that() {
        let of = |kind| unreadable(Path::new("/s/client/endpoint"), io::Error::from(kind));
        let closed = of(io::ErrorKind::PermissionDenied);
        let next = closed.next_step(Again::default()).unwrap();
        assert!(
            next.contains("another user's") && next.contains("--state DIR"),
            "{next}"
        );
        assert_eq!(
            of(io::ErrorKind::IsADirectory).next_step(Again::default()),
            None
        );
    }
}
