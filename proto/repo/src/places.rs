//! Where a further work tree of an agent's is: where its `.git` says, or beside that, when it was moved
//! without git. No link is followed, and nothing outside of the attempt's own directory is looked at.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Component, Path, PathBuf},
};

use rustix::fs::FileType;

use crate::{
    agent_refs::text,
    beneath,
    error::{IoContext, Result},
    names::refusal,
};

/// Longest text that says where something is.
pub(crate) const TEXT_BYTES_MAX: u64 = 16 * 1024;
/// Most directories beside a place that are looked at.
const BESIDE_MAX: usize = 1000;
/// The same, of all places together.
const BESIDE_TOTAL_MAX: usize = 10 * BESIDE_MAX;

/// Looks for work trees.
pub(crate) struct Places<'a> {
    /// The agent's own work tree.
    dir: &'a Path,
    /// The attempt's own directory.
    area: &'a Path,
    root: OwnedFd,
    /// What was found in the directories that hold places.
    beside: BTreeMap<Vec<u8>, Beside>,
    left: usize,
}

/// The work trees in a directory.
#[derive(Debug, Default)]
struct Beside {
    /// By what their `.git` names.
    trees: BTreeMap<PathBuf, Vec<u8>>,
    /// Whether all of it was looked at.
    is_whole: bool,
}

/// What is at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stands {
    /// The work tree.
    Tree,
    /// A directory that is no work tree.
    Directory,
    /// Nothing, or another one of the work trees.
    Nothing,
    /// A link, on the way or at its end, or a file.
    Other,
}

impl<'a> Places<'a> {
    /// Both paths are without links.
    pub fn of(dir: &'a Path, area: &'a Path) -> Result<Self> {
        Ok(Self {
            dir,
            area,
            root: beneath::root(area).at("open", area)?,
            beside: BTreeMap::new(),
            left: BESIDE_TOTAL_MAX,
        })
    }

    /// The work tree that the directory `about` is about, which git knows at `place`; none where it is
    /// gone, and the reason where it cannot be taken.
    pub fn find(
        &mut self,
        about: &Path,
        place: &Path,
    ) -> std::result::Result<Option<PathBuf>, String> {
        if self.dir.starts_with(place) {
            return Ok(None);
        }
        let below = place.strip_prefix(self.area).map_err(|_| {
            let place = place.display();
            format!("`{place}` is outside of the attempt's own directory")
        })?;
        let below = below.as_os_str().as_bytes();
        if let Some(why) = refusal(below) {
            return Err(format!("its name {why}"));
        }
        let stands = self.stands(about, below);
        if stands == Stands::Tree {
            return Ok(Some(place.to_owned()));
        }
        let beside = self.beside(below);
        let (moved, is_whole) = (beside.trees.get(about).cloned(), beside.is_whole);
        if let Some(moved) = moved {
            return Ok(Some(self.area.join(OsStr::from_bytes(&moved))));
        }
        match stands {
            Stands::Tree => Ok(Some(place.to_owned())),
            Stands::Nothing if is_whole => Ok(None),
            Stands::Nothing => Err("it is gone, and there is too much beside its place".to_owned()),
            // An ordinary one, whose files come with the result.
            Stands::Directory if place.starts_with(self.dir) => Ok(None),
            Stands::Directory | Stands::Other => {
                Err(format!("`{}` is no work tree any more", place.display()))
            }
        }
    }

    fn stands(&self, about: &Path, below: &[u8]) -> Stands {
        let kind =
            |path: &[u8]| beneath::lstat(&self.root, path).map(|s| s.map(|s| beneath::kind(&s)));
        match kind(below) {
            Ok(Some(FileType::Directory)) => {}
            Ok(None) => return Stands::Nothing,
            Ok(Some(_)) | Err(_) => return Stands::Other,
        }
        match kind(&[below, b"/.git"].concat()) {
            Ok(Some(FileType::RegularFile)) => {}
            Ok(_) | Err(_) => return Stands::Directory,
        }
        let is_another = |of: PathBuf| of != about && of.parent() == about.parent();
        match self.named_by(below).is_some_and(is_another) {
            true => Stands::Nothing,
            false => Stands::Tree,
        }
    }

    /// The directory that the `.git` of a work tree names.
    fn named_by(&self, below: &[u8]) -> Option<PathBuf> {
        let link = [below, b"/.git"].concat();
        let text = text(&self.root, &link, TEXT_BYTES_MAX).ok()??;
        let named = text.strip_prefix(b"gitdir:")?.trim_ascii();
        let from = self.area.join(OsStr::from_bytes(below));
        plain(&from.join(OsStr::from_bytes(named)))
    }

    /// The work trees in the directory that holds `below`.
    fn beside(&mut self, below: &[u8]) -> &Beside {
        let slash = below.iter().rposition(|b| *b == b'/');
        let holder = &below[..slash.map_or(0, |slash| slash + 1)];
        if !self.beside.contains_key(holder) {
            let found = self.look_in(holder);
            self.beside.insert(holder.to_vec(), found);
        }
        &self.beside[holder]
    }

    /// The same, in the directory `holder`, which is nothing or ends with a slash.
    fn look_in(&mut self, holder: &[u8]) -> Beside {
        let path = [holder, b"."].concat();
        let entries = beneath::list(&self.root, &path).unwrap_or_default();
        let mut names: Vec<Vec<u8>> = entries
            .into_iter()
            .filter(|(_, kind)| *kind == FileType::Directory)
            .map(|(name, _)| name)
            .collect();
        names.sort_unstable();
        let max = self.left.min(BESIDE_MAX);
        let is_whole = names.len() <= max;
        names.truncate(max);
        self.left -= names.len();
        let below = names.iter().map(|name| [holder, name].concat());
        let below = below.filter(|path| refusal(path).is_none());
        let trees = below.filter_map(|path| Some((self.named_by(&path)?, path)));
        Beside {
            trees: trees.collect(),
            is_whole,
        }
    }
}

/// The path without `.` and `..`; none where it would leave the root.
pub(crate) fn plain(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir if !plain.pop() => return None,
            Component::ParentDir | Component::CurDir => {}
            Component::RootDir | Component::Normal(_) | Component::Prefix(_) => plain.push(part),
        }
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_made_plain_and_never_leaves_the_root() {
        let made = |path: &str| plain(Path::new(path)).map(|p| p.to_string_lossy().into_owned());
        assert_eq!(made("/a/./b/../c").as_deref(), Some("/a/c"));
        assert_eq!(made("/a/../../b"), None);
    }
}
