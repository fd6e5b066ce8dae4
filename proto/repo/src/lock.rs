//! A lock between processes, held as long as its file is open.

use std::{
    fs::{File, OpenOptions},
    path::Path,
};

use rustix::fs::{FlockOperation, flock};

use crate::error::{IoContext, Result};

/// Waits until nobody else holds the lock file at `path`.
pub(crate) fn exclusive(path: &Path) -> Result<File> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .at("open", path)?;
    flock(&file, FlockOperation::LockExclusive).at("lock", path)?;
    Ok(file)
}
