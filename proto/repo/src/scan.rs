//! What changed in a directory that is no repository: two looks at it, compared.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::Path,
};

use orchestra_types::{Digest, FileChange, Manifest, ManifestEntry, limits::MANIFEST_ENTRIES_MAX};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, openat, statat};
use serde::{Deserialize, Serialize};

use crate::{
    beneath,
    error::{IoContext, Result},
    names::{is_git_like, quoted, shown},
    stage::{FILE_BYTES_MAX, Warnings, is_below},
};

/// How deep directories are followed.
const DEPTH_MAX: usize = 128;
/// Files up to this size are hashed at the first look, so that a mere touch is no change: 1 MiB.
const EAGER_BYTES_MAX: u64 = 1024 * 1024;
/// How much is hashed at the first look in all: 128 MiB, well below a second.
const EAGER_TOTAL_MAX: u64 = 128 * 1024 * 1024;

/// One file, as it was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    mode: u32,
    size: u64,
    inode: u64,
    modified_ns: i128,
    changed_ns: i128,
    sha256: Option<Digest>,
}

impl Seen {
    fn is_regular(&self) -> bool {
        FileType::from_raw_mode(self.mode) == FileType::RegularFile
    }

    /// Whether nothing has written to the file since, as far as the file system tells.
    fn is_untouched_since(&self, before: &Self) -> bool {
        (
            self.mode,
            self.size,
            self.inode,
            self.modified_ns,
            self.changed_ns,
        ) == (
            before.mode,
            before.size,
            before.inode,
            before.modified_ns,
            before.changed_ns,
        )
    }
}

/// A directory at one moment. It can be stored, so that a restart does not lose the first look.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    #[serde(with = "pairs")]
    files: BTreeMap<Vec<u8>, Seen>,
    warnings: Vec<String>,
}

impl Snapshot {
    /// Looks at every file below `dir`, except `.git` directories and the paths in `exclude`.
    ///
    /// # Errors
    /// When `dir` itself cannot be read.
    pub fn take(dir: &Path, exclude: &[String]) -> Result<Self> {
        let root = beneath::root(dir).at("open", dir)?;
        let mut snapshot = Self::names_and_times(&root, exclude);
        snapshot.hash_small(&root);
        Ok(snapshot)
    }

    fn names_and_times(root: &OwnedFd, exclude: &[String]) -> Self {
        let exclude = exclude
            .iter()
            .map(|p| p.trim_matches('/').as_bytes().to_vec());
        let exclude: Vec<_> = exclude.filter(|p| !p.is_empty()).collect();
        let mut walk = Walk {
            exclude,
            files: BTreeMap::new(),
            warnings: Warnings::default(),
        };
        walk.all(root);
        Self {
            files: walk.files,
            warnings: walk.warnings.into_list(),
        }
    }

    fn hash_small(&mut self, root: &OwnedFd) {
        let mut total = 0;
        let small = |seen: &Seen| seen.is_regular() && seen.size <= EAGER_BYTES_MAX;
        for (path, seen) in self.files.iter_mut().filter(|(_, seen)| small(seen)) {
            total += seen.size;
            if total > EAGER_TOTAL_MAX {
                return;
            }
            // A file that cannot be read is compared by its times.
            seen.sha256 = hash(root, path).ok();
        }
    }
}

/// What changed in `dir` since `before`.
///
/// # Errors
/// When `dir` itself cannot be read.
pub fn changes_since(before: &Snapshot, dir: &Path, exclude: &[String]) -> Result<Manifest> {
    let root = beneath::root(dir).at("open", dir)?;
    let after = Snapshot::names_and_times(&root, exclude);
    Ok(diff(before, &after, &root))
}

fn diff(before: &Snapshot, after: &Snapshot, root: &OwnedFd) -> Manifest {
    let mut entries = Vec::new();
    let mut warnings = Warnings::default();
    after
        .warnings
        .iter()
        .for_each(|text| warnings.add(text.clone()));
    for (path, now) in &after.files {
        let then = before.files.get(path);
        if then.is_some_and(|then| now.is_untouched_since(then)) {
            continue;
        }
        let sha256 = match digest_of(root, path, now) {
            Ok(digest) => digest,
            Err(error) => {
                warnings.add(format!("`{}` could not be read: {error}", shown(path)));
                None
            }
        };
        if let Some(change) = change(then, now, sha256) {
            entries.push(entry(path, change, now, sha256));
        }
    }
    let gone = before
        .files
        .iter()
        .filter(|(path, _)| !after.files.contains_key(*path));
    entries.extend(gone.map(|(path, _)| deleted(path)));
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    Manifest {
        entries,
        warnings: warnings.into_list(),
    }
}

