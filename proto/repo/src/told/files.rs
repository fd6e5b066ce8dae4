//! The list of files that was told, and the one of the bundle.

use std::collections::BTreeSet;

use orchestra_types::{Digest, FileChange, ManifestEntry, limits::MANIFEST_ENTRIES_MAX};

use super::differs;
use crate::error::Result;

/// What became of a path, without a word of renames and lines.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct File<'a> {
    path: &'a str,
    change: &'static str,
    mode: u32,
    size: u64,
    sha256: Option<Digest>,
}

impl<'a> File<'a> {
    /// One that was renamed is two: one that came, and one that went.
    fn of(entry: &'a ManifestEntry) -> impl Iterator<Item = Self> {
        let (change, from) = match &entry.change {
            FileChange::Renamed { from } => (&FileChange::Added, Some(from)),
            change => (change, None),
        };
        let gone = from.map(|path| Self {
            path,
            change: FileChange::Deleted.as_str(),
            mode: 0,
            size: 0,
            sha256: None,
        });
        let file = Self {
            path: &entry.path,
            change: change.as_str(),
            mode: entry.mode,
            size: entry.size,
            sha256: entry.sha256,
        };
        [Some(file), gone].into_iter().flatten()
    }
}

/// Requires the same paths, each with the same kind of change, mode, size and hash. `here` is what the
/// bundle does, without renames.
pub(super) fn require(here: &[ManifestEntry], told: &[ManifestEntry]) -> Result<()> {
    let (here, said) = (sorted(here), sorted(told));
    // A list that was full names not all of them; the patch does.
    let is_full = told.len() >= MANIFEST_ENTRIES_MAX;
    let mut rest = here.iter().peekable();
    for file in &said {
        while let Some(other) = rest.next_if(|other| *other < file) {
            if !is_full || other.path == file.path {
                return Err(differs(difference(other, &said)));
            }
        }
        if rest.next_if(|other| *other == file).is_none() {
            return Err(differs(difference(file, &here)));
        }
    }
    match rest.next() {
        Some(other) if !is_full => Err(differs(difference(other, &said))),
        Some(_) | None => Ok(()),
    }
}

/// A name, how git quotes it, and the content that the file has by it.
type Name<'a> = (&'a str, &'a str, Option<Digest>);

/// Requires of each name that was told as git quotes it that it is quoted so. A worker of an earlier version
/// quotes none.
pub(super) fn require_quoted(here: &[ManifestEntry], told: &[ManifestEntry]) -> Result<()> {
    let known: BTreeSet<Name<'_>> = here.iter().filter_map(quoted).collect();
    let mut said = told.iter().flat_map(|e| [quoted(e), quoted_before(e)]);
    match said.find_map(|name| name.filter(|name| !known.contains(name))) {
        None => Ok(()),
        Some((path, quoted, _)) => Err(differs(format!(
            "`{path}` is called {quoted} in the list of files"
        ))),
    }
}

fn quoted(entry: &ManifestEntry) -> Option<Name<'_>> {
    let quoted = entry.path_quoted.as_deref()?;
    Some((&entry.path, quoted, entry.sha256))
}

/// The name that a renamed file had: without renames it is one that went.
fn quoted_before(entry: &ManifestEntry) -> Option<Name<'_>> {
    let quoted = entry.renamed_from_quoted.as_deref()?;
    let from = match &entry.change {
        FileChange::Renamed { from } => from.as_str(),
        FileChange::Added
        | FileChange::Modified
        | FileChange::Deleted
        | FileChange::ModeChanged => "",
    };
    Some((from, quoted, None))
}

fn sorted(entries: &[ManifestEntry]) -> Vec<File<'_>> {
    let mut files: Vec<File<'_>> = entries.iter().flat_map(File::of).collect();
    files.sort_unstable();
    files
}

/// How the path of one that only one side has is different.
fn difference(one: &File<'_>, other_side: &[File<'_>]) -> String {
    let path = one.path;
    match other_side.iter().find(|file| file.path == path) {
        None => format!(
            "only one of bundle and list of files has `{path}` ({})",
            one.change
        ),
        Some(other) if other.change != one.change => {
            let (one, other) = (one.change, other.change);
            format!("`{path}` is {one} in one of bundle and list of files, {other} in the other")
        }
        Some(other) if other.mode != one.mode => format!(
            "`{path}` has the mode {:06o} in one of bundle and list of files, {:06o} in the other",
            one.mode, other.mode
        ),
        Some(_) => format!("the content of `{path}` is another one than the list of files says"),
    }
}

/// Requires the lines of each file that was told: as one of `counted` has them.
pub(super) fn require_lines(counted: &[&[ManifestEntry]], told: &[ManifestEntry]) -> Result<()> {
    let key = |e: &ManifestEntry| (e.path.clone(), e.binary, e.lines_added, e.lines_removed);
    let known: BTreeSet<_> = counted.iter().copied().flatten().map(key).collect();
    match told.iter().find(|entry| !known.contains(&key(entry))) {
        None => Ok(()),
        Some(entry) => Err(differs(format!(
            "`{}` has other lines than the list of files says",
            entry.path
        ))),
    }
}
