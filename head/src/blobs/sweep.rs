//! Removing what nobody refers to.
//!
//! Bytes are stored before anything refers to them, so a name that nobody knows is kept for a
//! while. Its age is the file's time of modification, which is renewed whenever somebody asks
//! whether the bytes are here in order to refer to them.

use std::{
    fs::{self, File},
    io,
    path::Path,
    sync::PoisonError,
    time::{Duration, SystemTime},
};

use orchestra_types::Digest;

use super::{Blobs, Error};

/// A file younger than this is not renewed: to write its time each time would cost more.
const RENEW_AFTER: Duration = Duration::from_secs(60);

/// A stored file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its name.
    pub digest: Digest,
    /// How many bytes it has.
    pub size: u64,
    /// When it was stored, or last asked for.
    pub used: SystemTime,
}

impl Blobs {
    /// Everything that is stored, one directory of names at a time, in no order.
    pub fn stored(&self) -> Result<impl Iterator<Item = Result<Vec<Stored>, Error>>, Error> {
        let failed = |source| Error::io("list", &self.inner.root, source);
        let dirs = fs::read_dir(&self.inner.root).map_err(failed)?;
        Ok(dirs.filter_map(|dir| {
            let dir = match dir {
                Ok(dir) => dir.path(),
                Err(source) => return Some(Err(Error::io("list", &self.inner.root, source))),
            };
            let fan = dir.file_name()?.to_str()?.to_owned();
            (fan.len() == 2)
                .then(|| stored_in(&dir, &fan).map_err(|source| Error::io("list", &dir, source)))
        }))
    }

    /// Removes stored bytes that nobody has asked for since `before`. False: they stay.
    pub fn remove_unused(&self, digest: &Digest, before: SystemTime) -> Result<bool, Error> {
        let path = self.path(digest);
        let _names = self.names();
        let removed = match fs::metadata(&path).and_then(|meta| meta.modified()) {
            Ok(used) if used < before => fs::remove_file(&path).map(|()| true),
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        };
        removed.map_err(|source| Error::io("remove", &path, source))
    }

    /// Whether there is such a file. It counts as used from here on.
    pub(super) fn renew(&self, path: &Path) -> bool {
        let _names = self.names();
        let Ok(meta) = fs::metadata(path) else {
            return false;
        };
        let now = SystemTime::now();
        let age = meta
            .modified()
            .ok()
            .and_then(|used| now.duration_since(used).ok());
        if age.is_none_or(|age| age > RENEW_AFTER) {
            let renewed = File::open(path).and_then(|file| file.set_modified(now));
            if let Err(error) = renewed {
                // What cannot be renewed may be removed while somebody relies on it.
                tracing::warn!(path = %path.display(), %error, "stored bytes cannot be renewed");
                return false;
            }
        }
        meta.is_file()
    }

    /// Held while a name appears, is renewed or goes.
    pub(super) fn names(&self) -> std::sync::MutexGuard<'_, ()> {
        self.inner
            .names
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn stored_in(dir: &Path, fan: &str) -> io::Result<Vec<Stored>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(digest) = name
            .to_str()
            .and_then(|rest| format!("{fan}{rest}").parse().ok())
        else {
            continue; // Not ours.
        };
        let meta = entry.metadata()?;
        all.push(Stored {
            digest,
            size: meta.len(),
            used: meta.modified()?,
        });
    }
    Ok(all)
}
