//! A worker's copy of a project: one bare repository that attempts borrow objects from.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::{
    error::{Error, IoContext, Result},
    generation,
    git::Git,
    lock::{self, Lock},
    quarantine::{Format, fetch, has_commit, init_bare},
    temporary::make_private,
};

/// There as soon as the repository is whole; written to whenever it is opened.
const READY: &str = "orchestra-ready";
const LOCK: &str = "orchestra.lock";

/// A worker's bare repository of one project.
#[derive(Clone, Debug)]
pub struct Cache {
    /// Where the first one of the project is or was.
    first: PathBuf,
    /// Where this one is.
    dir: PathBuf,
    git: Git,
    format: Format,
}

impl Cache {
    /// Opens the project's repository at `first`, or the one that took its place, making it when it is new.
    /// `commit` is any commit of the project; its form says how objects are named.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(first: &Path, commit: &str) -> Result<Self> {
        crate::git::check_commit(commit)?;
        let first = std::path::absolute(first).at("find", first)?;
        let all = first.parent().unwrap_or(&first);
        make_private(all)?;
        match Self::open_newest(&first, commit) {
            // Something is there that is no repository and cannot become one.
            Err((Some(dir), error)) if error.may_be_damage() => {
                generation::make_next(&first, &dir)?;
                Self::open_newest(&first, commit).map_err(|(_, error)| error)
            }
            opened => opened.map_err(|(_, error)| error),
        }
    }

    /// An error comes with the directory that could not be opened.
    fn open_newest(first: &Path, commit: &str) -> Result<Self, (Option<PathBuf>, Error)> {
        let newest = || generation::newest(first).map_err(|error| (None, error));
        let mut dir = newest()?;
        loop {
            let cache = Self {
                git: Git::private(&dir),
                format: Format::of(commit),
                first: first.to_owned(),
                dir,
            };
            let failed = |error| (Some(cache.dir.clone()), error);
            make_private(&cache.dir).map_err(failed)?;
            let _lock = cache.lock().map_err(failed)?;
            dir = newest()?;
            if dir == cache.dir {
                cache.make_ready().map_err(failed)?;
                return Ok(cache);
            }
        }
    }

    fn make_ready(&self) -> Result<()> {
        let ready = self.ready();
        if !ready.exists() {
            init_bare(&self.dir, "orchestra/none", self.format, &[])?;
            fs::write(&ready, b"").at("write", &ready)?;
        }
        let used = File::options().write(true).open(&ready);
        used.and_then(|file| file.set_modified(SystemTime::now()))
            .at("touch", ready)
    }

    /// Removes the repository at `dir` if nobody uses it now nor opened it within `idle`. Whoever borrows
    /// objects from it must not be there any more. Whether it is gone.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn remove_unused(dir: &Path, idle: Duration) -> Result<bool> {
        let Some(_lock) = lock::try_exclusive(&dir.join(LOCK))? else {
            return Ok(false);
        };
        let ready = dir.join(READY);
        let opened = fs::metadata(&ready).and_then(|meta| meta.modified());
        if opened.is_ok_and(|at| at.elapsed().unwrap_or_default() < idle) {
            return Ok(false);
        }
        // IMPORTANT: first, so that what is removed in part is never taken for a repository.
        match fs::remove_file(&ready) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed.at("remove", &ready)?,
        }
        fs::remove_dir_all(dir).at("remove", dir)?;
        Ok(true)
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
    pub fn fetch_bundles(&self, bundles: &[impl AsRef<Path>], commit: &str) -> Result<()> {
        let _lock = self.lock()?;
        for bundle in bundles {
            fetch(
                &self.git,
                bundle.as_ref(),
                "refs/*",
                "refs/cache/incoming/*",
            )?;
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

    fn ready(&self) -> PathBuf {
        self.dir.join(READY)
    }

    /// Where the first one of its project is or was.
    pub(crate) fn first(&self) -> &Path {
        &self.first
    }

    /// git on it.
    pub(crate) fn git(&self) -> &Git {
        &self.git
    }

    pub(crate) fn objects(&self) -> PathBuf {
        self.dir.join("objects")
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Waits for the other attempts of this project; given back when the lock is dropped.
    pub(crate) fn lock(&self) -> Result<Lock> {
        lock::exclusive(&self.dir.join(LOCK))
    }
}
