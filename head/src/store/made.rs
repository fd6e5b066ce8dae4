//! That there was a store: a cluster whose store is gone must not begin an empty one under its old
//! name, with ids that mean other tasks to people and to workers.
//!
//! The file lies beside the store's directory, so that it stays when that is lost. It is made when a
//! store was made or opened, and never removed.

use std::path::{Path, PathBuf};

use orchestra_config::durable::{self, Access};

use super::{
    Error, Result,
    error::{io_error, is_there},
};
use crate::points;

const EXTENSION: &str = "made";
const TEXT: &[u8] =
    b"There was a store beside this file. While this file is here, the head makes no new one.\n";

/// Whether there was a store in `path`, whether or not it is still there.
pub fn was_made(path: &Path) -> Result<bool> {
    is_there(&file(path))
}

/// Refuses a store that is about to be made in the place of one that is gone.
pub(super) fn refuse_second(path: &Path) -> Result<()> {
    match was_made(path)? {
        true => Err(Error::Gone {
            path: path.to_owned(),
        }),
        false => Ok(()),
    }
}

/// Refuses a store that has nothing in it any more: sled takes a database for a new one when it
/// cannot read how it begins.
pub(super) fn refuse_empty(path: &Path) -> Result<()> {
    match was_made(path)? {
        true => Err(Error::Damaged {
            path: path.to_owned(),
            why: "it has no rows, and this cluster is not new".to_owned(),
        }),
        false => Ok(()),
    }
}

/// Notes that there is a store. A full disk only puts that off to the next start.
pub(super) fn note(path: &Path) -> Result<()> {
    if was_made(path)? {
        return Ok(());
    }
    let file = file(path);
    let noted =
        points::reach("store.made").and_then(|()| durable::write(&file, TEXT, Access::Private));
    match noted.map_err(|source| io_error("write", &file, source)) {
        Err(error) if error.is_full() => {
            tracing::warn!("no room to note that there is a store");
            Ok(())
        }
        noted => noted,
    }
}

fn file(path: &Path) -> PathBuf {
    path.with_extension(EXTENSION)
}
