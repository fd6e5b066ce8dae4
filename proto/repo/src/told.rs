//! Whether a bundle holds what was told of it.
//!
//! People look at a patch and at a list of files before they take a change, and take a bundle. All three
//! come from the worker. So whoever takes the bundle makes the other two from its objects, as an honest
//! worker does, and compares.
//!
//! Another git may write the same change in other words: it compresses binary files otherwise, or finds
//! other lines or renames. So forms that are not the same bytes are compared by what they say: the list by
//! each path that came, went or changed, the patch by the files that it makes of those before it. What
//! people could have read must be there all the same: no text may be told as binary.

mod base;
mod files;
mod patch;

use std::path::Path;

use orchestra_types::Manifest;

use crate::{
    apply::Change,
    error::{Error, Result},
    git::check_commit,
    manifest::{Renames, Sides, entries, manifest, renames_in_patch},
    merge::contains,
    quarantine::Quarantine,
};

/// What was told of a change beside its bundle.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// The commit that it is told from: the snapshot, with the changes of the tasks before it.
    pub base: &'a str,
    /// Results of the tasks before it, and the snapshots that those started from; none where some of these
    /// tasks are forgotten, so that nobody can tell what the base is made of.
    pub sources: Option<&'a [String]>,
    /// The files.
    pub manifest: &'a Manifest,
    /// The patch; none where it is empty, or too large to be kept.
    pub patch: Option<&'a Path>,
}

/// Requires that a change from its base to its commit is what was told of it.
pub(crate) fn require(quarantine: &Quarantine, change: &Change<'_>) -> Result<()> {
    let (commit, told) = (change.commit, &change.told);
    check_commit(told.base)?;
    let git = quarantine.git();
    if let Some(sources) = told.sources {
        base::require(git, change, sources)?;
    }
    if !contains(git, commit, told.base)? {
        let base = told.base;
        return Err(differs(format!(
            "its commit {commit} does not come after {base}, from which its change is told"
        )));
    }
    let sides = Sides::Trees {
        old: told.base,
        new: commit,
    };
    let here = manifest(git, sides)?.manifest;
    let renames = renames_in_patch(&here);
    let is_patch = patch::is_made_of(git, (told.base, commit), renames, told.patch)?;
    if is_patch && here.entries == told.manifest.entries {
        return Ok(());
    }
    let (raw, plain) = entries(git, sides, Renames::Ignore)?;
    files::require(&plain, &told.manifest.entries)?;
    files::require_quoted(&plain, &told.manifest.entries)?;
    let counted = match told.patch {
        Some(patch) if !is_patch => {
            patch::require(quarantine, (told.base, commit), patch, &raw, &plain)?
        }
        Some(_) => Vec::new(),
        None if is_patch => Vec::new(),
        None => {
            return Err(differs(
                "it changes files, and there is no patch".to_owned(),
            ));
        }
    };
    files::require_lines(&[&here.entries, &plain, &counted], &told.manifest.entries)
}

/// The bundle is another change.
fn differs(what: String) -> Error {
    Error::NotAsTold { what }
}
