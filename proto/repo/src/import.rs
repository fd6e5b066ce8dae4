//! Branches of Orchestra in the user's repository.

use std::path::Path;

use orchestra_types::TaskId;

use crate::{
    checkout::Checkout,
    error::{Error, IoContext, Result},
    git::Git,
    merge::contains,
    quarantine::{fetch, has_commit},
};

const PREFIX: &str = "orchestra/";

/// The branch that holds the work on a task.
#[must_use]
pub fn task_branch(task: TaskId) -> String {
    format!("{PREFIX}{task}")
}

/// How the branch's reflog calls what is written here.
const ACTION: &str = "orchestra";

/// Puts the branch of a bundle into the user's repository under the same name, in place of what an
/// earlier attempt left there: `earlier` are the commits of this task's attempts. Only names below
/// `orchestra/` are ever written. A branch that somebody went on with stays as it is, and so does one of
/// the same name that another cluster made: that is no error where it has the bundle's commits.
///
/// # Errors
/// When the branch is not one of Orchestra, is checked out, or has commits that are not of this task, or
/// the bundle is not sound.
pub fn import_branch(
    checkout: &Checkout,
    bundle: &Path,
    branch: &str,
    earlier: &[String],
) -> Result<()> {
    check_branch(branch)?;
    let full = format!("refs/heads/{branch}");
    // Also where reflogs are off: a person finds what was there before.
    let git = checkout
        .git()
        .env("GIT_REFLOG_ACTION", ACTION)
        .option("core.logAllRefUpdates=always");
    if let Some(tip) = tip(&git, &full)? {
        let commit = head_of(&git, bundle, &full)?;
        if has_commit(&git, &commit)? && contains(&git, &tip, &commit)? {
            return Ok(());
        }
        if !earlier.contains(&tip) {
            return Err(Error::BranchMoved {
                branch: branch.to_owned(),
            });
        }
        if checkout.branch() == Some(branch) {
            return Err(Error::BranchInUse {
                branch: branch.to_owned(),
            });
        }
    }
    fetch(&git, bundle, &full, &full)
}

/// The commit that a branch is; none where there is no such branch.
fn tip(git: &Git, full: &str) -> Result<Option<String>> {
    let found = git.output(&["for-each-ref", "--format=%(objectname)", full])?;
    let found = String::from_utf8_lossy(&found).trim().to_owned();
    Ok(Some(found).filter(|found| !found.is_empty()))
}

/// The commit that a branch is in a bundle.
fn head_of(git: &Git, bundle: &Path, full: &str) -> Result<String> {
    let bundle = std::path::absolute(bundle).at("find", bundle)?;
    let args = [
        "bundle".as_ref(),
        "list-heads".as_ref(),
        bundle.as_os_str(),
        full.as_ref(),
    ];
    let line = git.line(&args)?;
    Ok(line.split(' ').next().unwrap_or_default().to_owned())
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
