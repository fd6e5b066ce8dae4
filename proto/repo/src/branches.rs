//! Branches of Orchestra that lie in the user's repository: whose they are, which other branch has their
//! commits too, and the removal of one.

use std::{collections::BTreeSet, path::PathBuf};

use orchestra_types::TaskId;

use crate::{
    checkout::Checkout,
    error::{Error, Result},
    git::{Git, Input},
    import::{PREFIX, check_branch, tip},
    in_use::{Held, in_use, refuse_in_use},
};

const HEADS: &str = "refs/heads/";
const REMOTES: &str = "refs/remotes/";

/// A branch that has the name of a task's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskBranch {
    /// `orchestra/task_001`, or beside it `orchestra/task_001-1-fix`.
    pub name: String,
    /// The task that the name says.
    pub task: TaskId,
    /// The attempt that left it beside its result; none of the result itself.
    pub beside: Option<u32>,
    /// What it is.
    pub commit: String,
    /// When that commit was made, in seconds since 1970.
    pub committed_at: u64,
    /// A branch that has all of its commits, and is none of ours: `main`, or the remote-tracking `origin/main`.
    pub within: Option<String>,
    /// The work tree that is at work on it.
    pub held: Option<(Held, PathBuf)>,
    /// A ref that is only another name of it.
    pub alias: Option<String>,
}

impl TaskBranch {
    /// What keeps it, whatever its commits are; none where nothing does.
    #[must_use]
    pub fn in_use(&self) -> Option<String> {
        match (&self.held, &self.alias) {
            (Some((held, dir)), _) => Some(format!("it {} in `{}`", held.words(), dir.display())),
            (None, Some(alias)) => Some(format!("`{alias}` is another name of it")),
            (None, None) => None,
        }
    }
}

/// A branch or a remote-tracking one.
struct Ref {
    commit: String,
    full: String,
    /// The ref that it is another name of; empty where it is none.
    symref: String,
}

/// All branches of the repository that have the name of a task's.
///
/// # Errors
/// When git fails, or what a work tree is at cannot be read.
pub fn task_branches(checkout: &Checkout) -> Result<Vec<TaskBranch>> {
    let git = checkout.git();
    let mut ours = own(&git)?;
    let refs = refs(&git)?;
    // One that is another name of a branch keeps nothing by itself.
    let keeps = |r: &&Ref| r.symref.is_empty() && task_of(short(&r.full)).is_none();
    let kept: Vec<&Ref> = refs.iter().filter(keeps).collect();
    let alone = alone(&git, &ours, &kept)?;
    let in_head = match checkout.branch().filter(|name| task_of(name).is_none()) {
        Some(name) => Some((name, merged(&git, name)?)),
        None => None,
    };
    for branch in &mut ours {
        let full = format!("{HEADS}{}", branch.name);
        branch.held = in_use(checkout, &branch.name)?;
        let alias = refs.iter().find(|r| r.symref == full);
        branch.alias = alias.map(|r| short(&r.full).to_owned());
        branch.within = match &in_head {
            _ if alone.contains(&branch.commit) => None,
            Some((name, merged)) if merged.contains(&full) => Some((*name).to_owned()),
            Some(_) | None => first_with(&git, &branch.commit, &kept)?,
        };
    }
    ours.sort_by(|a, b| (a.task, a.beside, &a.name).cmp(&(b.task, b.beside, &b.name)));
    Ok(ours)
}

/// Removes the branch if it is the same commit still. Whether it did: somebody may have gone on with it, or
/// removed it.
///
/// # Errors
/// When a work tree is at work on it by now, or git fails.
pub fn remove_branch(checkout: &Checkout, branch: &TaskBranch) -> Result<bool> {
    if task_of(&branch.name).is_none() {
        return Err(Error::BadBranch {
            branch: branch.name.clone(),
        });
    }
    refuse_in_use(checkout, &branch.name)?;
    let git = checkout.git();
    let full = format!("{HEADS}{}", branch.name);
    // Whatever the name has become meanwhile, what that points to stays.
    let args = ["update-ref", "--no-deref", "-d", &full, &branch.commit];
    match git.output(&args) {
        Ok(_) => Ok(true),
        Err(error) => match tip(&git, &full)? {
            Some(tip) if tip == branch.commit => Err(error),
            Some(_) | None => Ok(false),
        },
    }
}

/// The task and, of a branch beside its result, the attempt that the name of a branch says; none of any
/// other name.
fn task_of(branch: &str) -> Option<(TaskId, Option<u32>)> {
    check_branch(branch).ok()?;
    let name = branch.strip_prefix(PREFIX)?;
    let (id, rest) = match name.split_once('-') {
        Some((id, rest)) => (id, Some(rest)),
        None => (name, None),
    };
    let task: TaskId = id.parse().ok()?;
    if task.to_string() != id {
        return None;
    }
    let Some(rest) = rest else {
        return Some((task, None));
    };
    let (number, name) = rest.split_once('-')?;
    let attempt: u32 = number.parse().ok()?;
    (attempt.to_string() == number && !name.is_empty()).then_some((task, Some(attempt)))
}

