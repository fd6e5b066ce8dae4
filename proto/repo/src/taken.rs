//! Which bundles a cache has taken, so that they are not fetched again only because a later one builds on them.

use std::{fs, io, path::PathBuf};

use orchestra_types::Digest;

use crate::{
    cache::Cache,
    error::{IoContext, Result},
};

/// Holds an empty file for each bundle, by its hash.
const TAKEN: &str = "orchestra-bundles";

impl Cache {
    /// Those of these bundles that it has not taken.
    #[must_use]
    pub fn not_taken(&self, bundles: &[Digest]) -> Vec<Digest> {
        let taken = |bundle: &Digest| self.taken().join(bundle.to_string()).exists();
        bundles.iter().copied().filter(|b| !taken(b)).collect()
    }

    /// Notes that it has taken these.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn note_taken(&self, bundles: &[Digest]) -> Result<()> {
        let dir = self.taken();
        fs::create_dir_all(&dir).at("create the directory", &dir)?;
        for bundle in bundles {
            let note = dir.join(bundle.to_string());
            fs::write(&note, b"").at("write", &note)?;
        }
        Ok(())
    }

    /// Forgets what was noted, as something of it may be missing. Whether there was anything.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn forget_taken(&self) -> Result<bool> {
        match fs::remove_dir_all(self.taken()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            removed => removed.at("remove", self.taken()).map(|()| true),
        }
    }

    fn taken(&self) -> PathBuf {
        self.path().join(TAKEN)
    }
}
