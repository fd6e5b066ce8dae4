//! The mark of a `ctl stop` that is at work: it ends one process after the other, and who would start
//! something meanwhile waits until it is done.

use std::{
    fs::File,
    io,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use orchestra_config::{StateDir, durable};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

/// How long a look at the mark may keep it from being set.
const PATIENCE: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_millis(20);

/// Set for as long as it lives. Several stops may be at work.
#[derive(Debug)]
pub struct AtWork(#[expect(dead_code, reason = "the lock is held while the file is open")] File);

/// Sets the mark. Without a state directory or the right to write there, nothing is marked: a stop does
/// its work all the same.
pub fn set(state: &StateDir) -> Option<AtWork> {
    let file = durable::create_private(&path(state)).ok()?;
    let give_up = Instant::now() + PATIENCE;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => return Some(AtWork(file)),
            Err(Errno::WOULDBLOCK) if Instant::now() < give_up => thread::sleep(RETRY),
            Err(_) => return None,
        }
    }
}

/// Whether a `ctl stop` is at work.
pub fn is_set(state: &StateDir) -> io::Result<bool> {
    let file = match File::open(path(state)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(false),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

fn path(state: &StateDir) -> PathBuf {
    state.path().join("stop.lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_stands_until_the_last_stop_is_done() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path());
        assert!(!is_set(&state).unwrap());
        let (first, second) = (set(&state), set(&state));
        assert!(first.is_some() && second.is_some() && is_set(&state).unwrap());
        drop(first);
        assert!(is_set(&state).unwrap());
        drop(second);
        assert!(!is_set(&state).unwrap());
        assert!(set(&StateDir::new(dir.path().join("none"))).is_none());
    }
}
