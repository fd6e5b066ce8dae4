//! Compaction of a head that does not run.

use anyhow::Context;
use orchestra_config::StateDir;

use crate::{
    blobs::Blobs,
    lock::{self, Lock},
    progress::Progress,
    store,
};

pub use crate::store::Compacted;

/// Why nothing was compacted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no head.
    #[error("there is no head in `{0}`")]
    Nothing(std::path::PathBuf),
    /// A head runs there.
    #[error(transparent)]
    Running(#[from] lock::Error),
    /// Something else failed.
    #[error(transparent)]
    Failed(#[from] anyhow::Error),
}

/// Writes the store of a state directory anew, without the room of rows that are gone. Blocks for
/// as long as it takes; given up by `progress`, it changes nothing.
pub fn compact(state: &StateDir, progress: &Progress) -> Result<Compacted, Error> {
    let dir = state.head();
    let db = dir.join("db");
    if !db.is_dir() && !store::was_made(&db).context("failed to look for the store")? {
        return Err(Error::Nothing(dir));
    }
    let _lock = Lock::take(&dir)?;
    let blobs = Blobs::open(&dir.join("blobs")).context("failed to open the stored files")?;
    let done = store::compact(&db, blobs, progress);
    Ok(done.context("failed to write the store anew")?)
}
