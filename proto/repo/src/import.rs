//! Branches of Orchestra in the user's repository.

use std::path::Path;

use orchestra_types::TaskId;

use crate::{
    checkout::Checkout,
    error::{Error, Result},
    quarantine::fetch,
};

const PREFIX: &str = "orchestra/";

/// The branch that holds the work on a task.
#[must_use]
pub fn task_branch(task: TaskId) -> String {
    format!("{PREFIX}{task}")
}

/// Puts the branch of a bundle into the user's repository under the same name, whatever that
/// branch was before. Only names below `orchestra/` are ever written.
///
/// # Errors
/// When the branch is not one of Orchestra, is checked out, or the bundle is not sound.
pub fn import_branch(checkout: &Checkout, bundle: &Path, branch: &str) -> Result<()> {
    check_branch(branch)?;
    let full = format!("refs/heads/{branch}");
    fetch(&checkout.git(), bundle, &full, &full)
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
