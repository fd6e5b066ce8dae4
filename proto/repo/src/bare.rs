//! Bare repositories that an agent made among its files. To git they are ordinary files, which come with the
//! change; but whoever calls git in one has it follow the agent's configuration and hooks.

use std::os::fd::OwnedFd;

use rustix::fs::FileType;

use crate::{
    beneath,
    manifest::Raw,
    names::{listed, shown},
};

/// What is said of those that came with these files; none where there are none.
pub(crate) fn warning(root: &OwnedFd, files: &[Raw]) -> Option<String> {
    let new = files.iter().filter(|file| !file.is_deleted());
    let heads = new.filter_map(|file| file.path.strip_suffix(b"HEAD"));
    let mut dirs = Vec::new();
    for dir in heads.filter(|dir| is_bare(root, dir)) {
        dirs.push(match dir.strip_suffix(b"/") {
            Some(dir) => shown(dir),
            None => ".".to_owned(),
        });
    }
    (!dirs.is_empty()).then(|| {
        format!(
            "of bare git repositories that the agent made, the files are in the result, hooks and configuration \
             with them, which git follows where it is called there: look at {} before you do",
            listed(&dirs)
        )
    })
}

/// Whether git takes the directory, named with its slash or not at all, for a repository.
fn is_bare(root: &OwnedFd, dir: &[u8]) -> bool {
    let is_dir = |name: &[u8]| match beneath::lstat(root, &[dir, name].concat()) {
        Ok(Some(stat)) => beneath::kind(&stat) == FileType::Directory,
        Ok(None) | Err(_) => false,
    };
    (dir.is_empty() || dir.ends_with(b"/")) && is_dir(b"objects") && is_dir(b"refs")
}
