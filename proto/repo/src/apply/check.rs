//! What must hold before a single file of the user is touched.

use std::collections::BTreeSet;

use rustix::fs::{Dir, FileType};

use super::{ApplyError, Stamp, Todo, here::Here, record::Record};
use crate::{
    beneath::{self, Missing},
    checkout::Checkout,
    error::Error,
    git::{Git, records},
    manifest::{Raw, Renames, diff},
    names,
    quarantine::Quarantine,
};

const LINK: u32 = 0o120_000;

/// Refuses paths and links that lead out of the work tree, and changed submodules.
pub(super) fn refuse_unsafe(quarantine: &Quarantine, files: &[Raw]) -> Result<(), ApplyError> {
    let refuse = |file: &Raw, why: &str| {
        Err(ApplyError::Unsafe {
            path: names::shown(&file.path),
            why: why.to_owned(),
        })
    };
    for file in files {
        if let Some(why) = names::refusal(&file.path) {
            return refuse(file, &format!("its name {why}"));
        }
        if file.is_submodule() {
            return refuse(file, "it is a submodule; merge the branch by hand");
        }
        if file.new_mode == LINK {
            let target = quarantine
                .git()
                .output(&["cat-file", "blob", &file.new_id])?;
            if !names::link_stays_inside(&file.path, &target) {
                return refuse(
                    file,
                    "it is a link that leads out of the repository; merge the branch if it is meant",
                );
            }
        }
    }
    Ok(())
}

/// Refuses files that the sparse checkout leaves out.
pub(super) fn refuse_apart(here: &Here, files: &[Raw]) -> Result<(), ApplyError> {
    match files.iter().find(|file| here.apart.contains(&file.path)) {
        Some(file) => Err(ApplyError::Unsafe {
            path: names::shown(&file.path),
            why:
                "it is outside of the sparse checkout; `git sparse-checkout add` its directory, or \
                  merge the branch"
                    .to_owned(),
        }),
        None => Ok(()),
    }
}

/// Refuses files that are in conflict in the user's index: whatever is there, the user is to settle it.
pub(super) fn refuse_unmerged<'a>(
    here: &Here,
    paths: impl Iterator<Item = &'a Vec<u8>>,
) -> Result<(), ApplyError> {
    let unmerged = paths.filter(|path| here.unmerged.contains(*path));
    let paths: Vec<String> = unmerged.map(|path| names::shown(path)).collect();
    match paths.is_empty() {
        true => Ok(()),
        false => Err(ApplyError::Unmerged { paths }),
    }
}

/// Requires that every file that is to change is as HEAD has it, or one of those that are `known`, and
/// returns what is to be done.
pub(super) fn require_clean(
    here: &Here,
    files: &[Raw],
    known: &BTreeSet<Vec<u8>>,
) -> Result<Vec<Todo>, ApplyError> {
    refuse_unmerged(here, files.iter().map(|file| &file.path))?;
    let tree = Tree::of(here, files);
    let mut todo = Vec::new();
    let mut in_the_way = Vec::new();
    for file in files {
        match tree.state(file, known) {
            State::Known(was) => todo.push(Todo {
                file: file.clone(),
                was,
                filtered: false,
            }),
            State::Other => in_the_way.push(names::shown(&file.path)),
        }
    }
    if in_the_way.is_empty() {
        return Ok(todo);
    }
    Err(ApplyError::InTheWay { paths: in_the_way })
}

/// Of the uncommitted files, those that are as an apply left them, or as one of `bases` has them, of
/// which the attempt knew.
pub(super) fn known(
    git: &Git,
    here: &Here,
    bases: &[&str],
    record: &Record,
) -> Result<BTreeSet<Vec<u8>>, Error> {
    if here.uncommitted.is_empty() {
        return Ok(BTreeSet::new());
    }
    let mut known: BTreeSet<_> = record.known(here.uncommitted.values()).cloned().collect();
    for base in bases {
        let files = diff(git, base, &here.tree, Renames::Ignore)?;
        let other: BTreeSet<&[u8]> = files.iter().map(|file| file.path.as_slice()).collect();
        let same = here.uncommitted.keys();
        known.extend(
            same.filter(|path| !other.contains(path.as_slice()))
                .cloned(),
        );
    }
    Ok(known)
}

