//! Whether attempts run, whoever looks after them: also those that go on without a worker.

use std::{fs, io, path::Path};

use orchestra_types::AttemptId;

use super::files::Files;
use crate::{identity::Home, process};

/// How many attempts run, or are ended by their supervisors, in `worker`, a worker's directory (`STATE/worker`), whether or not a worker does.
/// One that cannot be read is passed over.
pub fn running(worker: &Path) -> io::Result<usize> {
    let entries = match fs::read_dir(Home::attempts_in(worker)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let left = |dir: &Path| process::is_left(&Files::process_in(dir)).unwrap_or(false);
    let running = entries.flatten().filter(|entry| left(&entry.path()));
    Ok(running.count())
}

/// Whether the CLI of one of a worker's attempts runs; `attempts` is the directory of all. False where that
/// cannot be read.
pub fn is_running(attempts: &Path, attempt: AttemptId) -> bool {
    let dir = attempts.join(attempt.to_string());
    process::is_running(&Files::process_in(&dir)).unwrap_or(false)
}
