//! Files that an agent's git leaves out of the work tree, because it narrowed its checkout (`git sparse-checkout`):
//! they are not deleted, and its own commits have them.
//!
//! Its index is read as data, from a copy, by a git that knows nothing else of the agent's but objects.

use std::{collections::BTreeSet, fs::File, io, os::fd::OwnedFd};

use crate::{
    beneath,
    collect::restore,
    error::Result,
    git::{Git, Input, records},
    index,
    manifest::{Raw, Renames, diff},
    workspace::Workspace,
};

const INDEX: &[u8] = b".git/index";
/// Largest index that is read: some two million files.
const INDEX_BYTES_MAX: u64 = 256 * 1024 * 1024;

impl Workspace {
    /// The tree with what is missing in `tree` since `tip` only because the agent's git does not have it in the work
    /// tree; none where there is no such file. `git` has `tree` in its index.
    pub(crate) fn widen(
        &self,
        git: &Git,
        index: &index::Copy,
        root: &OwnedFd,
        (tip, tree): (&str, &str),
    ) -> Result<Option<String>> {
        let mut missing = diff(&self.bare(), tip, tree, Renames::Ignore)?;
        missing.retain(Raw::is_deleted);
        if missing.is_empty() {
            return Ok(None);
        }
        let left_out = self.left_out(index, root).unwrap_or_default();
        missing.retain(|file| left_out.contains(&file.path));
        if missing.is_empty() {
            return Ok(None);
        }
        restore(git, missing.iter())?;
        git.line(&["write-tree"]).map(Some)
    }

    /// The paths that the agent's index says are not in the work tree; none where it cannot be read.
    fn left_out(&self, index: &index::Copy, root: &OwnedFd) -> Option<BTreeSet<Vec<u8>>> {
        let copy = index.dir().join("agents-index");
        let mut from = io::Read::take(beneath::open_regular(root, INDEX).ok()?, INDEX_BYTES_MAX);
        io::copy(&mut from, &mut File::create_new(&copy).ok()?).ok()?;
        let git = self.lent().ok()?.env("GIT_INDEX_FILE", &copy);
        let listed = git.ended(&["ls-files", "-z", "-v"], Input::Nothing).ok()?;
        let left_out = records(&listed.value).filter_map(|record| {
            let skipped = record.first()?.eq_ignore_ascii_case(&b'S');
            skipped.then(|| record.get(2..).map(<[u8]>::to_vec))?
        });
        Some(left_out.collect())
    }
}
