//! Branches of Orchestra in the user's repository.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use orchestra_types::TaskId;

use crate::{
    action,
    checkout::Checkout,
    choice::OTHERS_MAX,
    error::{Error, IoContext, Result},
    git::{Git, check_commit},
    in_use::refuse_in_use,
    merge::contains,
    quarantine::{fetch_objects, has_commit},
    received::Received,
};

/// Below which all of them are.
pub(crate) const PREFIX: &str = "orchestra/";

/// The branch that holds the work on a task.
#[must_use]
pub fn task_branch(task: TaskId) -> String {
    format!("{PREFIX}{task}")
}

/// Puts the branch of a change into the user's repository under the same name, in place of what an
/// earlier attempt of the task left there. Only names below `orchestra/` are ever written. A branch that somebody went on with stays as it is, and so does one of
/// the same name that another cluster made: that is no error where it has the change's commits. The reflog says
/// for which cluster it was written.
///
/// # Errors
/// When the branch is checked out, or has commits that are not of this task, or git fails.
pub fn import_branch(
    checkout: &Checkout,
    received: &Received<'_>,
    cluster: Option<&str>,
) -> Result<()> {
    let (branch, commit) = (received.change.branch, received.change.commit);
    let full = full(branch);
    let git = writer(checkout);
    let old = tip(&git, &full)?;
    if let Some(tip) = &old {
        if has_commit(&git, commit)? && contains(&git, tip, commit)? {
            return Ok(());
        }
        if !received.change.attempts.contains(tip) {
            return Err(moved(branch));
        }
    }
    refuse_in_use(checkout, branch)?;
    refuse_taken(&git, branch)?;
    let bundle = received.change.bundle;
    let message = action::message(cluster);
    match replace(&git, bundle, &full, (old.as_deref(), commit), &message)? {
        true => Ok(()),
        false => Err(moved(branch)),
    }
}

fn moved(branch: &str) -> Error {
    Error::BranchMoved {
        branch: branch.to_owned(),
    }
}

/// Puts a branch of a bundle into the repository, as `commit`, if the branch is what it was: `old`, or
/// nothing. Another cluster may be about to make one of this name, and a person may have gone on with it.
/// Whether the branch is that commit now.
fn replace(
    git: &Git,
    bundle: &Path,
    full: &str,
    (old, commit): (Option<&str>, &str),
    message: &str,
) -> Result<bool> {
    fetch_objects(git, bundle, full)?;
    set_branch(git, full, (old, commit), message)
}

/// Makes a branch of a commit that is in the repository, if the branch is what it was.
pub(crate) fn set_branch(
    git: &Git,
    full: &str,
    (old, commit): (Option<&str>, &str),
    message: &str,
) -> Result<bool> {
    let none = "0".repeat(commit.len());
    let args = [
        "update-ref",
        "-m",
        message,
        full,
        commit,
        old.unwrap_or(&none),
    ];
    match git.output(&args) {
        Ok(_) => Ok(true),
        Err(error) => match tip(git, full)? {
            Some(tip) if tip == commit => Ok(true),
            tip if tip.as_deref() == old => Err(error),
            Some(_) | None => Ok(false),
        },
    }
}

/// What the name of a change's branch is in the user's repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BranchHere {
    /// A branch with the change's commit.
    There,
    /// Nothing, or what an earlier attempt of the task left: [`import_branch`] makes it.
    Missing,
    /// A branch with commits that are not of this task, as of another cluster or of the user: it stays.
    Anothers,
}

/// Looks for the branch of a change in the user's repository. `attempts` are the commits that the task's attempts
/// left.
///
/// # Errors
/// When git fails.
pub fn branch_here(
    checkout: &Checkout,
    branch: &str,
    commit: &str,
    attempts: &[String],
) -> Result<BranchHere> {
    check_branch(branch)?;
    check_commit(commit)?;
    let git = checkout.git();
    let Some(tip) = tip(&git, &full(branch))? else {
        return Ok(BranchHere::Missing);
    };
    if has_commit(&git, commit)? && contains(&git, &tip, commit)? {
        return Ok(BranchHere::There);
    }
    Ok(match attempts.contains(&tip) {
        true => BranchHere::Missing,
        false => BranchHere::Anothers,
    })
}

/// The branch of the user's, if there is one, that has the name of the directory in which all of ours would be:
/// none of ours can be made beside it.
///
/// # Errors
/// When git fails.
pub fn branch_above_ours(checkout: &Checkout) -> Result<Option<String>> {
    above(&checkout.git())
}

fn above(git: &Git) -> Result<Option<String>> {
    let above = PREFIX.trim_end_matches('/');
    let is_there = tip(git, &format!("refs/heads/{above}"))?.is_some();
    Ok(is_there.then(|| above.to_owned()))
}

