//! What must hold before a single file of the user is touched.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::OwnedFd,
};

use rustix::fs::{Dir, FileType};

use super::{ApplyError, Stamp, Todo};
use crate::{
    beneath::{self, Missing},
    checkout::Checkout,
    error::{Error, IoContext},
    git::{Git, Input, records},
    index,
    manifest::Raw,
    names,
    quarantine::Quarantine,
};

const LINK: u32 = 0o120_000;

/// Mode and object id of an entry in the index.
type Entries = BTreeMap<Vec<u8>, (u32, String)>;

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
                return refuse(file, "it is a link that leads out of the repository");
            }
        }
    }
    Ok(())
}

/// Requires that every file of the change is as HEAD has it, and returns what is to be done.
/// Files that are as the change wants them already need nothing.
pub(super) fn require_clean(
    checkout: &Checkout,
    quarantine: &Quarantine,
    files: &[Raw],
) -> Result<Vec<Todo>, ApplyError> {
    let tree = Tree::read(checkout, quarantine, files)?;
    let mut todo = Vec::new();
    let mut suspects = Vec::new();
    for file in files {
        match tree.state(file) {
            State::AsInHead(was) => todo.push(Todo {
                file: file.clone(),
                was,
            }),
            State::Other => suspects.push(file),
        }
    }
    let in_the_way = tree.not_yet_applied(&suspects)?;
    if in_the_way.is_empty() {
        return Ok(todo);
    }
    Err(ApplyError::InTheWay { paths: in_the_way })
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
    /// As HEAD has it: what is there, if anything.
    AsInHead(Option<Stamp>),
    /// Edited, staged, untracked, or of another kind.
    Other,
}

/// The user's work tree and index, as far as they matter.
struct Tree {
    root: OwnedFd,
    git: Git,
    index: Entries,
    modified: BTreeSet<Vec<u8>>,
    leaving: BTreeSet<Vec<u8>>,
}

impl Tree {
    fn read(checkout: &Checkout, quarantine: &Quarantine, files: &[Raw]) -> Result<Self, Error> {
        let index = quarantine.path().join("check-index");
        index::copy_of_checkout(checkout, &index)?;
        let git = checkout
            .git()
            .env("GIT_INDEX_FILE", &index)
            .env("GIT_OBJECT_DIRECTORY", quarantine.objects());
        let output = git.output(&["ls-files", "-z", "--modified"])?;
        Ok(Self {
            root: beneath::root(checkout.top()).at("open", checkout.top())?,
            index: entries(&git)?,
            modified: records(&output).map(<[u8]>::to_vec).collect(),
            leaving: files
                .iter()
                .filter(|f| f.is_deleted())
                .map(|f| f.path.clone())
                .collect(),
            git,
        })
    }

    fn state(&self, file: &Raw) -> State {
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
            let untracked = !self.index.contains_key(&file.path);
            return if free && untracked {
                State::AsInHead(None)
            } else {
                State::Other
            };
        }
        let tracked = self.index.get(&file.path);
        let as_in_head = tracked
            .is_some_and(|(mode, id)| (*mode, id) == (file.old_mode, &file.old_id))
            && !self.modified.contains(&file.path);
        match found {
            Some(stat) if as_in_head => State::AsInHead(Some(Stamp::of(&stat))),
            Some(_) | None => State::Other,
        }
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
            match beneath::lstat(&self.root, above)? {
                None => return Ok(None),
                Some(stat) if beneath::kind(&stat) == FileType::Directory => {}
                Some(_) if self.leaving.contains(above) => return Ok(None),
                Some(_) => return Err(std::io::Error::other("a file is in the way")),
            }
        }
        beneath::lstat(&self.root, path)
    }

    /// Whether the change deletes everything in a directory.
    fn is_leaving(&self, dir: &[u8]) -> bool {
        let Ok((parent, name)) = beneath::parent(&self.root, dir, Missing::Fail) else {
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

    /// Which of the suspects are not as the change wants them.
    fn not_yet_applied(&self, suspects: &[&Raw]) -> Result<Vec<String>, Error> {
        if suspects.is_empty() {
            return Ok(Vec::new());
        }
        let named = |files: &[&Raw]| files.iter().map(|f| names::shown(&f.path)).collect();
        let mut input = Vec::new();
        for file in suspects {
            let kind = beneath::lstat(&self.root, &file.path).ok().flatten();
            let plain = kind.is_none_or(|stat| {
                matches!(
                    beneath::kind(&stat),
                    FileType::RegularFile | FileType::Symlink
                )
            });
            if !plain {
                return Ok(named(suspects));
            }
            input.extend_from_slice(&file.path);
            input.push(0);
        }
        let args = [
            "update-index",
            "-z",
            "--add",
            "--remove",
            "--replace",
            "--stdin",
        ];
        if self.git.ended(&args, Input::Bytes(&input))?.code != 0 {
            return Ok(named(suspects));
        }
        let now = entries(&self.git)?;
        let differs = |file: &&Raw| match now.get(&file.path) {
            None => !file.is_deleted(),
            Some((mode, id)) => file.is_deleted() || (*mode, id) != (file.new_mode, &file.new_id),
        };
        Ok(named(
            &suspects.iter().copied().filter(differs).collect::<Vec<_>>(),
        ))
    }
}

/// The index; of a file in conflict, the last of its stages.
fn entries(git: &Git) -> Result<Entries, Error> {
    let output = git.output(&["ls-files", "-z", "--stage"])?;
    let parse = |record: &[u8]| {
        let tab = record.iter().position(|b| *b == b'\t')?;
        let head = std::str::from_utf8(&record[..tab]).ok()?;
        let mut words = head.split(' ');
        let mode = u32::from_str_radix(words.next()?, 8).ok()?;
        Some((record[tab + 1..].to_vec(), (mode, words.next()?.to_owned())))
    };
    Ok(records(&output).filter_map(parse).collect())
}
