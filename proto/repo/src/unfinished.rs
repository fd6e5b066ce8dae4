//! What an agent left in the middle: a merge, a rebase or the like in its `.git`, read as data, and files of
//! the result with the marks of a conflict. None of that is a failure, and none of it may go unsaid.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    os::fd::OwnedFd,
    path::Path,
};

use crate::{
    beneath,
    manifest::Raw,
    names::{listed, shown},
};

/// What git keeps in its directory while it is at something, and what that is. A rebase merges and picks.
const STATES: [(&[u8], &str); 8] = [
    (b".git/rebase-merge", "a rebase"),
    (
        b".git/rebase-apply/applying",
        "an application of patches (`git am`)",
    ),
    (b".git/rebase-apply", "a rebase"),
    (b".git/MERGE_HEAD", "a merge"),
    (b".git/CHERRY_PICK_HEAD", "a cherry-pick"),
    (b".git/REVERT_HEAD", "a revert"),
    (b".git/BISECT_START", "a bisect"),
    (
        b".git/sequencer",
        "a cherry-pick or revert of several commits",
    ),
];

/// Where git's side of a conflict begins in a file, and where the other one ends.
const BEGIN: &[u8] = b"<<<<<<< ";
const END: &[u8] = b">>>>>>> ";
/// Longest patch in which new marks are looked for first; beyond it all files are looked at.
const PATCH_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How much of a file is looked at, and of all of them.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
const FILES_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// What is said of it, if there is anything. `files` are those of the change that `patch` tells.
pub(crate) fn warning(root: &OwnedFd, files: &[Raw], patch: &Path) -> Option<String> {
    let state = state(root);
    let marked = match has_new_marks(patch) {
        true => marked(root, files),
        false => Vec::new(),
    };
    match (state, marked.is_empty()) {
        (None, true) => None,
        (None, false) => Some(format!(
            "new lines look like the marks of a conflict in {}: look at them before you use the result",
            listed(&marked)
        )),
        (Some(what), false) => Some(format!(
            "the agent ended in the middle of {what}, and the result has the marks of its conflicts in {}: settle \
             them before you use it, or have the task done again",
            listed(&marked)
        )),
        (Some(what), true) => Some(format!(
            "the agent ended in the middle of {what}: the result is its files as they were then, and what was still \
             to come is not in it; look at it before you use it"
        )),
    }
}

/// What git was at.
fn state(root: &OwnedFd) -> Option<&'static str> {
    let is_there = |path: &[u8]| matches!(beneath::lstat(root, path), Ok(Some(_)));
    let mut states = STATES.iter();
    states.find_map(|(path, what)| is_there(path).then_some(*what))
}

/// Whether the patch adds such a mark. One that cannot be read may.
fn has_new_marks(patch: &Path) -> bool {
    let look = || -> io::Result<bool> {
        let file = File::open(patch)?;
        match file.metadata()?.len() > PATCH_BYTES_MAX {
            true => Ok(true),
            false => has_line(&mut BufReader::new(file), &[b"+", BEGIN].concat()),
        }
    };
    look().unwrap_or(true)
}

/// The files that have both marks, the second one after the first.
fn marked(root: &OwnedFd, files: &[Raw]) -> Vec<String> {
    let mut left = FILES_BYTES_MAX;
    let mut marked = Vec::new();
    for file in files.iter().filter(|file| !file.is_deleted()) {
        let max = FILE_BYTES_MAX.min(left);
        let Ok(open) = beneath::open_regular(root, &file.path) else {
            continue;
        };
        let mut read = BufReader::new(open.take(max));
        let found = has_line(&mut read, BEGIN).and_then(|is| Ok(is && has_line(&mut read, END)?));
        left -= max - read.get_ref().limit();
        if found.unwrap_or(false) {
            marked.push(shown(&file.path));
        }
    }
    marked
}

/// Whether one of the next lines begins so.
fn has_line(read: &mut impl BufRead, begin: &[u8]) -> io::Result<bool> {
    let mut line = Vec::new();
    while read.read_until(b'\n', &mut line)? > 0 {
        if line.starts_with(begin) {
            return Ok(true);
        }
        line.clear();
    }
    Ok(false)
}
