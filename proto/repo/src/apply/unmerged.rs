//! Whether git merges a change while the checkout is as it is.

use std::collections::BTreeSet;

use super::{head_tree, here::Here, paths, written::Written};
use crate::{
    checkout::Checkout,
    error::Result,
    manifest::{Raw, Renames, diff},
    merge::contains,
    received::Received,
};

/// Whether something in the checkout that is not committed keeps git from merging the branch of the change.
/// Git merges nothing over such files, unless they are staged as the branch has them and HEAD has only to be
/// moved on; where it has not, it merges nothing at all while something is staged.
///
/// # Errors
/// When git fails.
pub fn keeps_from_merging(checkout: &Checkout, received: &Received<'_>) -> Result<bool> {
    let Some(head) = checkout.head() else {
        return Ok(false);
    };
    let Received { change, quarantine } = received;
    let moves_on = contains(quarantine.git(), change.commit, head)?;
    let staged = ["diff-index", "--cached", "--name-only", "-z", head];
    if !moves_on && !checkout.git().output(&staged)?.is_empty() {
        return Ok(true);
    }
    let tree = head_tree(checkout, quarantine)?;
    let merged = diff(quarantine.git(), &tree, change.commit, Renames::Ignore)?;
    let at: BTreeSet<Vec<u8>> = paths(&merged).collect();
    let here = Here::read(checkout, quarantine, &tree, &at, |_| Written::default())?;
    let is_edited = |file: &&Raw| here.uncommitted.contains_key(&file.path);
    let mut edited = merged.iter().filter(is_edited);
    Ok(edited.any(|file| !(moves_on && is_staged(&here, file))))
}

/// Whether the user's index has this file as the branch has it.
fn is_staged(here: &Here, file: &Raw) -> bool {
    match here.index.get(&file.path) {
        Some((mode, id)) => !file.is_deleted() && (*mode, id) == (file.new_mode, &file.new_id),
        None => file.is_deleted(),
    }
}
