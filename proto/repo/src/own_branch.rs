//! A change as a branch that has a name of the user's choice. Nothing is written over: what has the name stays.

use std::{fmt, str::FromStr};

use crate::{
    action,
    checkout::Checkout,
    error::{Error, Result},
    import::{PREFIX, full, refuse_below, set_branch, tip, writer},
    in_use::refuse_in_use,
    quarantine::fetch_objects,
    received::Received,
};

/// Longest name. Git keeps it as the name of a file.
const BYTES_MAX: usize = 200;

/// A name that git takes for a branch, and that is none of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnBranch(String);

/// Why a text is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// It is not one for git.
    #[error("git takes no branch of this name")]
    NotOfGit,
    /// It is, or lies in, the directory of the branches of tasks.
    #[error("the branches of tasks are called so (orchestra/task_001)")]
    OfTasks,
    /// It is longer than file systems take it.
    #[error("it is longer than {BYTES_MAX} bytes")]
    TooLong,
}

impl OwnBranch {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OwnBranch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for OwnBranch {
    type Err = BadName;

    fn from_str(name: &str) -> std::result::Result<Self, BadName> {
        let of_tasks = PREFIX.trim_end_matches('/');
        match name {
            name if !is_of_git(name) => Err(BadName::NotOfGit),
            name if name == of_tasks || name.starts_with(PREFIX) => Err(BadName::OfTasks),
            name if name.len() > BYTES_MAX => Err(BadName::TooLong),
            name => Ok(Self(name.to_owned())),
        }
    }
}

/// What `git check-ref-format --branch` takes, without what stands for another name.
fn is_of_git(name: &str) -> bool {
    let odd = |c: char| c.is_ascii_control() || " ~^:?*[\\".contains(c);
    let part = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
    name.split('/').all(part)
        && !name.contains(odd)
        && !name.contains("..")
        && !name.contains("@{")
        && !name.ends_with('.')
        && !name.starts_with('-')
        && !["@", "HEAD"].contains(&name)
}

/// Puts a change into the user's repository as a branch of this name, and of no other. One that is there already
/// with just this change is no error.
///
/// # Errors
/// When something else has the name, or one above or below it, a work tree is at work on it, or git fails.
pub fn import_branch_as(
    checkout: &Checkout,
    received: &Received<'_>,
    name: &OwnBranch,
    cluster: Option<&str>,
) -> Result<()> {
    let (change, name) = (&received.change, name.as_str());
    let git = writer(checkout);
    let taken = || Error::BranchTaken {
        branch: name.to_owned(),
    };
    match tip(&git, &full(name))? {
        Some(tip) if tip == change.commit => return Ok(()),
        Some(_) => return Err(taken()),
        None => {}
    }
    refuse_in_use(checkout, name)?;
    let slashes = name.match_indices('/').map(|(end, _)| &name[..end]);
    for above in slashes {
        if tip(&git, &full(above))?.is_some() {
            return Err(Error::BranchAbove {
                taken: above.to_owned(),
                branch: name.to_owned(),
            });
        }
    }
    refuse_below(&git, name)?;
    fetch_objects(&git, change.bundle, &full(change.branch))?;
    let message = action::message(cluster);
    match set_branch(&git, &full(name), (None, change.commit), &message)? {
        true => Ok(()),
        false => Err(taken()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_that_git_takes_and_none_of_a_task() {
        for good in ["fix", "fix/login-form", "ä", "a@b", "x.y", "orchestral"] {
            assert_eq!(good.parse::<OwnBranch>().unwrap().as_str(), good);
        }
        let bad = [
            "", "-x", "a b", "a..b", "a//b", "/a", "a/", ".a", "a/.b", "a.lock", "a.", "@", "HEAD",
            "@{-1}", "a~1", "a^", "a:b", "a\\b", "a*", "a?", "a[", "a\n",
        ];
        for bad in bad {
            assert_eq!(bad.parse::<OwnBranch>(), Err(BadName::NotOfGit), "{bad:?}");
        }
        for ours in ["orchestra", "orchestra/task_001", "orchestra/x"] {
            assert_eq!(ours.parse::<OwnBranch>(), Err(BadName::OfTasks), "{ours}");
        }
        let long = "a".repeat(BYTES_MAX + 1);
        assert_eq!(long.parse::<OwnBranch>(), Err(BadName::TooLong));
    }
}
