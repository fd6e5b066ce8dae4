//! What the user's work tree holds at the paths that matter, committed or not.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::fs::FileType;

use super::{Stamp, written::Written};
use crate::{
    beneath,
    checkout::Checkout,
    error::{IoContext, Result},
    git::{Git, Input, records},
    hidden, index,
    manifest::{Raw, Renames, diff},
    quarantine::Quarantine,
};

const SUBMODULE: u32 = 0o160_000;

/// Mode and object id of an entry in an index.
pub(super) type Entries = BTreeMap<Vec<u8>, (u32, String)>;

/// The user's work tree and index, as far as they matter.
pub(super) struct Here {
    pub root: OwnedFd,
    /// HEAD's tree, with the files at these paths as they are now.
    pub tree: String,
    /// Those of these paths that are other than in HEAD, and how.
    pub uncommitted: BTreeMap<Vec<u8>, Raw>,
    /// The user's index.
    pub index: Entries,
    /// Files that are in conflict there.
    pub unmerged: BTreeSet<Vec<u8>>,
    /// Files that git keeps out of the work tree: it is sparse.
    pub apart: BTreeSet<Vec<u8>>,
    /// Files that are other than in the user's index.
    pub modified: BTreeSet<Vec<u8>>,
    /// What was there before it was read.
    pub stamps: BTreeMap<Vec<u8>, Stamp>,
}

/// What git would have of each path; none where nothing is.
type Now = BTreeMap<Vec<u8>, Option<(u32, String)>>;

/// What is at a path.
enum Found {
    /// Nothing, or nothing that git could have there.
    Nothing,
    /// A file or a link.
    Plain(Stamp),
    /// A directory, or something odd.
    Other,
}

impl Here {
    /// Reads what is at `paths`; `head` is HEAD's tree. From its entries `written` tells what may be there though
    /// git reads something else.
    pub fn read(
        checkout: &Checkout,
        quarantine: &Quarantine,
        head: &str,
        paths: &BTreeSet<Vec<u8>>,
        written: impl FnOnce(&Entries) -> Written,
    ) -> Result<Self> {
        let root = beneath::root(checkout.top()).at("open", checkout.top())?;
        let copy = quarantine.path().join("check-index");
        index::copy_of_checkout(checkout, &copy)?;
        let git = on(checkout, quarantine, &copy);
        hidden::show(&git, &root)?;
        let modified = git.output(&["ls-files", "-z", "--modified"])?;
        let index = entries(&git)?;
        let unmerged = unmerged(&git)?;
        let apart = apart(&git)?;
        let found: BTreeMap<_, _> = paths
            .iter()
            .map(|path| (path.clone(), look(&root, path)))
            .collect();
        let mut now = now(&git, &index, &apart, &found)?;
        let beside = on(checkout, quarantine, &quarantine.path().join("here-index"));
        beside.output(&["read-tree", head])?;
        let mut there = now.clone();
        there.retain(|path, _| matches!(found.get(path), Some(Found::Plain(_))));
        written(&entries(&beside)?).restore(checkout, &git, &mut there)?;
        now.extend(there);
        let tree = tree(&beside, head, &now)?;
        let differs = diff(quarantine.git(), head, &tree, Renames::Ignore)?;
        Ok(Self {
            root,
            tree,
            uncommitted: differs
                .into_iter()
                .map(|file| (file.path.clone(), file))
                .collect(),
            unmerged,
            index,
            apart,
            modified: records(&modified).map(<[u8]>::to_vec).collect(),
            stamps: found
                .into_iter()
                .filter_map(|(path, found)| match found {
                    Found::Plain(stamp) => Some((path, stamp)),
                    Found::Nothing | Found::Other => None,
                })
                .collect(),
        })
    }
}

/// The user's git on another index; what it writes goes into the quarantine.
fn on(checkout: &Checkout, quarantine: &Quarantine, index: &Path) -> Git {
    checkout
        .git()
        .env("GIT_INDEX_FILE", PathBuf::from(index))
        .env("GIT_OBJECT_DIRECTORY", quarantine.objects())
}