/// Refuses where a branch has the name of the directory in which ours would be, or lies in one that has the
/// name of ours.
fn refuse_taken(git: &Git, branch: &str) -> Result<()> {
    if let Some(taken) = above(git)? {
        return Err(Error::BranchAbove {
            taken,
            branch: branch.to_owned(),
        });
    }
    refuse_below(git, branch)
}

/// Refuses where a branch lies in a directory of this name.
pub(crate) fn refuse_below(git: &Git, branch: &str) -> Result<()> {
    let inside = format!("refs/heads/{branch}/");
    let found = git.output(&["for-each-ref", "--count=1", "--format=%(refname)", &inside])?;
    match String::from_utf8_lossy(&found)
        .trim_end()
        .strip_prefix("refs/heads/")
    {
        None => Ok(()),
        Some(below) => Err(Error::BranchBelow {
            taken: below.to_owned(),
            branch: branch.to_owned(),
        }),
    }
}

/// Longest list at the beginning of a bundle that is read.
const LIST_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What became of the branches beside a task's result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Others {
    /// Those that are in the repository now.
    pub made: Vec<String>,
    /// Those whose name something else has there.
    pub left_alone: Vec<String>,
}

/// The branches beside a task's result that a bundle holds, and their commits: what the agent left on
/// branches of its own and in stashes. The bundle is not looked at further.
///
/// # Errors
/// When the bundle cannot be read.
pub fn others_in(bundle: &Path, task: TaskId) -> Result<Vec<(String, String)>> {
    let beside = format!("refs/heads/{}-", task_branch(task));
    let mut found = Vec::new();
    for line in list_of(bundle).at("read", bundle)? {
        let Some((commit, full)) = line.split_once(' ') else {
            continue;
        };
        let branch = full.strip_prefix("refs/heads/").unwrap_or_default();
        if full.starts_with(&beside) && found.len() < OTHERS_MAX {
            check_branch(branch)?;
            check_commit(commit)?;
            found.push((branch.to_owned(), commit.to_owned()));
        }
    }
    Ok(found)
}

/// Puts the branches beside a task's result into the user's repository. One whose name something else has
/// there stays as it is.
///
/// # Errors
/// When the bundle is not sound, or git fails.
pub fn import_others(
    checkout: &Checkout,
    bundle: &Path,
    task: TaskId,
    cluster: Option<&str>,
) -> Result<Others> {
    let git = writer(checkout);
    let message = action::message(cluster);
    let mut others = Others::default();
    for (branch, commit) in others_in(bundle, task)? {
        let full = full(&branch);
        match tip(&git, &full)? {
            Some(tip) if tip != commit => {
                others.left_alone.push(branch);
                continue;
            }
            Some(_) => {}
            None => {
                refuse_in_use(checkout, &branch)?;
                refuse_taken(&git, &branch)?;
                if !replace(&git, bundle, &full, (None, &commit), &message)? {
                    others.left_alone.push(branch);
                    continue;
                }
            }
        }
        others.made.push(branch);
    }
    Ok(others)
}

/// The lines at the beginning of a bundle that say what it holds.
fn list_of(bundle: &Path) -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    let mut from = BufReader::new(File::open(bundle)?.take(LIST_BYTES_MAX));
    loop {
        let mut line = Vec::new();
        from.read_until(b'\n', &mut line)?;
        match line.trim_ascii_end() {
            b"" => return Ok(lines),
            // Its kind, and what it needs.
            [b'#' | b'@' | b'-', ..] => {}
            line => lines.push(String::from_utf8_lossy(line).into_owned()),
        }
    }
}

/// git that writes reflogs, also where they are off: a person finds what was there before.
pub(crate) fn writer(checkout: &Checkout) -> Git {
    checkout.git().option("core.logAllRefUpdates=always")
}

/// The name of a branch among all that git names.
pub(crate) fn full(branch: &str) -> String {
    format!("refs/heads/{branch}")
}

/// The commit that a branch is; none where there is no such branch.
pub(crate) fn tip(git: &Git, full: &str) -> Result<Option<String>> {
    // It names what lies below the name as well.
    let found = git.output(&["for-each-ref", "--format=%(objectname) %(refname)", full])?;
    let found = String::from_utf8_lossy(&found);
    let mut found = found.lines().filter_map(|line| line.split_once(' '));
    Ok(found.find_map(|(commit, name)| (name == full).then(|| commit.to_owned())))
}

/// Refuses what is not a plain name below `orchestra/`.
pub(crate) fn check_branch(branch: &str) -> Result<()> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    match branch.strip_prefix(PREFIX) {
        Some(name) if !name.is_empty() && name.bytes().all(plain) && !name.starts_with('-') => {
            Ok(())
        }
        _ => Err(Error::BadBranch {
            branch: branch.chars().take(80).collect(),
        }),
    }
}
