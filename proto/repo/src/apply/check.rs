//! What must hold before a single file of the user is touched.

use std::collections::BTreeSet;

use rustix::fs::FileType;

use super::{ApplyError, Stamp, Todo, here::Here, record::Record};
use crate::{
    beneath,
    checkout::Checkout,
    error::Error,
    git::{Git, records},
    manifest::{Raw, Renames, diff},
    names,
    quarantine::Quarantine,
};

const LINK: u32 = 0o120_000;
/// As many files that stay in a directory are looked for: a sentence names fewer.
const STAYING_MAX: usize = 100;

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
    let mut in_the_way = BTreeSet::new();
    for file in files {
        match tree.state(file, known) {
            State::Known(was) => todo.push(Todo {
                file: file.clone(),
                was,
                filtered: false,
            }),
            State::Other => in_the_way.extend(tree.in_the_way(file)),
        }
    }
    if in_the_way.is_empty() {
        return Ok(todo);
    }
    Err(ApplyError::InTheWay {
        paths: in_the_way.iter().map(|path| names::shown(path)).collect(),
    })
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
    fn look(&self, path: &[u8]) -> Result<Option<rustix::fs::Stat>, Blocked> {
        let blocked = |_| Blocked(path.to_vec());
        let ends = path
            .iter()
            .enumerate()
            .filter(|(_, b)| **b == b'/')
            .map(|(at, _)| at);
        for end in ends {
            let above = &path[..end];
            match beneath::lstat(&self.here.root, above).map_err(blocked)? {
                None => return Ok(None),
                Some(stat) if beneath::kind(&stat) == FileType::Directory => {}
                Some(_) if self.leaving.contains(above) => return Ok(None),
                Some(_) => return Err(Blocked(above.to_vec())),
            }
        }
        beneath::lstat(&self.here.root, path).map_err(blocked)
    }

    /// What keeps `file` from its place, by the names that a person finds it by: a directory is only in the way
    /// for what it holds.
    fn in_the_way(&self, file: &Raw) -> Vec<Vec<u8>> {
        let path = &file.path;
        match self.look(path) {
            Err(Blocked(by)) => vec![by],
            Ok(Some(stat))
                if file.status == b'A' && beneath::kind(&stat) == FileType::Directory =>
            {
                let mut staying = self.staying(path);
                if staying.is_empty() {
                    // It goes with all that it holds, and the index has something else at its place.
                    staying.push(path.clone());
                }
                staying.sort_unstable();
                staying
            }
            Ok(_) => vec![path.clone()],
        }
    }

    /// Whether the change deletes everything in a directory.
    fn is_leaving(&self, dir: &[u8]) -> bool {
        self.staying(dir).is_empty()
    }

    /// What the change leaves in a directory; of much, some.
    fn staying(&self, dir: &[u8]) -> Vec<Vec<u8>> {
        let mut staying = Vec::new();
        self.find_staying(dir, &mut staying);
        staying
    }

    fn find_staying(&self, dir: &[u8], staying: &mut Vec<Vec<u8>>) {
        let entries = beneath::list(&self.here.root, dir);
        let is_repository =
            |entries: &Vec<(Vec<u8>, FileType)>| entries.iter().any(|(name, _)| name == b".git");
        let Some(entries) = entries.ok().filter(|entries| !is_repository(entries)) else {
            // One that cannot be looked into, or is somebody's own, stays as a whole.
            staying.push(dir.to_vec());
            return;
        };
        for (name, kind) in entries {
            if staying.len() >= STAYING_MAX {
                return;
            }
            let path = [dir, b"/", name.as_slice()].concat();
            match kind {
                FileType::Directory => self.find_staying(&path, staying),
                _ if self.leaving.contains(&path) => {}
                _ => staying.push(path),
            }
        }
    }
}

/// A file in the way of another one: something is in its place, or above that.
struct Blocked(Vec<u8>);