fn look(root: &OwnedFd, path: &[u8]) -> Found {
    let slashes = path.iter().enumerate().filter(|(_, b)| **b == b'/');
    for (end, _) in slashes {
        match beneath::lstat(root, &path[..end]) {
            Ok(Some(stat)) if beneath::kind(&stat) == FileType::Directory => {}
            // Also when a link is on the way: git has nothing behind one.
            Ok(_) | Err(_) => return Found::Nothing,
        }
    }
    match beneath::lstat(root, path) {
        Ok(None) => Found::Nothing,
        Ok(Some(stat)) => match beneath::kind(&stat) {
            FileType::RegularFile | FileType::Symlink => Found::Plain(Stamp::of(&stat)),
            _ => Found::Other,
        },
        Err(_) => Found::Other,
    }
}

/// What git would have of each path if all were added now.
fn now(
    git: &Git,
    index: &Entries,
    apart: &BTreeSet<Vec<u8>>,
    found: &BTreeMap<Vec<u8>, Found>,
) -> Result<Now> {
    let mut input = Vec::new();
    // A directory is none of git's, unless it is a repository of its own.
    let is_submodule = |path: &Vec<u8>| matches!(index.get(path), Some((SUBMODULE, _)));
    for (path, found) in found {
        let is_other = matches!(found, Found::Other);
        if matches!(found, Found::Plain(_)) || is_other && is_submodule(path) {
            input.extend_from_slice(path);
            input.push(0);
        }
    }
    git.output_of(&index::ADD_NAMED, Input::Bytes(&input))?;
    let read = entries(git)?;
    let entry = |path: &Vec<u8>, found: &Found| match found {
        Found::Nothing if apart.contains(path) => index.get(path).cloned(),
        Found::Nothing => None,
        Found::Plain(_) => read.get(path).cloned(),
        // With the commit that is checked out there.
        Found::Other if is_submodule(path) => read.get(path).cloned(),
        Found::Other => None,
    };
    let each = found
        .iter()
        .map(|(path, found)| (path.clone(), entry(path, found)));
    Ok(each.collect())
}

/// The tree of git's index, which is that of `head`, with these entries.
fn tree(git: &Git, head: &str, now: &Now) -> Result<String> {
    let mut input = Vec::new();
    let mut line = |text: String, path: &[u8]| {
        input.extend_from_slice(text.as_bytes());
        input.extend_from_slice(path);
        input.push(0);
    };
    let none = "0".repeat(head.len());
    let gone = now.iter().filter(|(_, entry)| entry.is_none());
    gone.for_each(|(path, _)| line(format!("0 {none}\t"), path));
    for (path, entry) in now {
        if let Some((mode, id)) = entry {
            line(format!("{mode:o} {id}\t"), path);
        }
    }
    let args = ["update-index", "-z", "--index-info"];
    git.output_of(&args, Input::Bytes(&input))?;
    git.line(&["write-tree"])
}

/// Files that are not in the work tree because it is sparse.
fn apart(git: &Git) -> Result<BTreeSet<Vec<u8>>> {
    let output = git.output(&["ls-files", "-z", "-t"])?;
    let tagged = records(&output).filter_map(|record| record.strip_prefix(b"S "));
    Ok(tagged.map(<[u8]>::to_vec).collect())
}

/// The files in conflict.
fn unmerged(git: &Git) -> Result<BTreeSet<Vec<u8>>> {
    Ok(listed(git, "--unmerged")?.into_keys().collect())
}

/// The index; of a file in conflict, the last of its stages.
pub(super) fn entries(git: &Git) -> Result<Entries> {
    listed(git, "--stage")
}

fn listed(git: &Git, which: &str) -> Result<Entries> {
    let output = git.output(&["ls-files", "-z", which])?;
    let parse = |record: &[u8]| {
        let tab = record.iter().position(|b| *b == b'\t')?;
        let head = std::str::from_utf8(&record[..tab]).ok()?;
        let mut words = head.split(' ');
        let mode = u32::from_str_radix(words.next()?, 8).ok()?;
        Some((record[tab + 1..].to_vec(), (mode, words.next()?.to_owned())))
    };
    Ok(records(&output).filter_map(parse).collect())
}
