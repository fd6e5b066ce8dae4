//! Stored bytes, named by their SHA-256: artifacts, bundles, context files, and rows that are too
//! large for the database.
//!
//! ```text
//! blobs/tmp/<number>      being written, or cut and waiting for the rest
//! blobs/ab/cdef…          complete: hash checked, file and directory fsynced
//! ```
//!
//! A name appears only after its bytes are durable and their hash is right. Sync code: callers on
//! async threads use `spawn_blocking`.

mod error;
mod partial;
mod read;
mod sweep;
mod write;
mod writeback;

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, atomic::AtomicU64},
};

use orchestra_config::durable;
use orchestra_types::Digest;

pub use error::Error;
pub use read::Reader;
pub use sweep::Stored;
pub use write::Writer;

/// The directory of stored bytes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Blobs {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    next_temp: AtomicU64,
    /// Held while a name appears, is renewed or goes.
    names: Mutex<()>,
    partials: Mutex<partial::Partials>,
}

impl Blobs {
    /// Opens the directory, and makes it when it is not there. What an earlier process left
    /// half-written is removed: nobody was told that it is stored.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let temp = root.join("tmp");
        let prepare = || {
            durable::create_private_dir(&temp)?;
            fs::read_dir(&temp)?.try_for_each(|entry| fs::remove_file(entry?.path()))?;
            File::open(root)?.sync_all()
        };
        prepare().map_err(|source| Error::io("open", root, source))?;
        let inner = Inner {
            root: root.to_owned(),
            next_temp: AtomicU64::new(0),
            names: Mutex::new(()),
            partials: Mutex::default(),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Whether these bytes are stored. Who asks is about to refer to them: from here on they count
    /// as just stored (see `sweep`).
    #[must_use]
    pub fn has(&self, digest: &Digest) -> bool {
        self.renew(&self.path(digest))
    }

    /// Whether these bytes are certainly not stored; false as well where the disk does not say.
    #[must_use]
    pub fn lacks(&self, digest: &Digest) -> bool {
        let looked = fs::symlink_metadata(self.path(digest));
        looked.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }

    /// Where these bytes lie, if they are stored.
    #[must_use]
    pub fn path(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        let (fan, rest) = name.split_at(2);
        self.inner.root.join(fan).join(rest)
    }

    fn temp_path(&self, number: u64) -> PathBuf {
        self.inner.root.join("tmp").join(number.to_string())
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    crate::points::reach("blob.sync-directory")?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests;
