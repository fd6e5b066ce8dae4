//! The removal of one thing, unless somebody has begun to use it.

use std::{io, time::Duration};

use orchestra_repo::Cache;

use super::plan::{Item, Kind};
use crate::{blobs, disk};

/// Whether it is gone; false when it is in use again.
pub fn remove(item: &Item) -> io::Result<bool> {
    match item.kind {
        Kind::BuildOutput | Kind::Aside => disk::remove_dir(&item.path).map(|()| true),
        Kind::Bundle => blobs::remove_unused(&item.path, item.idle),
        Kind::Spare => {
            let repository = item.path.ancestors().nth(2).unwrap_or(&item.path);
            Cache::remove_spare(repository).map_err(io::Error::other)
        }
        Kind::Repository | Kind::Damaged => {
            // Whoever opens it writes down when: it was longer ago than the survey.
            let idle = item.idle.saturating_sub(Duration::from_secs(1));
            Cache::remove_unused(&item.path, idle).map_err(io::Error::other)
        }
    }
}
