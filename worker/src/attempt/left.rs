//! Attempts that run on without a worker.

use std::{fs, io, path::Path};

use super::files::Files;
use crate::{identity::Home, process};

/// How many attempts run in `worker`, a worker's directory (`STATE/worker`), whether or not a worker does.
/// One that cannot be read is passed over.
pub fn running(worker: &Path) -> io::Result<usize> {
    let entries = match fs::read_dir(Home::attempts_in(worker)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let runs = |dir: &Path| process::is_running(&Files::process_in(dir)).unwrap_or(false);
    Ok(entries
        .flatten()
        .filter(|entry| runs(&entry.path()))
        .count())
}
