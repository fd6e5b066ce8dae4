//! A work tree made in advance: the next attempt of a project gets it by a rename, and git writes only
//! what differs.
//!
//! ```text
//! PROJECT/spares/lock
//!                making-…/            one that is being made
//!                ready/tree           the files
//!                      index          git's index of them
//!                      made           when the machine was started, and the commit; there as long
//!                                     as it is whole
//! ```
//!
//! It is only a way to be quick: whoever takes one has git look at every file of it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    cache::Cache,
    error::{IoContext, Result},
    git::check_commit,
    index, lock,
    spread::spread,
    temporary::private_in,
    workspace::{Workspace, keep_bytes},
};

/// An index below this size, some 500 files, is checked out faster than it is worth to keep.
const INDEX_BYTES_MIN: u64 = 40_000;
const SPARES: &str = "spares";
/// Files that were written before a loss of power may be empty.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

impl Workspace {
    /// Whether it has so many files that a spare is worth its disk space.
    #[must_use]
    pub fn is_large(&self) -> bool {
        fs::metadata(self.index()).is_ok_and(|meta| meta.len() >= INDEX_BYTES_MIN)
    }
}

impl Cache {
    /// Makes a work tree of `commit` for the next attempt, unless one is there or somebody else is
    /// about to make one. Takes as long as a checkout.
    ///
    /// # Errors
    /// When git or the disk fails.
    pub fn make_spare(&self, commit: &str) -> Result<()> {
        check_commit(commit)?;
        let spares = self.spares();
        fs::create_dir_all(&spares).at("create the directory", &spares)?;
        let Some(_lock) = lock::try_exclusive(&spares.join("lock"))? else {
            return Ok(());
        };
        if ready(&spares).join("made").exists() {
            return Ok(());
        }
        remove_rests(&spares)?;
        // Each is made while the files of the last one, or of an attempt, are being removed.
        spread(&spares);
        let making = private_in("making-", &spares)?;
        let (tree, index) = (making.path().join("tree"), making.path().join("index"));
        fs::create_dir(&tree).at("create the directory", &tree)?;
        keep_bytes(self.path())?;
        let git = self.git().clone().env("GIT_INDEX_FILE", &index);
        let git = git.work_tree(&tree).option("core.bare=false");
        git.output(&["read-tree", "--reset", "-u", commit])?;
        index::wait_for_next_second(&index)?;
        index::settle(&git, commit)?;
        let made = making.path().join("made");
        fs::write(&made, [boot_id(), commit.into()].concat()).at("write", &made)?;
        let to = ready(&spares);
        fs::rename(making.keep(), &to).at("rename a directory to", &to)
    }

    /// Moves the spare into `dir`, which is empty, and its index to `index`, which is not there. Gives
    /// the commit that it was made of; none when there is none that can be moved, and all is as it was.
    pub(crate) fn take_spare(&self, dir: &Path, index: &Path) -> Result<Option<String>> {
        let spares = self.spares();
        let ready = ready(&spares);
        let made = ready.join("made");
        if !made.exists() {
            return Ok(None);
        }
        let Some(_lock) = lock::try_exclusive(&spares.join("lock"))? else {
            return Ok(None);
        };
        let of = fs::read(&made).ok().and_then(|made| {
            let commit = made.strip_prefix(&*boot_id())?;
            String::from_utf8(commit.to_vec()).ok()
        });
        // IMPORTANT: first, so that one that was taken in part is never taken again.
        fs::remove_file(&made).at("remove", &made)?;
        let taken = of.is_some() && fs::rename(ready.join("index"), index).is_ok();
        let taken = taken
            && match fs::rename(ready.join("tree"), dir) {
                Ok(()) => true,
                // Another file system, most likely.
                Err(_) => {
                    fs::remove_file(index).at("remove", index)?;
                    false
                }
            };
        remove_rests(&spares)?;
        Ok(of.filter(|_| taken))
    }

    /// Removes the spare of the repository at `dir`, unless somebody is about to take or make one.
    /// Whether it is gone.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn remove_spare(dir: &Path) -> Result<bool> {
        let spares = dir.join(SPARES);
        let Some(_lock) = lock::try_exclusive(&spares.join("lock"))? else {
            return Ok(false);
        };
        let made = ready(&spares).join("made");
        match fs::remove_file(&made) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).at("remove", made),
            Ok(()) | Err(_) => remove_rests(&spares).map(|()| true),
        }
    }

    fn spares(&self) -> PathBuf {
        self.path().join(SPARES)
    }
}

fn ready(spares: &Path) -> PathBuf {
    spares.join("ready")
}

/// What is left of spares that were taken or not finished. Call it with the lock.
fn remove_rests(spares: &Path) -> Result<()> {
    for entry in fs::read_dir(spares).at("read the directory", spares)? {
        let path = entry.at("read the directory", spares)?.path();
        if path.is_dir() {
            match fs::remove_dir_all(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).at("remove", path);
                }
                Ok(()) | Err(_) => {}
            }
        }
    }
    Ok(())
}

/// Which start of the machine this is; empty where the system does not say.
fn boot_id() -> Vec<u8> {
    fs::read(BOOT_ID).unwrap_or_default()
}
