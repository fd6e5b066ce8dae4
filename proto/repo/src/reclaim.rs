//! Room taken back from an agent that has ended: what git ignores in its workspace is in no result, and goes
//! with the workspace in any case.

use std::{collections::BTreeSet, os::fd::OwnedFd};

use rustix::fs::{AtFlags, unlinkat};

use crate::{
    beneath::{self, Missing},
    error::{IoContext, Result},
    git::records,
    special,
    workspace::Workspace,
};

impl Workspace {
    /// Removes the files that git ignores and that no result would have, for want of room on the disk; how
    /// many. What the agent committed stays, and so does what it was given by an earlier attempt, though
    /// it may be ignored: both are results. Nothing is written.
    ///
    /// # Errors
    /// When git fails, or the agent's commits cannot be read: then nothing is removed.
    pub fn reclaim(&self) -> Result<usize> {
        let root = beneath::root(&self.dir).at("open", &self.dir)?;
        // Git would wait at a pipe.
        if special::any(&root).is_some() {
            return Ok(0);
        }
        let kept = self.wanted_though_ignored()?;
        let ignored = self.git().output(&[
            "ls-files",
            "-z",
            "--others",
            "--ignored",
            "--exclude-standard",
        ])?;
        let goes = |path: &&[u8]| !path.ends_with(b"/") && !kept.contains(*path);
        let goes = records(&ignored).filter(goes);
        Ok(goes.filter(|path| unlink(&root, path)).count())
    }

    fn wanted_though_ignored(&self) -> Result<BTreeSet<Vec<u8>>> {
        let mut wanted = BTreeSet::from_iter(self.carried_new()?);
        let head = self.agent_head().at("read the HEAD in", &self.dir)?;
        if let Some(head) = head.filter(|head| *head != self.base) {
            let files = ["ls-tree", "-r", "-z", "--name-only", "--full-tree", &head];
            let files = self.lent()?.output(&files)?;
            wanted.extend(records(&files).map(<[u8]>::to_vec));
        }
        Ok(wanted)
    }
}

/// Removes a file; whether it is gone. What the agent made unwritable stays.
fn unlink(root: &OwnedFd, path: &[u8]) -> bool {
    let parent = beneath::parent(root, path, Missing::Fail);
    parent.is_ok_and(|(dir, name)| unlinkat(&dir, name, AtFlags::empty()).is_ok())
}