/// Files that are not as HEAD has them: edited, staged, or untracked and not ignored.
pub(super) fn uncommitted(checkout: &Checkout) -> Result<BTreeSet<Vec<u8>>, Error> {
    let git = checkout.git();
    let edited = [
        "ls-files",
        "-z",
        "--modified",
        "--others",
        "--exclude-standard",
    ];
    let mut output = git.output(&edited)?;
    if checkout.head().is_some() {
        output.extend(git.output(&["diff-index", "-z", "--cached", "--name-only", "HEAD"])?);
    }
    Ok(records(&output).map(<[u8]>::to_vec).collect())
}

enum State {
    /// As HEAD, a base or an earlier apply has it: what is there, if anything.
    Known(Option<Stamp>),
    /// Edited, staged, untracked, or of another kind.
    Other,
}

/// The user's work tree, and what the change does to it.
struct Tree<'a> {
    here: &'a Here,
    leaving: BTreeSet<Vec<u8>>,
}

impl<'a> Tree<'a> {
    fn of(here: &'a Here, files: &[Raw]) -> Self {
        let leaving = files.iter().filter(|file| file.is_deleted());
        Self {
            here,
            leaving: leaving.map(|file| file.path.clone()).collect(),
        }
    }

    fn state(&self, file: &Raw, known: &BTreeSet<Vec<u8>>) -> State {
        let Ok(found) = self.look(&file.path) else {
            return State::Other;
        };
        if file.status == b'A' {
            let free = match found {
                None => true,
                Some(stat) => {
                    beneath::kind(&stat) == FileType::Directory && self.is_leaving(&file.path)
                }
            };
            let untracked = !self.here.index.contains_key(&file.path);
            return if free && (untracked || known.contains(&file.path)) {
                State::Known(None)
            } else {
                State::Other
            };
        }
        let is_known = match self.here.uncommitted.contains_key(&file.path) {
            true => known.contains(&file.path),
            false => self.is_in_index(file),
        };
        match self.here.stamps.get(&file.path) {
            Some(stamp) if is_known => State::Known(Some(*stamp)),
            Some(_) | None => State::Other,
        }
    }

    /// Whether nothing else is staged. After `git rm --cached` nothing is: HEAD has what is there.
    fn is_in_index(&self, file: &Raw) -> bool {
        let tracked = self.here.index.get(&file.path);
        tracked.is_none_or(|(mode, id)| (*mode, id) == (file.old_mode, &file.old_id))
            && !self.here.modified.contains(&file.path)
    }

    /// What is at `path`. A file on the way to it that the change deletes counts as gone.
    fn look(&self, path: &[u8]) -> std::io::Result<Option<rustix::fs::Stat>> {
        let ends = path
            .iter()
            .enumerate()
            .filter(|(_, b)| **b == b'/')
            .map(|(at, _)| at);
        for end in ends {
            let above = &path[..end];
            match beneath::lstat(&self.here.root, above)? {
                None => return Ok(None),
                Some(stat) if beneath::kind(&stat) == FileType::Directory => {}
                Some(_) if self.leaving.contains(above) => return Ok(None),
                Some(_) => return Err(std::io::Error::other("a file is in the way")),
            }
        }
        beneath::lstat(&self.here.root, path)
    }

    /// Whether the change deletes everything in a directory.
    fn is_leaving(&self, dir: &[u8]) -> bool {
        let Ok((parent, name)) = beneath::parent(&self.here.root, dir, Missing::Fail) else {
            return false;
        };
        let flags = rustix::fs::OFlags::RDONLY
            | rustix::fs::OFlags::DIRECTORY
            | rustix::fs::OFlags::NOFOLLOW
            | rustix::fs::OFlags::CLOEXEC;
        let Ok(fd) = rustix::fs::openat(&parent, name, flags, rustix::fs::Mode::empty()) else {
            return false;
        };
        let Ok(entries) = Dir::read_from(&fd) else {
            return false;
        };
        entries
            .into_iter()
            .all(|entry| entry.is_ok_and(|entry| self.leaves(dir, &entry)))
    }

    fn leaves(&self, dir: &[u8], entry: &rustix::fs::DirEntry) -> bool {
        let name = entry.file_name().to_bytes();
        let path = [dir, b"/", name].concat();
        matches!(name, b"." | b"..")
            || self.leaving.contains(&path)
            || (entry.file_type() == FileType::Directory && self.is_leaving(&path))
    }
}
