//! What git remembers of an agent's files: the index in the worker's own git directory, where no agent
//! can write. A file is read again only when its times, size, inode or mode are other than they were.
//!
//! Git compares whole seconds, and reads each time what was written in the same second as the index.
//! After a checkout that may be all there is; an index that is *settled* was written in a later second.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tempfile::TempDir;

use crate::{
    checkout::Checkout,
    error::{IoContext, Result},
    git::Git,
    temporary::private_in,
    workspace::Workspace,
};

/// Names the commit that the index is of, once it is settled.
const SETTLED: &str = "orchestra-settled";
/// By how much the clock of a file system may be behind.
const CLOCK_STEP: Duration = Duration::from_millis(20);

/// A copy that may be written to; it goes with this value.
pub(crate) struct Copy {
    dir: TempDir,
}

impl Copy {
    /// Copies the index of `workspace`.
    pub fn of(workspace: &Workspace) -> Result<Self> {
        let own = &workspace.git_dir;
        let dir = private_in("orchestra-index-", own)?;
        let copy = Self { dir };
        copy_with_time(&workspace.index(), &copy.path())?;
        Ok(copy)
    }

    /// A directory that goes with the copy, too.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn path(&self) -> PathBuf {
        self.dir().join("index")
    }

    /// The same git on this index.
    pub fn git(&self, git: Git) -> Git {
        git.env("GIT_INDEX_FILE", self.path())
    }
}

impl Workspace {
    /// Makes looks quick: git need not read again what nobody changes. It may be called at any time
    /// while nothing else is done to the workspace, and does most when the second in which it was made
    /// is over.
    ///
    /// # Errors
    /// When git or the disk fails; then all is as it was.
    pub fn settle(&self) -> Result<()> {
        if self.is_settled_on(&self.base) {
            return Ok(());
        }
        let copy = Copy::of(self)?;
        settle(&copy.git(self.git()), &self.base)?;
        let index = self.index();
        fs::rename(copy.path(), &index).at("rename a file to", &index)?;
        self.mark_settled()
    }

    /// Whether the index is settled, and that of `commit`.
    pub(crate) fn is_settled_on(&self, commit: &str) -> bool {
        fs::read(self.settled()).is_ok_and(|settled| settled == commit.as_bytes())
    }

    pub(crate) fn mark_settled(&self) -> Result<()> {
        let settled = self.settled();
        fs::write(&settled, &self.base).at("write", &settled)
    }

    /// Before the index becomes that of something else.
    pub(crate) fn unmark_settled(&self) -> Result<()> {
        let settled = self.settled();
        match fs::remove_file(&settled) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).at("remove", &settled)
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    pub(crate) fn index(&self) -> PathBuf {
        self.git_dir.join("index")
    }

    fn settled(&self) -> PathBuf {
        self.git_dir.join(SETTLED)
    }
}

/// Writes git's index anew as that of `commit`. What is in doubt is read, once.
pub(crate) fn settle(git: &Git, commit: &str) -> Result<()> {
    git.output(&["read-tree", "--reset", commit]).map(drop)
}

/// Brings the paths on standard input into an index as they are in the work tree.
pub(crate) const ADD_NAMED: [&str; 6] = [
    "update-index",
    "-z",
    "--add",
    "--remove",
    "--replace",
    "--stdin",
];

/// Waits until the second is over in which `index` was written.
pub(crate) fn wait_for_next_second(index: &Path) -> Result<()> {
    let written = fs::metadata(index).and_then(|meta| meta.modified());
    let since_epoch = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let written = since_epoch(written.at("look at", index)?);
    let next = Duration::from_secs(written.as_secs() + 1) + CLOCK_STEP;
    let left = next.saturating_sub(since_epoch(SystemTime::now()));
    // A clock that was set back is no reason to wait for it.
    thread::sleep(left.min(Duration::from_secs(1) + CLOCK_STEP));
    Ok(())
}

/// Copies an index. Git reads from its time what it must doubt: what is as old as that. The time is
/// read first, so that an index which is replaced meanwhile is doubted more, never less. The copy is ours to
/// write, whatever the mode of a user's may be.
pub(crate) fn copy_with_time(from: &Path, to: &Path) -> Result<()> {
    let modified = fs::metadata(from).and_then(|meta| meta.modified());
    let modified = modified.at("look at", from)?;
    fs::copy(from, to).at("copy", from)?;
    fs::set_permissions(to, Permissions::from_mode(0o600)).at("change the mode of", to)?;
    let copy = fs::File::options().write(true).open(to);
    copy.and_then(|copy| copy.set_modified(modified))
        .at("touch", to)
}

/// Copies the index of a checkout; one without commits may have none.
pub(crate) fn copy_of_checkout(checkout: &Checkout, to: &Path) -> Result<()> {
    let from = checkout.index();
    match from.try_exists().at("look at", &from)? {
        true => copy_with_time(&from, to),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_of_an_index_that_nobody_may_write_is_ours_to_write_and_as_old() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("index"), dir.path().join("copy"));
        let old = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        fs::write(&from, "index").unwrap();
        let file = fs::File::options().write(true).open(&from).unwrap();
        file.set_modified(old).unwrap();
        fs::set_permissions(&from, Permissions::from_mode(0o444)).unwrap();
        copy_with_time(&from, &to).unwrap();
        let copy = fs::metadata(&to).unwrap();
        // Root may write anything, so that the mode itself is looked at.
        assert_eq!(copy.permissions().mode() & 0o777, 0o600);
        assert_eq!(copy.modified().unwrap(), old);
        assert_eq!(fs::read(&to).unwrap(), b"index");
    }
}
