//! Whether somebody runs an attempt, for who is not its worker.

use std::{io, path::Path};

use super::files::{self, EXIT, RUNNING, Running};

/// Whether the process of an attempt whose supervisor has the directory `dir` runs, or its supervisor does.
pub fn is_running(dir: &Path) -> io::Result<bool> {
    if dir.join(EXIT).exists() {
        return Ok(false);
    }
    let running: Option<Running> = files::read_json(dir, RUNNING)?;
    Ok(running.is_some_and(|running| {
        let cli = running.cli.as_ref().is_some_and(|cli| cli.is_alive());
        cli || running.supervisor.is_alive()
    }))
}
