//! A repository that a command looks at and that git does not take for one.

use orchestra_repo::Error as RepoError;

use crate::{
    error::{Error, OrFailed, Result},
    exit::Exit,
};

/// What mends it.
const MEND: &str = "mend it; where its `HEAD` is empty, as after a loss of power: \
     `echo 'ref: refs/heads/BRANCH' > .git/HEAD`, then `git fsck`; or remove that `.git`, if this is to be a \
     directory in no repository";

/// What was found in a repository, or why it was not.
pub trait OrBroken<T> {
    /// The error with `what` failed; with the next step where the repository is broken.
    fn or_broken(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> OrBroken<T> for std::result::Result<T, RepoError> {
    fn or_broken(self, what: impl FnOnce() -> String) -> Result<T> {
        match self {
            Err(error @ RepoError::Broken { .. }) => Err(broken(what(), error, "")),
            found => found.or_failed(what),
        }
    }
}

/// The same where a task is to be queued for it, which needs none.
pub fn or_without<T>(
    found: std::result::Result<T, RepoError>,
    what: impl FnOnce() -> String,
) -> Result<T> {
    match found {
        Err(error @ RepoError::Broken { .. }) => {
            Err(broken(what(), error, "; `--no-repo` works without one"))
        }
        found => found.or_failed(what),
    }
}

fn broken(what: String, error: RepoError, or_else: &str) -> Error {
    let error = Error::new(Exit::Refused, what).because(error);
    error.hint(format!("{MEND}{or_else}"))
}
