//! Whether somebody runs an attempt, for who is not its worker.

use std::{io, path::Path};

use super::files::{self, EXIT, RUNNING, Running};

/// Whether the CLI of an attempt whose supervisor has the directory `dir` runs, or is about to be started.
pub fn is_running(dir: &Path) -> io::Result<bool> {
    if dir.join(EXIT).exists() {
        return Ok(false);
    }
    let running: Option<Running> = files::read_json(dir, RUNNING)?;
    Ok(running.is_some_and(|running| running.cli.unwrap_or(running.supervisor).is_alive()))
}