fn change(then: Option<&Seen>, now: &Seen, sha256: Option<Digest>) -> Option<FileChange> {
    let Some(then) = then else {
        return Some(FileChange::Added);
    };
    let same_content = then.sha256.is_some() && then.sha256 == sha256;
    match (same_content, then.mode == now.mode) {
        (true, true) => None,
        (true, false) => Some(FileChange::ModeChanged),
        (false, _) => Some(FileChange::Modified),
    }
}

fn entry(path: &[u8], change: FileChange, now: &Seen, sha256: Option<Digest>) -> ManifestEntry {
    ManifestEntry {
        path: shown(path),
        path_quoted: quoted(path),
        renamed_from_quoted: None,
        change,
        size: now.size,
        mode: now.mode,
        sha256,
        lines_added: None,
        lines_removed: None,
        binary: false,
    }
}

fn deleted(path: &[u8]) -> ManifestEntry {
    ManifestEntry {
        path: shown(path),
        path_quoted: quoted(path),
        renamed_from_quoted: None,
        change: FileChange::Deleted,
        size: 0,
        mode: 0,
        sha256: None,
        lines_added: None,
        lines_removed: None,
        binary: false,
    }
}

fn digest_of(root: &OwnedFd, path: &[u8], seen: &Seen) -> std::io::Result<Option<Digest>> {
    match (seen.is_regular(), seen.sha256) {
        (false, _) => Ok(None),
        (true, Some(digest)) => Ok(Some(digest)),
        (true, None) if seen.size > FILE_BYTES_MAX => Err(std::io::Error::other(format!(
            "more than {FILE_BYTES_MAX} bytes"
        ))),
        (true, None) => hash(root, path).map(Some),
    }
}

/// A file that grows without end is read no further than a large one.
fn hash(root: &OwnedFd, path: &[u8]) -> std::io::Result<Digest> {
    beneath::digest(&mut beneath::open_regular(root, path)?, FILE_BYTES_MAX)
}

struct Walk {
    exclude: Vec<Vec<u8>>,
    files: BTreeMap<Vec<u8>, Seen>,
    warnings: Warnings,
}

impl Walk {
    /// Directories are kept as names, not as open files: there may be very many.
    fn all(&mut self, root: &OwnedFd) {
        let mut dirs = vec![Vec::new()];
        while let Some(dir) = dirs.pop() {
            if let Err(error) = self.one(root, &dir, &mut dirs) {
                let shown = if dir.is_empty() { "." } else { &*shown(&dir) };
                self.warnings
                    .add(format!("`{shown}` could not be read: {error}"));
            }
        }
    }

    fn one(&mut self, root: &OwnedFd, dir: &[u8], dirs: &mut Vec<Vec<u8>>) -> std::io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = if dir.is_empty() {
            openat(root, c".", flags, Mode::empty())?
        } else {
            let (parent, name) = beneath::parent(root, dir, beneath::Missing::Fail)?;
            openat(&parent, name, flags, Mode::empty())?
        };
        for item in Dir::read_from(&fd)? {
            let item = item?;
            let name = item.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let path = if dir.is_empty() {
                name.to_vec()
            } else {
                [dir, b"/", name].concat()
            };
            if is_git_like(name) || is_below(&path, &self.exclude) {
                continue;
            }
            let stat = statat(&fd, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW)?;
            self.add(path, &stat, dirs);
        }
        Ok(())
    }

    fn add(&mut self, path: Vec<u8>, stat: &Stat, dirs: &mut Vec<Vec<u8>>) {
        match beneath::kind(stat) {
            FileType::Directory if path.iter().filter(|b| **b == b'/').count() >= DEPTH_MAX => {
                self.warnings.path(&path, "it lies too deep");
            }
            FileType::Directory => dirs.push(path),
            FileType::RegularFile | FileType::Symlink
                if self.files.len() < MANIFEST_ENTRIES_MAX =>
            {
                self.files.insert(path, seen(stat));
            }
            FileType::RegularFile | FileType::Symlink => {
                self.warnings
                    .path(&path, "the directory has too many files");
            }
            _ => {}
        }
    }
}

fn seen(stat: &Stat) -> Seen {
    let ns = |secs: i64, ns: i128| i128::from(secs) * 1_000_000_000 + ns;
    Seen {
        mode: stat.st_mode,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        inode: stat.st_ino,
        modified_ns: ns(stat.st_mtime, i128::from(stat.st_mtime_nsec)),
        changed_ns: ns(stat.st_ctime, i128::from(stat.st_ctime_nsec)),
        sha256: None,
    }
}

/// The files as a list of pairs: JSON knows only texts as keys.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::Seen;

    pub fn serialize<S: Serializer>(
        files: &BTreeMap<Vec<u8>, Seen>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(files)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<Vec<u8>, Seen>, D::Error> {
        Vec::deserialize(deserializer).map(|pairs: Vec<_>| pairs.into_iter().collect())
    }
}

#[cfg(test)]
mod tests;
