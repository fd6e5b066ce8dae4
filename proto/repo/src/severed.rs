//! Commits that have lost some of what comes before them: an object is damaged, or was pruned.

use std::collections::BTreeSet;

use crate::{
    error::{Error, Result},
    git::{Git, Input},
};

/// Those of these commits of which the repository lacks an earlier one. Git tells only of all at once that a
/// walk fails, so that those that fail together are looked at by halves: few walks where few are severed.
pub(crate) fn severed(git: &Git, commits: &[&str]) -> Result<BTreeSet<String>> {
    let mut severed = BTreeSet::new();
    let mut left = vec![commits];
    while let Some(some) = left.pop() {
        if is_whole(git, some)? {
            continue;
        }
        match some {
            [one] => drop(severed.insert((*one).to_owned())),
            several => {
                let (first, second) = several.split_at(several.len() / 2);
                left.extend([second, first]);
            }
        }
    }
    Ok(severed)
}

/// Whether a walk through all that comes before them reaches its end.
fn is_whole(git: &Git, commits: &[&str]) -> Result<bool> {
    if commits.is_empty() {
        return Ok(true);
    }
    let asked: String = commits.iter().map(|commit| format!("{commit}\n")).collect();
    let args = ["rev-list", "--count", "--stdin"];
    match git.output_of(&args, Input::Bytes(asked.as_bytes())) {
        Ok(_) => Ok(true),
        Err(Error::Git { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
