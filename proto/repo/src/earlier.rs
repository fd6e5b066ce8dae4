//! Changes of earlier tasks: which of them some files have already, because they were applied.

use std::collections::BTreeSet;

use crate::{
    error::{Error, Result},
    git::{Git, check_commit},
    manifest::{Raw, Renames, diff},
    merge::{Merge, contains, merge},
    quarantine::has_commit,
    snapshot::commit_tree,
};

/// The change of an earlier task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Earlier {
    /// The snapshot that it started from.
    pub start: String,
    /// What its own files began as: the snapshot with the changes before it.
    pub base: String,
    /// Its result.
    pub commit: String,
    /// Whether it is known to have been applied; its files may have been edited since.
    pub applied: bool,
}

impl Earlier {
    /// The same, for files of another time than that at which it is known to have been applied.
    pub(crate) fn not_known_to_be_applied(&self) -> Self {
        Self {
            applied: false,
            ..self.clone()
        }
    }
}

/// What an earlier change did; nothing where it is not known here.
#[derive(Debug, Default)]
pub(crate) struct Read {
    pub files: Vec<Raw>,
    is_here: bool,
}

impl Read {
    /// Whether all of it is in the repository.
    pub(crate) fn is_here(&self) -> bool {
        self.is_here
    }
}

/// Reads what the earlier changes did.
pub(crate) fn read(git: &Git, earlier: &[Earlier]) -> Result<Vec<Read>> {
    earlier
        .iter()
        .map(|earlier| read_one(git, earlier))
        .collect()
}

/// Reads what one of them did.
pub(crate) fn read_one(git: &Git, earlier: &Earlier) -> Result<Read> {
    check_commit(&earlier.start)?;
    check_commit(&earlier.base)?;
    check_commit(&earlier.commit)?;
    // One that was left out of the base is not in the bundle.
    for commit in [&earlier.start, &earlier.base, &earlier.commit] {
        if !has_commit(git, commit)? {
            return Ok(Read::default());
        }
    }
    Ok(Read {
        files: diff(git, &earlier.start, &earlier.commit, Renames::Ignore)?,
        is_here: true,
    })
}

/// For each earlier change whether the files of the tree `here` have it already; `head` is the commit
/// below them.
pub(crate) fn are_in(
    git: &Git,
    head: Option<&str>,
    here: &str,
    earlier: &[Earlier],
    read: &[Read],
) -> Result<Vec<bool>> {
    let is_in = |(earlier, read): (&Earlier, &Read)| match (read.is_here, head) {
        (false, _) => Ok(false),
        (true, Some(head)) if contains(git, head, &earlier.commit)? => Ok(true),
        (true, Some(_) | None) => Ok(has_its_files(git, here, earlier, &read.files)?.is_likely()),
    };
    earlier.iter().zip(read).map(is_in).collect()
}

/// Whether the files of the tree `here` have a change as a whole, whatever the commit below them has.
pub(crate) fn is_in_files(git: &Git, here: &str, change: &Earlier, read: &Read) -> Result<bool> {
    Ok(read.is_here && has_its_files(git, here, change, &read.files)? == There::Whole)
}

/// How much of a change is in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum There {
    /// All of it: merged with what is there, it changes nothing.
    Whole,
    /// Each of its files is other than before it, and some of that does not go together with it: it was
    /// edited since, or it was taken back and something else came to its place.
    Edited,
    /// Not, or not all of it.
    No,
}

impl There {
    /// Whether it is taken to be there, where it is known to have been applied.
    fn is_likely(self) -> bool {
        matches!(self, Self::Whole | Self::Edited)
    }
}

/// Whether each of its files is as the change has it or, if it is known to have been applied, was edited
/// since.
fn has_its_files(git: &Git, here: &str, earlier: &Earlier, files: &[Raw]) -> Result<There> {
    let differs = |from: &str| -> Result<BTreeSet<Vec<u8>>, Error> {
        let files = diff(git, from, here, Renames::Ignore)?;
        Ok(files.into_iter().map(|file| file.path).collect())
    };
    let since = differs(&earlier.commit)?;
    if files.iter().all(|file| !since.contains(&file.path)) {
        return Ok(There::Whole);
    }
    if !earlier.applied {
        return Ok(There::No);
    }
    let (before, base) = (differs(&earlier.start)?, differs(&earlier.base)?);
    let is_edited = |path: &[u8]| before.contains(path) && base.contains(path);
    let is_in = |file: &Raw| !since.contains(&file.path) || is_edited(&file.path);
    if !files.iter().all(is_in) {
        return Ok(There::No);
    }
    // It may be the user's edits alone: of another clone, or of files that were taken back before.
    let ours = commit_tree(git, here, &[&earlier.start], b"work tree\n")?;
    Ok(match merge(git, &ours, &earlier.commit)? {
        Merge::Tree(tree) if tree == here => There::Whole,
        Merge::Tree(_) => There::No,
        Merge::Conflict(_) => There::Edited,
    })
}