/// As people call it: without `refs/heads/` or `refs/remotes/`.
fn short(full: &str) -> &str {
    let local = full.strip_prefix(HEADS);
    local.or(full.strip_prefix(REMOTES)).unwrap_or(full)
}

/// Those with the name of a task's, of which nothing more is known yet.
fn own(git: &Git) -> Result<Vec<TaskBranch>> {
    let format = "--format=%(objectname) %(committerdate:unix) %(refname) %(symref)";
    let found = git.output(&["for-each-ref", format, &format!("{HEADS}{PREFIX}")])?;
    let found = String::from_utf8_lossy(&found);
    let branch = |line: &str| {
        // One that is another name of something is not as Orchestra makes them.
        let [commit, at, full, ""] = words(line)? else {
            return None;
        };
        let name = full.strip_prefix(HEADS)?;
        let (task, beside) = task_of(name)?;
        Some(TaskBranch {
            name: name.to_owned(),
            task,
            beside,
            commit: commit.to_owned(),
            committed_at: at.parse().unwrap_or(0),
            within: None,
            held: None,
            alias: None,
        })
    };
    Ok(found.lines().filter_map(branch).collect())
}

fn words<const N: usize>(line: &str) -> Option<[&str; N]> {
    let words: Vec<&str> = line.split(' ').collect();
    words.try_into().ok()
}

fn refs(git: &Git) -> Result<Vec<Ref>> {
    let format = "--format=%(objectname) %(refname) %(symref)";
    let found = git.output(&["for-each-ref", format, HEADS, REMOTES])?;
    let found = String::from_utf8_lossy(&found);
    let one = |line: &str| {
        let [commit, full, symref] = words(line)?;
        Some(Ref {
            commit: commit.to_owned(),
            full: full.to_owned(),
            symref: symref.to_owned(),
        })
    };
    Ok(found.lines().filter_map(one).collect())
}

/// The tips of ours that none of the others has.
fn alone(git: &Git, ours: &[TaskBranch], kept: &[&Ref]) -> Result<BTreeSet<String>> {
    if ours.is_empty() {
        return Ok(BTreeSet::new());
    }
    let tips = ours.iter().map(|branch| format!("{}\n", branch.commit));
    let others = kept.iter().map(|r| format!("^{}\n", r.commit));
    let input: String = tips.chain(others).collect();
    let found = git.output_of(&["rev-list", "--stdin"], Input::Bytes(input.as_bytes()))?;
    let found = String::from_utf8_lossy(&found);
    let tips: BTreeSet<&str> = ours.iter().map(|branch| &*branch.commit).collect();
    let alone = found.lines().filter(|commit| tips.contains(commit));
    Ok(alone.map(str::to_owned).collect())
}

/// The refs of ours whose commits this branch has.
fn merged(git: &Git, branch: &str) -> Result<BTreeSet<String>> {
    let merged = format!("--merged={HEADS}{branch}");
    let below = format!("{HEADS}{PREFIX}");
    let found = git.output(&["for-each-ref", "--format=%(refname)", &merged, &below])?;
    let found = String::from_utf8_lossy(&found);
    Ok(found.lines().map(str::to_owned).collect())
}

/// The first of the others that has this commit.
fn first_with(git: &Git, commit: &str, kept: &[&Ref]) -> Result<Option<String>> {
    let contains = format!("--contains={commit}");
    let args = [
        "for-each-ref",
        "--format=%(refname)",
        &contains,
        HEADS,
        REMOTES,
    ];
    let found = git.output(&args)?;
    let found = String::from_utf8_lossy(&found);
    let mut found = found
        .lines()
        .filter(|full| kept.iter().any(|r| r.full == *full));
    Ok(found.next().map(|full| short(full).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_orchestra_gives_are_ours() {
        let of = |name: &str| task_of(name).map(|(task, beside)| (task.0, beside));
        assert_eq!(of("orchestra/task_007"), Some((7, None)));
        assert_eq!(of("orchestra/task_1234"), Some((1234, None)));
        assert_eq!(of("orchestra/task_007-2-fix-it"), Some((7, Some(2))));
        for other in [
            "orchestra/task_7",
            "orchestra/7",
            "orchestra/task_007-mine",
            "orchestra/task_007-2",
            "orchestra/task_007-2-",
            "orchestra/task_007-02-x",
            "orchestra/task_007/x",
            "orchestra/task_000",
            "orchestra/mine",
            "task_007",
            "main",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
