//! Files that the user's git filters: for encrypted files, or large ones. An agent gets them as git keeps
//! them, and no filter is ever given what an agent wrote.

use std::collections::{BTreeMap, BTreeSet};

use super::{ApplyError, without::without};
use crate::{
    checkout::Checkout,
    error::Error,
    filters,
    git::{Git, records},
    manifest::Raw,
    names,
};

/// The paths of files that the user's filters are to make: the agent has moved or copied them, and what
/// git keeps of them is the user's own. Any other that is new is written as the agent made it.
///
/// # Errors
/// One that git filters was edited in the form in which git keeps it.
pub(super) fn unchanged(
    checkout: &Checkout,
    git: &Git,
    start: &str,
    branch: &str,
    files: &[Raw],
) -> Result<BTreeSet<Vec<u8>>, ApplyError> {
    let user = checkout.git();
    let set_up = filters::set_up(&user)?;
    let written: Vec<&Raw> = files.iter().filter(|file| !file.is_deleted()).collect();
    let paths: Vec<&[u8]> = written.iter().map(|file| file.path.as_slice()).collect();
    let filtered = filters::filtered(&user, &set_up, &paths)?;
    let filtered = written.into_iter().filter(|f| filtered.contains(&f.path));
    let filtered: Vec<&Raw> = filtered.collect();
    if filtered.is_empty() {
        return Ok(BTreeSet::new());
    }
    let before = places(git, start)?;
    let mut through = BTreeSet::new();
    let (mut edited, mut agents) = (Vec::new(), Vec::new());
    for file in filtered {
        let was = before.get(file.new_id.as_bytes());
        let was: Vec<&[u8]> = was.into_iter().flatten().map(Vec::as_slice).collect();
        if !filters::filtered(&user, &set_up, &was)?.is_empty() {
            through.insert(file.path.clone());
            continue;
        }
        agents.push(file.path.as_slice());
        if file.status != b'A' {
            edited.push(names::shown(&file.path));
        }
    }
    match edited.split_first() {
        None => Ok(through),
        Some((path, more)) => Err(ApplyError::Unsafe {
            path: path.clone(),
            why: why(more, &agents, branch),
        }),
    }
}

/// Why such files are not written, `more` of them than the one that is named, and how the rest of the change
/// comes without all that is `agents` and filtered.
fn why(more: &[String], agents: &[&[u8]], branch: &str) -> String {
    let more = match more {
        [] => String::new(),
        more => format!(", and {}", names::listed(more)),
    };
    let rest = without(branch, agents);
    format!(
        "git filters it{more}, the agent had it as git keeps it, and the filter is not given what an agent \
         wrote; {rest} makes a branch with all of it"
    )
}

/// Where each content is in a tree.
fn places(git: &Git, tree: &str) -> Result<BTreeMap<Vec<u8>, Vec<Vec<u8>>>, Error> {
    let output = git.output(&["ls-tree", "-z", "-r", tree])?;
    let mut places: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
    for record in records(&output) {
        // `MODE TYPE ID<tab>PATH`
        let Some(tab) = record.iter().position(|b| *b == b'\t') else {
            continue;
        };
        let id = record[..tab].rsplit(|b| *b == b' ').next();
        let path = record[tab + 1..].to_vec();
        places
            .entry(id.unwrap_or_default().to_vec())
            .or_default()
            .push(path);
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_were_edited_are_named() {
        let names: Vec<String> = (0..40).map(|n| format!("{n}.enc")).collect();
        let paths: Vec<&[u8]> = names.iter().map(|name| name.as_bytes()).collect();
        let said = why(&names[1..], &paths, "orchestra/task_001");
        assert!(said.contains("`1.enc`") && said.contains("more"), "{said}");
        assert!(said.contains("40 files"), "{said}");
    }
}
