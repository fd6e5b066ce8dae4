//! A change in a repository that vanishes, where it was looked at: what people take is what was told.

use crate::{
    apply::Change,
    checkout::Checkout,
    error::{Error, Result},
    git::check_commit,
    import::check_branch,
    merge::contains,
    quarantine::{Quarantine, has_commit},
    told,
};

const CHANGE_REF: &str = "refs/orchestra/change";
const ATTEMPT_REF: &str = "refs/orchestra/attempt";

/// A change that is in a repository of its own, its objects checked, and that is what was told of it.
/// Nothing of the user's was touched.
#[derive(Debug)]
pub struct Received<'a> {
    pub(crate) change: Change<'a>,
    pub(crate) quarantine: Quarantine,
}

impl<'a> Received<'a> {
    /// Takes the change out of its bundle.
    ///
    /// # Errors
    /// When the bundle is not sound, or not for this checkout; [`Error::NotAsTold`] when it holds another
    /// change than list of files and patch say.
    pub fn take(checkout: &Checkout, change: &Change<'a>) -> Result<Self> {
        let quarantine = Quarantine::new(checkout.format(), &[checkout.objects()])?;
        receive(&quarantine, change, CHANGE_REF)?;
        Ok(Self {
            change: *change,
            quarantine,
        })
    }

    /// Whether no merge is among its commits since its start.
    ///
    /// # Errors
    /// When git fails.
    pub fn is_linear(&self) -> Result<bool> {
        let range = format!("{}..{}", self.change.start, self.change.commit);
        let first = ["rev-list", "--merges", "--max-count=1", &range];
        Ok(self.quarantine.git().line(&first)?.is_empty())
    }

    /// Takes another attempt of the same task beside it, out of a bundle of its own, so that an apply can tell
    /// whether that one is in the work tree.
    ///
    /// # Errors
    /// As [`Received::take`].
    pub fn take_attempt(&self, attempt: &Change<'_>) -> Result<()> {
        receive(&self.quarantine, attempt, ATTEMPT_REF)
    }
}

/// Takes a change out of its bundle, as `name`, if it is what was told of it.
fn receive(quarantine: &Quarantine, change: &Change<'_>, name: &str) -> Result<()> {
    check_branch(change.branch)?;
    check_commit(change.commit)?;
    check_commit(change.start)?;
    let branch = format!("refs/heads/{}", change.branch);
    let taken = quarantine.take(change.bundle, &branch, name);
    taken.map_err(|error| lacking(&error).unwrap_or(error))?;
    require_tip(quarantine, change, name)?;
    told::require(quarantine, change)
}

/// What git says of a bundle that is for another clone than this one: its first line, then the commits.
const LACKS: &str = "lacks these prerequisite commits";

fn lacking(error: &Error) -> Option<Error> {
    let Error::Git { stderr, .. } = error else {
        return None;
    };
    let (_, commits) = stderr.split_once(LACKS)?;
    let mut words = commits.split_whitespace();
    let commit = words.find(|word| check_commit(word).is_ok())?.to_owned();
    Some(Error::LacksCommit { commit })
}

/// The branch is the commit of the result, and that comes after the snapshot.
fn require_tip(quarantine: &Quarantine, change: &Change<'_>, name: &str) -> Result<()> {
    let (git, commit) = (quarantine.git(), change.commit);
    let tip = git.line(&["rev-parse", name])?;
    if tip != commit {
        let what = format!("its branch is the commit {tip}, and the result is {commit}");
        return Err(Error::NotAsTold { what });
    }
    if !has_commit(git, change.start)? {
        return Err(Error::MissingCommit {
            commit: change.start.to_owned(),
            path: change.bundle.to_owned(),
        });
    }
    if !contains(git, change.told.base, change.start)? {
        let (base, start) = (change.told.base, change.start);
        let what = format!(
            "{base}, from which its change is told, does not come after the snapshot {start}"
        );
        return Err(Error::NotAsTold { what });
    }
    Ok(())
}
