//! What can go wrong when git is asked for something.

use std::{io, path::PathBuf, time::Duration};

use crate::in_use::Held;

/// Oldest git that has everything that is needed here (`merge-tree --write-tree`).
pub const GIT_MIN: (u32, u32) = (2, 38);

/// Why something around a repository did not work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no git.
    #[error("git cannot be started; install git 2.38 or newer and see that it is on PATH")]
    NoGit {
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The git that was found lacks what is needed.
    #[error("git {found} is too old; install git 2.38 or newer")]
    OldGit {
        /// The version that was found.
        found: String,
    },
    /// A git command ended with an error.
    #[error("`git {command}` failed ({status}): {stderr}")]
    Git {
        /// The command, without the fixed options.
        command: String,
        /// How it ended.
        status: String,
        /// The end of what it printed on standard error.
        stderr: String,
    },
    /// A git command did not end.
    #[error("`git {command}` took longer than {limit:?} and was stopped")]
    Slow {
        /// The command, without the fixed options.
        command: String,
        /// How long it was given.
        limit: Duration,
    },
    /// A git command printed more than anybody wants to hold in memory.
    #[error("`git {command}` printed more than {limit} bytes")]
    Long {
        /// The command, without the fixed options.
        command: String,
        /// How much it was allowed.
        limit: u64,
    },
    /// A git command printed something else than its manual says.
    #[error("`git {command}` printed something unexpected: {what}")]
    Output {
        /// The command, without the fixed options.
        command: String,
        /// What was wrong with it.
        what: String,
    },
    /// The file system refused.
    #[error("failed to {what} `{}`", path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A `.git` that git passes over.
    #[error(
        "there is a `.git` here that git does not take for a repository, `{}`; git says `{said}`",
        path.display()
    )]
    Broken {
        /// Where.
        path: PathBuf,
        /// What git says.
        said: String,
    },
    /// A pipe or a device has a name that git opens.
    #[error("`{path}` is no file, and git would wait for it")]
    Special {
        /// Which.
        path: String,
    },
    /// The repository does not have the commits that a change was built on.
    #[error("this repository does not have commit {commit}, from which the task started")]
    LacksCommit {
        /// The user's commit below the snapshot.
        commit: String,
    },
    /// A commit that is needed is not there.
    #[error("commit {commit} is not in `{}`", path.display())]
    MissingCommit {
        /// The commit.
        commit: String,
        /// The repository.
        path: PathBuf,
    },
    /// A directory outside of a repository that has more than one would want to copy.
    #[error(
        "`{}` is in no git repository and has more than {} files or {} MiB to copy",
        path.display(),
        crate::DIRECTORY_FILES_MAX,
        crate::DIRECTORY_BYTES_MAX / (1024 * 1024)
    )]
    LargeDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// A directory that must be new has something in it.
    #[error("`{}` is not empty; a workspace needs a new directory", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// A name that cannot be a branch of Orchestra.
    #[error("`{branch}` is not a branch of Orchestra (orchestra/task_001)")]
    BadBranch {
        /// The name.
        branch: String,
    },
    /// A branch of Orchestra with commits of somebody else, or of another cluster's task.
    #[error(
        "the branch `{branch}` has commits that are not of this task; keep them under another name \
         (`git branch --move {branch} NAME`)"
    )]
    BranchMoved {
        /// The branch.
        branch: String,
    },
    /// A branch of the name that the user wants for one.
    #[error("there is a branch `{branch}` already, with other commits")]
    BranchTaken {
        /// The name.
        branch: String,
    },
    /// A branch of the user's whose name is the directory of all of ours, as git keeps them.
    #[error(
        "a branch `{taken}` is in the place of all `{taken}/…`, so that `{branch}` cannot be made; give it \
         another name (`git branch --move {taken} NAME`)"
    )]
    BranchAbove {
        /// The user's.
        taken: String,
        /// Ours.
        branch: String,
    },
    /// A branch of the user's below the name of one of ours, which git would keep as a directory then.
    #[error(
        "a branch `{taken}` is in the way of `{branch}`, so that it cannot be made; give it another name \
         (`git branch --move {taken} NAME`)"
    )]
    BranchBelow {
        /// The user's.
        taken: String,
        /// Ours.
        branch: String,
    },
    /// A branch that cannot change under somebody's feet.
    #[error("the branch `{branch}` {} in `{dir}`; {}", held.words(), held.way_out())]
    BranchInUse {
        /// The work tree.
        dir: String,
        /// The branch.
        branch: String,
        /// How.
        held: Held,
    },
    /// A worker told one change and sent another.
    #[error("the bundle is not what its worker told of it: {what}")]
    NotAsTold {
        /// What is different.
        what: String,
    },
    /// Two changes that do not go together.
    #[error("the changes conflict in {}", crate::listed(paths))]
    Conflict {
        /// The files.
        paths: Vec<String>,
    },
    /// Git would have to fetch objects, which is the user's affair.
    #[error(
        "the clone is partial, and something of its commits is not here that git needs; \
         `git fetch --refetch --no-filter` gets it all"
    )]
    PartialClone,
    /// A text that is not a commit id.
    #[error("`{text}` is not a commit id")]
    BadCommit {
        /// The text.
        text: String,
    },
}

/// What most functions here return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Adds what was being done, and to which path, to an I/O error.
pub(crate) trait IoContext<T> {
    fn at(self, what: &'static str, path: impl Into<PathBuf>) -> Result<T>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn at(self, what: &'static str, path: impl Into<PathBuf>) -> Result<T> {
        self.map_err(|source| Error::Io {
            what,
            path: path.into(),
            source,
        })
    }
}

impl<T> IoContext<T> for rustix::io::Result<T> {
    fn at(self, what: &'static str, path: impl Into<PathBuf>) -> Result<T> {
        self.map_err(io::Error::from).at(what, path)
    }
}

/// Whether a text says that a disk or a quota is full: git and other programs say so only in words.
#[must_use]
pub fn says_full(text: &str) -> bool {
    let words = [
        "No space left on device",
        "Disk quota exceeded",
        // Git, of a write that stopped short.
        "Out of diskspace",
    ];
    words.iter().any(|words| text.contains(words))
}

/// Whether git says that it has no such object, or was kept from fetching it.
pub(crate) fn says_missing(stderr: &str) -> bool {
    let words = [
        "promisor",
        "lazy fetch",
        "missing",
        "unknown revision",
        "unable to read",
        "bad object",
        "bad tree",
    ];
    words.iter().any(|words| stderr.contains(words))
}

/// Whether git says that it could not write a file of its own, and not why: the files that it was given have
/// no fault.
pub(crate) fn says_unwritten(stderr: &str) -> bool {
    let words = ["couldn't write '", "nable to write new index file"];
    words.iter().any(|words| stderr.contains(words))
}
