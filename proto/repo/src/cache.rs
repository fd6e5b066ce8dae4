//! A worker's copy of a project: one bare repository that attempts borrow objects from.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use crate::{
    error::{Error, IoContext, Result},
    git::Git,
    lock,
    quarantine::{Format, fetch, has_commit, init_bare},
};

/// A worker's bare repository of one project.
#[derive(Clone, Debug)]
pub struct Cache {
    dir: PathBuf,
    git: Git,
    format: Format,
}

impl Cache {
    /// Opens the repository at `dir`, making it when it is new. `commit` is any commit of the
    /// project; its form says how objects are named.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(dir: &Path, commit: &str) -> Result<Self> {
        crate::git::check_commit(commit)?;
        let dir = std::path::absolute(dir).at("find", dir)?;
        fs::create_dir_all(&dir).at("create the directory", &dir)?;
        let cache = Self {
            git: Git::private(&dir),
            format: Format::of(commit),
            dir,
        };
        let _lock = cache.lock()?;
        if !cache.dir.join("orchestra-ready").exists() {
            init_bare(&cache.dir, cache.format, &[])?;
            let ready = cache.dir.join("orchestra-ready");
            fs::write(&ready, b"").at("write", &ready)?;
        }
        Ok(cache)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Whether `commit` is there, so that nothing need be fetched.
    ///
    /// # Errors
    /// When `commit` is not a commit id, or git fails.
    pub fn has(&self, commit: &str) -> Result<bool> {
        has_commit(&self.git, commit)
    }

    /// Takes bundles in this order, the objects checked, and keeps what they carry. `commit` is
    /// what must be there afterwards.
    ///
    /// # Errors
    /// When a bundle is damaged, hostile, or builds on something that is missing.
    pub fn fetch_bundles(&self, bundles: &[PathBuf], commit: &str) -> Result<()> {
        let _lock = self.lock()?;
        for bundle in bundles {
            fetch(&self.git, bundle, "refs/*", "refs/cache/incoming/*")?;
        }
        if !self.has(commit)? {
            return Err(Error::MissingCommit {
                commit: commit.to_owned(),
                path: self.dir.clone(),
            });
        }
        self.git
            .output(&["update-ref", &format!("refs/cache/{commit}"), commit])
            .map(drop)
    }

    pub(crate) fn objects(&self) -> PathBuf {
        self.dir.join("objects")
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Waits for the other attempts of this project; given back when the file is closed.
    fn lock(&self) -> Result<File> {
        lock::exclusive(&self.dir.join("orchestra.lock"))
    }
}
