//! Files that an agent's git leaves out of the work tree, because it narrowed its checkout (`git sparse-checkout`):
//! they are not deleted, and its own commits have them.
//!
//! Its index is read as data, from a copy, by a git that knows nothing else of the agent's but objects.

use std::{collections::BTreeSet, fs::File, io, os::fd::OwnedFd};

use rustix::fs::FileType;

use crate::{
    beneath,
    collect::restore,
    error::Result,
    git::{Git, records},
    index,
    manifest::{Raw, Renames, diff},
    workspace::Workspace,
};

const INDEX: &[u8] = b".git/index";
/// Where git keeps what a checkout is narrowed to.
const PATTERNS: &[u8] = b".git/info/sparse-checkout";
/// How an index begins whose size bounds what it takes to read it: the names of later versions are short for what
/// they stand for.
const HEADERS: [&[u8]; 2] = [b"DIRC\0\0\0\x02", b"DIRC\0\0\0\x03"];
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
        if !was_narrowed(root) {
            return Ok(None);
        }
        let changed = diff(&self.bare(), tip, tree, Renames::Ignore)?;
        let (mut missing, made): (Vec<Raw>, Vec<Raw>) =
            changed.into_iter().partition(Raw::is_deleted);
        if missing.is_empty() {
            return Ok(None);
        }
        let left_out = self.left_out(index, root).unwrap_or_default();
        let made: BTreeSet<&[u8]> = made.iter().map(|file| &*file.path).collect();
        // What the agent has put in the place of one stays.
        missing.retain(|file| left_out.contains(&file.path) && !is_taken(&file.path, &made));
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
        let mut header = [0; 8];
        io::Read::read_exact(&mut from, &mut header).ok()?;
        HEADERS.contains(&&header[..]).then_some(())?;
        let mut bytes = io::Read::chain(&header[..], from);
        io::copy(&mut bytes, &mut File::create_new(&copy).ok()?).ok()?;
        let git = self.lent().ok()?.env("GIT_INDEX_FILE", &copy);
        let listed = git.output(&["ls-files", "-z", "-v"]).ok()?;
        let left_out = records(&listed).filter_map(|record| {
            let skipped = record.first()?.eq_ignore_ascii_case(&b'S');
            skipped.then(|| record.get(2..).map(<[u8]>::to_vec))?
        });
        Some(left_out.collect())
    }
}

/// Whether it ever was. Else whoever has git overlook a file and deletes it has deleted it.
fn was_narrowed(root: &OwnedFd) -> bool {
    let patterns = beneath::lstat(root, PATTERNS).ok().flatten();
    patterns.is_some_and(|stat| beneath::kind(&stat) == FileType::RegularFile)
}

/// Whether one of the files `made` is where a file of this path has a directory, or below it.
fn is_taken(path: &[u8], made: &BTreeSet<&[u8]>) -> bool {
    let below = [path, b"/"].concat();
    let inside = made.range(&*below..).next();
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    let mut above = slashes.map(|(at, _)| &path[..at]);
    inside.is_some_and(|file| file.starts_with(&below)) || above.any(|dir| made.contains(dir))
}
