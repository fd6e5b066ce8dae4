//! Files whose changes git was told to overlook: `git update-index --assume-unchanged` and
//! `--skip-worktree`. A person has changed them all the same.

use std::os::fd::OwnedFd;

use crate::{
    beneath,
    error::Result,
    git::{Git, Input, records},
};

/// Lets git see in its index, which must be a copy of ours, what it was told to overlook. A file that is
/// not there because the checkout is sparse is left as it is.
pub(crate) fn show(git: &Git, root: &OwnedFd) -> Result<()> {
    let output = git.output(&["ls-files", "-z", "-v"])?;
    let (mut assumed, mut skipped) = (Vec::new(), Vec::new());
    for record in records(&output) {
        let (Some(tag), Some(path)) = (record.first(), record.get(2..)) else {
            continue;
        };
        let is_skipped = tag.eq_ignore_ascii_case(&b'S');
        let is_there = || matches!(beneath::lstat(root, path), Ok(Some(_)));
        if is_skipped && !is_there() {
            continue;
        }
        if is_skipped {
            add(&mut skipped, path);
        }
        // A small letter.
        if tag.is_ascii_lowercase() {
            add(&mut assumed, path);
        }
    }
    clear(git, "--no-skip-worktree", &skipped)?;
    clear(git, "--no-assume-unchanged", &assumed)
}

fn add(input: &mut Vec<u8>, path: &[u8]) {
    input.extend_from_slice(path);
    input.push(0);
}

fn clear(git: &Git, bit: &str, input: &[u8]) -> Result<()> {
    if input.is_empty() {
        return Ok(());
    }
    let args = ["update-index", bit, "-z", "--stdin"];
    git.output_of(&args, Input::Bytes(input)).map(drop)
}
