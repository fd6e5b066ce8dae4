//! What the files of two commits have in common though git does not see it.
//!
//! A task that was added when some of a chain was applied begins with files that have these changes, and comes
//! after a task that began before they were applied and was built on them. Both sides have the same lines, each
//! by itself, and git takes that for a conflict:
//!
//! ```text
//! the task before it:  A ── + B + C ── + D     A was applied when it was added, B and C it was built on
//! this one:            A B                     B is applied too
//! both began from:     A                       as git sees it
//! in common:           A B
//! ```

use crate::{
    earlier::{self, Earlier},
    error::Result,
    git::Git,
    merge::{Merge, contains, merge},
    snapshot::commit_tree,
};

const MESSAGE: &[u8] = b"in common\n";

/// Merges the result of `change` into `tip`, where git finds a conflict since what both have of `below` are other
/// commits on each side. None where that does not help.
pub(crate) fn merge_from_common(
    git: &Git,
    tip: &str,
    change: &Earlier,
    below: &[Earlier],
) -> Result<Option<String>> {
    if change.commit == change.base {
        // It only passes on what others did.
        return Ok(None);
    }
    let shared = shared(git, tip, change, below)?;
    if shared.is_empty() {
        return Ok(None);
    }
    let mut common = tree(git, &change.start)?;
    for one in shared {
        let (before, after) = (tree(git, &one.base)?, tree(git, &one.commit)?);
        match three_way(git, &before, &common, &after)? {
            Some(with) => common = with,
            None => return Ok(None),
        }
    }
    let (ours, theirs) = (tree(git, tip)?, tree(git, &change.commit)?);
    three_way(git, &common, &ours, &theirs)
}

/// The changes of `below` that `tip` and `change` have, and what `change` started from has not; what comes before
/// another one comes first.
fn shared<'a>(
    git: &Git,
    tip: &str,
    change: &Earlier,
    below: &'a [Earlier],
) -> Result<Vec<&'a Earlier>> {
    let mut both: Vec<&Earlier> = Vec::new();
    for one in below {
        let is_known = both.iter().any(|known| known.commit == one.commit);
        let in_both = || -> Result<bool> {
            Ok(contains(git, tip, &one.commit)? && contains(git, &change.commit, &one.commit)?)
        };
        if !is_known && in_both()? {
            both.push(one);
        }
    }
    let new = not_in(git, &change.start, both)?;
    in_order(git, &change.start, new)
}

/// Those that the files of `start` have not: neither by themselves nor within a later one.
fn not_in<'a>(git: &Git, start: &str, all: Vec<&'a Earlier>) -> Result<Vec<&'a Earlier>> {
    let unknown: Vec<Earlier> = all.iter().map(|e| e.not_known_to_be_applied()).collect();
    let read = earlier::read(git, &unknown)?;
    if read.iter().any(|read| !read.is_here()) {
        // What one of them did nobody can tell.
        return Ok(Vec::new());
    }
    let is_in = earlier::are_in(git, Some(start), &tree(git, start)?, &unknown, &read)?;
    let there = all.iter().zip(is_in).filter(|(_, is)| *is);
    let there: Vec<&str> = there.map(|(one, _)| one.commit.as_str()).collect();
    let mut new = Vec::new();
    for one in all {
        let mut within = false;
        for later in &there {
            within = within || contains(git, later, &one.commit)?;
        }
        if !within {
            new.push(one);
        }
    }
    Ok(new)
}

fn in_order<'a>(git: &Git, start: &str, all: Vec<&'a Earlier>) -> Result<Vec<&'a Earlier>> {
    if all.len() < 2 {
        return Ok(all);
    }
    let mut args = vec!["rev-list", "--topo-order", "--reverse"];
    args.extend(all.iter().map(|one| one.commit.as_str()));
    args.extend(["--not", start]);
    let listed = git.line(&args)?;
    let place = |one: &&Earlier| listed.lines().position(|commit| commit == one.commit);
    let mut ordered = all;
    ordered.sort_by_key(place);
    Ok(ordered)
}

fn tree(git: &Git, commit: &str) -> Result<String> {
    git.line(&["rev-parse", &format!("{commit}^{{tree}}")])
}

/// Merges two trees that began from a third one; none where they disagree.
fn three_way(git: &Git, base: &str, ours: &str, theirs: &str) -> Result<Option<String>> {
    let base = commit_tree(git, base, &[], MESSAGE)?;
    let ours = commit_tree(git, ours, &[&base], MESSAGE)?;
    let theirs = commit_tree(git, theirs, &[&base], MESSAGE)?;
    Ok(match merge(git, &ours, &theirs)? {
        Merge::Tree(tree) => Some(tree),
        Merge::Conflict(_) => None,
    })
}
