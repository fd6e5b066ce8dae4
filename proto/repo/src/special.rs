//! Pipes, sockets and devices in a work tree. Git opens some files by their names alone: a pipe that is called
//! `.gitattributes` would make it wait until somebody writes into that.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, unlinkat};

use crate::{
    beneath::{self, Missing},
    names::{is_git_like, shown},
    stage::Warnings,
};

/// What git opens by name in each directory; it looks also into what lies below a `.git`.
const OPENED: [&[u8]; 4] = [
    b".gitattributes",
    b".gitignore",
    b".gitmodules",
    b".mailmap",
];
/// How deep directories are looked into. Git cannot open what has a longer path than the system allows.
const DEPTH_MAX: usize = 2048;

/// Removes those that git would open, each with a warning.
pub(crate) fn remove(root: &OwnedFd, warnings: &mut Warnings) {
    for (path, kind) in find(root) {
        warnings.path(&path, format_args!("it is {kind}, and no file"));
        let parent = beneath::parent(root, &path, Missing::Fail);
        let removed = parent.and_then(|(dir, name)| Ok(unlinkat(&dir, name, AtFlags::empty())?));
        if let Err(error) = removed {
            warnings.path(&path, error);
        }
    }
}

/// One of them, if there is any.
pub(crate) fn any(root: &OwnedFd) -> Option<String> {
    find(root).first().map(|(path, _)| shown(path))
}

/// What git would open, and what it is. Not in the agent's own `.git`, into which no git of ours looks. What cannot
/// be listed, git cannot open.
fn find(root: &OwnedFd) -> Vec<(Vec<u8>, &'static str)> {
    let mut found = Vec::new();
    let mut dirs = vec![(Vec::new(), 0, false)];
    while let Some((dir, depth, in_git)) = dirs.pop() {
        let at = if dir.is_empty() { &b"."[..] } else { &dir };
        for (name, kind) in beneath::list(root, at).unwrap_or_default() {
            let is_git = is_git_like(&name);
            let path = match dir.is_empty() {
                true if is_git => continue,
                true => name.clone(),
                false => [&dir, &b"/"[..], &name].concat(),
            };
            let kind = match kind {
                FileType::Directory if depth < DEPTH_MAX => {
                    dirs.push((path, depth + 1, in_git || is_git));
                    continue;
                }
                FileType::Directory | FileType::RegularFile | FileType::Symlink => continue,
                FileType::Fifo => "a pipe",
                FileType::Socket => "a socket",
                FileType::CharacterDevice | FileType::BlockDevice | FileType::Unknown => "a device",
            };
            if in_git || is_git || OPENED.contains(&&*name) {
                found.push((path, kind));
            }
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, Mode, mkfifoat};

    use super::*;

    #[test]
    fn pipes_are_found_wherever_they_are_and_those_that_git_opens_removed() {
        let dir = tempfile::tempdir().unwrap();
        let make = |path: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            mkfifoat(CWD, &path, Mode::from_raw_mode(0o600)).unwrap();
        };
        let opened = [
            "a/.gitattributes",
            "nest/.git/refs/heads/main",
            "nest/.git/HEAD",
        ];
        opened
            .iter()
            .chain(&["a/pipe", ".git/HEAD"])
            .for_each(|path| make(path));
        std::os::unix::fs::symlink("/dev/null", dir.path().join(".gitignore")).unwrap();
        let root = beneath::root(dir.path()).unwrap();
        assert_eq!(any(&root).as_deref(), Some("a/.gitattributes"));
        let mut warnings = Warnings::default();
        remove(&root, &mut warnings);
        let said = warnings.into_list();
        assert_eq!(said.len(), 3, "{said:#?}");
        let first = "`a/.gitattributes` was left out: it is a pipe, and no file";
        assert_eq!(said[0], first);
        assert_eq!(any(&root), None);
        let left = |path: &str| dir.path().join(path).symlink_metadata().is_ok();
        assert!(left("a/pipe") && left(".git/HEAD") && left(".gitignore"));
        assert!(!opened.iter().any(|path| left(path)));
    }
}
