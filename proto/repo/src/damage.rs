//! Damage of a worker's repository: found out when something failed in it, and answered by a new one.

use std::{ffi::OsStr, fs, io, path::Path};

use crate::{
    cache::Cache,
    error::{Error, Result, says_full},
    generation,
    git::Input,
    harmless,
};

/// How much is said of what git found.
const WORDS_MAX: usize = 300;
/// Directories of a repository of ours lie no deeper.
const DEPTH_MAX: usize = 8;

impl Error {
    /// Whether a damaged repository can be the reason, so that it is worth to look.
    #[must_use]
    pub fn may_be_damage(&self) -> bool {
        match self {
            Self::Git { stderr, .. } => !says_full(stderr),
            Self::Io { source, .. } => is_of_files(source),
            Self::Output { .. } | Self::MissingCommit { .. } | Self::Slow { .. } => true,
            Self::NoGit { .. }
            | Self::OldGit { .. }
            | Self::Long { .. }
            | Self::LargeDirectory { .. }
            | Self::Special { .. }
            | Self::LacksCommit { .. }
            | Self::NotEmpty { .. }
            | Self::BadBranch { .. }
            | Self::BranchMoved { .. }
            | Self::BranchTaken { .. }
            | Self::BranchAbove { .. }
            | Self::BranchBelow { .. }
            | Self::BranchInUse { .. }
            | Self::Conflict { .. }
            | Self::BadCommit { .. }
            | Self::NotAsTold { .. }
            | Self::Broken { .. }
            | Self::PartialClone => false,
        }
    }
}

/// Whether files are the reason, and not a limit that is met.
fn is_of_files(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let damaged = [
        Errno::IO,
        Errno::BADMSG,
        Errno::UCLEAN,
        Errno::NOTDIR,
        Errno::ISDIR,
        Errno::EXIST,
        Errno::NOENT,
    ];
    let errno = Errno::from_io_error(error);
    errno.is_some_and(|errno| damaged.contains(&errno))
}

impl Cache {
    /// Looks whether this repository is damaged or has been replaced, after something failed in it.
    /// Where it is damaged, an empty one is made beside it, which the next [`Cache::open`] opens; attempts
    /// that borrow from this one keep it. What was wrong; none when nothing is. `commit` is what was wanted.
    ///
    /// Reads all objects, while others of this project wait.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn replace_if_damaged(&self, commit: &str) -> Result<Option<String>> {
        if generation::newest(self.first())? != self.path() {
            return Ok(Some("another task found it damaged".to_owned()));
        }
        let _lock = self.lock()?;
        if generation::newest(self.first())? != self.path() {
            return Ok(Some("another task found it damaged".to_owned()));
        }
        let Some(damage) = self.damage(commit) else {
            return Ok(None);
        };
        generation::make_next(self.first(), self.path())?;
        Ok(Some(damage))
    }

    /// Call it with the lock: then nothing here is half done.
    fn damage(&self, commit: &str) -> Option<String> {
        if let Some(lock) = left_lock(self.path(), DEPTH_MAX) {
            return Some(format!("a git that was killed has left `{lock}`"));
        }
        let fsck = [
            "fsck",
            "--full",
            "--no-dangling",
            "--no-reflogs",
            "--no-progress",
        ];
        let git = harmless::let_pass(self.git(), "fsck");
        let complete = ["rev-list", "--quiet", "--objects", commit];
        let looked = git.ended(&fsck, Input::Nothing).and_then(|all| {
            let has = self.has(commit)?;
            match all.code {
                0 if has => self.git().ended(&complete, Input::Nothing),
                _ => Ok(all),
            }
        });
        match looked {
            Ok(ended) if ended.code == 0 => None,
            Ok(ended) => Some(in_words(&ended.stderr)),
            // What cannot be looked at cannot be worked with.
            Err(error) => Some(in_words(&error.to_string())),
        }
    }
}

/// A lock of git's that nobody can hold.
fn left_lock(dir: &Path, depth: usize) -> Option<String> {
    for entry in fs::read_dir(dir).ok()?.flatten() {
        let path = entry.path();
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let is_lock = path.extension() == Some(OsStr::new("lock"));
        // Ours end so as well; objects have none.
        let is_ours = ["orchestra.lock", "spares", "objects"]
            .iter()
            .any(|ours| entry.file_name() == *ours);
        if is_ours || (is_dir && depth == 0) {
            continue;
        }
        if is_dir && let Some(found) = left_lock(&path, depth - 1) {
            return Some(found);
        }
        if is_lock && !is_dir {
            return Some(path.display().to_string());
        }
    }
    None
}

/// The first thing that git calls wrong.
fn in_words(stderr: &str) -> String {
    let is_error = |line: &&str| line.starts_with("error") || line.starts_with("fatal");
    let line = stderr.lines().find(is_error).or(stderr.lines().last());
    line.unwrap_or("git fsck failed")
        .chars()
        .take(WORDS_MAX)
        .collect()
}
