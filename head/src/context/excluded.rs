//! What is remembered of a directory whose mirror git shall not see, so that a look at one file is enough
//! to know whether that still holds: who removes a checkout and clones it again has another repository
//! at the same place. The same for git's index, which says what the project has there itself.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// The file that tells: git's own list, or `.git` where there was none.
#[derive(Debug)]
pub(super) struct Excluded {
    file: PathBuf,
    stamp: Option<Stamp>,
}

impl Excluded {
    /// How it is now in `dir`; `list` is the file that git reads.
    pub fn now(dir: &Path, list: Option<PathBuf>) -> Self {
        let file = list.unwrap_or_else(|| dir.join(".git"));
        let stamp = Stamp::of(&file);
        Self { file, stamp }
    }

    /// Whether nobody touched it.
    pub fn holds(&self) -> bool {
        Stamp::of(&self.file) == self.stamp
    }
}

/// What tells one file from another one at its place.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    inode: (u64, u64),
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let meta = fs::symlink_metadata(path).ok()?;
        Some(Self {
            inode: (meta.dev(), meta.ino()),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
        })
    }
}
