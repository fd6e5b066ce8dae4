//! Whose files the state is made of.
//!
//! A head or worker that runs as another user, as root in the place of a person, leaves files behind that
//! their owner can no longer read: the next start finds a store that it may not open.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// What the kernel shows for an owner that has no number here: it says nothing.
const OVERFLOW: u32 = 65_534;

/// A directory that belongs to another user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{}` belongs to user {owner}, and this is user {us}; be user {owner} (`sudo -u '#{owner}' …`), or \
     let user {us} have all of it: `sudo chown -R {us} {}`", dir.display(), all.display()
)]
pub struct Foreign {
    dir: PathBuf,
    all: PathBuf,
    owner: u32,
    us: u32,
}

/// Refuses a directory that is there, within `all` of a state, and belongs to another user.
///
/// # Errors
/// When it does.
pub fn refuse_foreign(dir: &Path, all: &Path) -> Result<(), Foreign> {
    let us = rustix::process::geteuid().as_raw();
    match dir.metadata().map(|found| found.uid()) {
        Ok(owner) if owner != us && owner != OVERFLOW => Err(Foreign {
            dir: dir.to_owned(),
            all: all.to_owned(),
            owner,
            us,
        }),
        Ok(_) | Err(_) => Ok(()),
    }
}
