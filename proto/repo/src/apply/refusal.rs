//! Why a change is not applied.

use crate::{error::Error, names::listed};

/// Why a change was not applied. The work tree is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// What is there contradicts the change: something that came since, or another form of the same.
    #[error(
        "the change conflicts with what the {} has now in {}{}{}",
        place(branch),
        listed(paths),
        made_by(attempt.is_some(), makers),
        not_as_made(attempt.as_deref())
    )]
    Conflict {
        /// The files.
        paths: Vec<String>,
        /// The branch that has the change; none where the directory is in no repository.
        branch: Option<String>,
        /// The tasks that were applied before and changed the same; none where nobody knows.
        makers: Vec<String>,
        /// An earlier attempt of the same task that was applied before, conflicts with this one, and is not
        /// there as a whole.
        attempt: Option<Box<Attempted>>,
        /// Whether some of that is not committed yet, so that no branch can be merged.
        uncommitted: bool,
    },
    /// Files have edits that are not committed, or untracked files are in the way.
    #[error(
        "uncommitted edits or untracked files are in the way in {}; commit them or put them aside, \
         then apply again",
        listed(paths)
    )]
    InTheWay {
        /// The files.
        paths: Vec<String>,
    },
    /// The same where nothing can be committed: the directory is in no repository.
    #[error(
        "your own edits, or files that the task was not given, are in the way in {}; move them \
         elsewhere, then apply again",
        listed(paths)
    )]
    InTheWayOfDirectory {
        /// The files.
        paths: Vec<String>,
    },
    /// Files that a merge, a rebase or the like of the user's has left in conflict. They may be without marks.
    #[error(
        "conflicts of your own that are not settled are in the way in {}; settle them, `git add` or `git rm` \
         each, then apply again",
        listed(paths)
    )]
    Unmerged {
        /// The files.
        paths: Vec<String>,
    },
    /// The change would write where no change may write.
    #[error("the change is refused because of `{path}`: {why}")]
    Unsafe {
        /// The file.
        path: String,
        /// Why.
        why: String,
    },
    /// Whoever asked for it wants it no more.
    #[error("it was called off before anything was written")]
    CalledOff,
    /// Git or the disk failed.
    #[error(transparent)]
    Repo(#[from] Error),
}

/// An attempt of which some is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempted {
    /// Its commit.
    pub commit: String,
    /// Those of its files that are other than it made them.
    pub differ: Vec<String>,
}

fn place(branch: &Option<String>) -> &'static str {
    match branch {
        Some(_) => "checkout",
        None => "directory",
    }
}

fn made_by(attempt: bool, makers: &[String]) -> String {
    let attempt = attempt.then_some("an earlier attempt of the same task");
    let makers: Vec<&str> = attempt
        .into_iter()
        .chain(makers.iter().map(String::as_str))
        .collect();
    match makers.as_slice() {
        [] => String::new(),
        makers => format!(": {}, applied before, changed the same", makers.join(", ")),
    }
}

fn not_as_made(attempt: Option<&Attempted>) -> String {
    match attempt.map(|attempt| attempt.differ.as_slice()) {
        None | Some([]) => String::new(),
        Some(differ) => format!(
            "; of its files these are not as it made them: {}",
            listed(differ)
        ),
    }
}
