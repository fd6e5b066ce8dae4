//! Pipes, sockets and devices in a work tree. Git opens some files by their names alone: a pipe that is called
//! `.gitattributes` would make it wait until somebody writes into that.

use std::{collections::BTreeSet, os::fd::OwnedFd};

use rustix::fs::{AtFlags, FileType, unlinkat};

use crate::{
    beneath::{self, Missing},
    error::Result,
    git::{Git, Input, records},
    names::{is_git_like, shown},
    stage::{Warnings, is_below},
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

/// One that is no file, no directory and no link.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Special {
    path: Vec<u8>,
    /// What it is.
    kind: &'static str,
    /// Whether git would open it.
    is_opened: bool,
}

impl Special {
    fn warn(&self, warnings: &mut Warnings) {
        let why = format_args!("it is {}, and no file", self.kind);
        warnings.path(&self.path, why);
    }
}

/// Removes those that git would open, each with a warning. The others, which git overlooks.
pub(crate) fn remove(root: &OwnedFd, warnings: &mut Warnings) -> Vec<Special> {
    let (opened, others): (Vec<Special>, Vec<Special>) =
        find(root).into_iter().partition(|one| one.is_opened);
    for one in opened {
        one.warn(warnings);
        let parent = beneath::parent(root, &one.path, Missing::Fail);
        let removed = parent.and_then(|(dir, name)| Ok(unlinkat(&dir, name, AtFlags::empty())?));
        if let Err(error) = removed {
            warnings.path(&one.path, error);
        }
    }
    others
}

/// Warns of those that the project does not ignore, and that are not below what is `skip`ped.
pub(crate) fn warn(
    git: &Git,
    all: &[Special],
    skip: &[Vec<u8>],
    warnings: &mut Warnings,
) -> Result<()> {
    let seen = |one: &&Special| !is_below(&one.path, skip);
    let all: Vec<&Special> = all.iter().filter(seen).collect();
    if all.is_empty() {
        return Ok(());
    }
    let paths = all.iter().map(|one| one.path.as_slice());
    let input = paths.flat_map(|path| [path, b"\0"]).collect::<Vec<_>>();
    let git = git.clone().env("GIT_LITERAL_PATHSPECS", "0");
    let ignored = ["check-ignore", "-z", "--stdin"];
    let ignored = git.ended(&ignored, Input::Bytes(&input.concat()))?.value;
    let ignored: BTreeSet<&[u8]> = records(&ignored).collect();
    let left = all.iter().filter(|one| !ignored.contains(&*one.path));
    left.for_each(|one| one.warn(warnings));
    Ok(())
}

/// One that git would open, if there is any.
pub(crate) fn any(root: &OwnedFd) -> Option<String> {
    let opened = find(root).into_iter().find(|one| one.is_opened);
    opened.map(|one| shown(&one.path))
}

/// All of them. Not in the agent's own `.git`, into which no git of ours looks. What cannot be listed, git cannot
/// open.
fn find(root: &OwnedFd) -> Vec<Special> {
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
            let is_opened = in_git || is_git || OPENED.contains(&&*name);
            found.push(Special {
                path,
                kind,
                is_opened,
            });
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
        let others = remove(&root, &mut warnings);
        assert_eq!(others.len(), 1, "{others:?}");
        assert_eq!(others[0].path, b"a/pipe");
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
