//! What a change is told from: the snapshot, with nothing but the results of earlier tasks.
//!
//! A change brings with it what it was built on, and its own patch shows none of that. So nothing else may
//! be there: from the base down, each commit is the snapshot, a result or snapshot of an earlier task, a
//! joint of ours that has the files of the commit before it, or the merge of two such commits, which is made
//! again.

use std::collections::BTreeSet;

use super::differs;
use crate::{
    apply::Change,
    common::merge_from_common,
    earlier::Earlier,
    error::Result,
    git::{Git, check_commit},
    merge::{Merge, merge},
};

/// Most commits that are looked at: a task has a few for each one that it comes after.
const COMMITS_MAX: usize = 1000;

/// Requires that what a change is told from is made of its snapshot and `sources` alone.
pub(super) fn require(git: &Git, change: &Change<'_>, sources: &[String]) -> Result<()> {
    let is_known =
        |commit: &str| commit == change.start || sources.iter().any(|known| known == commit);
    let mut seen = BTreeSet::new();
    let mut next = vec![change.told.base.to_owned()];
    while let Some(commit) = next.pop() {
        if is_known(&commit) || !seen.insert(commit.clone()) {
            continue;
        }
        match below(git, &commit, change.earlier)? {
            Some(below) if seen.len() <= COMMITS_MAX => next.extend(below),
            Some(_) | None => {
                return Err(differs(format!(
                    "it builds on {commit}, which is no result of an earlier task"
                )));
            }
        }
    }
    Ok(())
}

/// The commits that all files of this one come from; none where it has files of its own.
fn below(git: &Git, commit: &str, earlier: &[Earlier]) -> Result<Option<Vec<String>>> {
    let tree = |of: &str| git.line(&["rev-parse", "--verify", &format!("{of}^{{tree}}")]);
    let parents = git.line(&["rev-parse", &format!("{commit}^@")])?;
    let parents: Vec<String> = parents.lines().map(str::to_owned).collect();
    parents.iter().try_for_each(|parent| check_commit(parent))?;
    let own = tree(commit)?;
    Ok(match parents.as_slice() {
        [first, _, ..] if tree(first)? == own => Some(vec![first.clone()]),
        [ours, theirs] if merged(git, ours, theirs, earlier)? == Some(own) => Some(parents),
        _ => None,
    })
}

/// The files that an honest worker has of the result of an earlier task and what it put that onto.
fn merged(git: &Git, ours: &str, theirs: &str, earlier: &[Earlier]) -> Result<Option<String>> {
    match (
        merge(git, ours, theirs)?,
        earlier.iter().find(|known| known.commit == theirs),
    ) {
        (Merge::Tree(tree), _) => Ok(Some(tree)),
        (Merge::Conflict(_), Some(change)) => merge_from_common(git, ours, change, earlier),
        (Merge::Conflict(_), None) => Ok(None),
    }
}
