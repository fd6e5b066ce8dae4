//! Files that are as an apply left them although the user's git reads something else there: it makes other
//! line ends of them, or sees no executable bits.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
};

use super::{
    Work,
    here::{Entries, entries},
};
use crate::{
    checkout::Checkout,
    error::Result,
    git::{Git, Input},
    manifest::Raw,
    names::shown,
};

const KIND: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const EXECUTABLE: u32 = 0o111;
/// How many names one command line has.
const HASHED_AT_ONCE: usize = 256;

/// Mode and object id.
type Version = (u32, String);

/// What may have been left at paths.
#[derive(Debug, Default)]
pub(super) struct Written {
    versions: BTreeMap<Vec<u8>, Version>,
    /// Of those, which were left by an apply, so that their mode is known.
    applied: BTreeSet<Vec<u8>>,
}

/// An executable bit that git does not see, as `core.fileMode` is false: it is in the file, and `git add` does
/// not take it along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bit {
    /// The file.
    pub path: String,
    /// Whether the change has it as executable.
    pub is_executable: bool,
}

impl Work<'_> {
    /// What was left where HEAD is still what it was then, else what the change itself has.
    pub(super) fn written(&self, heads: &Entries) -> Written {
        let mut written = Written::default();
        for file in self.whole.iter().filter(|file| is_regular(file.new_mode)) {
            let version = (file.new_mode, file.new_id.clone());
            written.versions.insert(file.path.clone(), version);
        }
        for (path, left) in self.record.left(heads) {
            if is_regular(left.0) {
                written.versions.insert(path.clone(), left.clone());
                written.applied.insert(path.clone());
            }
        }
        written
    }

    /// The executable bits of the change that the user's index lacks, where git does not see them.
    pub(super) fn unseen(&self, index: &Entries) -> Result<Vec<Bit>> {
        let is_other = |file: &&Raw| {
            let there = index.get(&file.path).map_or(REGULAR, |(mode, _)| *mode);
            is_regular(file.new_mode)
                && is_regular(there)
                && is_executable(there) != is_executable(file.new_mode)
        };
        let other: Vec<&Raw> = self.whole.iter().filter(is_other).collect();
        if other.is_empty() || sees_modes(self.checkout)? {
            return Ok(Vec::new());
        }
        let bit = |file: &&Raw| Bit {
            path: shown(&file.path),
            is_executable: is_executable(file.new_mode),
        };
        Ok(other.iter().map(bit).collect())
    }
}

/// The executable bits of these files, each with its mode, that the user's index lacks where git does not see
/// them: of a change that somebody else has applied.
///
/// # Errors
/// When git fails.
pub fn unseen_bits(checkout: &Checkout, files: &[(String, u32)]) -> Result<Vec<Bit>> {
    if sees_modes(checkout)? {
        return Ok(Vec::new());
    }
    let index = entries(&checkout.git())?;
    let is_other = |(path, mode): &&(String, u32)| {
        let there = index
            .get(path.as_bytes())
            .map_or(REGULAR, |(mode, _)| *mode);
        is_regular(*mode) && is_regular(there) && is_executable(there) != is_executable(*mode)
    };
    let bit = |(path, mode): &(String, u32)| Bit {
        path: path.clone(),
        is_executable: is_executable(*mode),
    };
    Ok(files.iter().filter(is_other).map(bit).collect())
}

impl Written {
    /// Puts those versions into `now`, as git reads it, that are there all the same.
    pub fn restore(
        &self,
        checkout: &Checkout,
        git: &Git,
        now: &mut BTreeMap<Vec<u8>, Option<Version>>,
    ) -> Result<()> {
        let other: Vec<(Vec<u8>, Version)> = now
            .iter()
            .filter_map(|(path, there)| Some((path, there.as_ref()?)))
            .filter(|(_, there)| is_regular(there.0))
            .filter(|(path, there)| self.versions.get(*path).is_some_and(|left| left != *there))
            .map(|(path, there)| (path.clone(), there.clone()))
            .collect();
        if other.is_empty() {
            return Ok(());
        }
        let sees_modes = sees_modes(checkout)?;
        let bytes = self.with_these_bytes(git, &other)?;
        for (path, (mode, id)) in other {
            let left = &self.versions[&path];
            if *id == left.1 || bytes.contains(&path) {
                let keeps_mode = sees_modes || !self.applied.contains(&path);
                let mode = if keeps_mode { mode } else { left.0 };
                now.insert(path, Some((mode, left.1.clone())));
            }
        }
        Ok(())
    }

    /// Those of the files that are byte for byte what was left, whatever git makes of them.
    fn with_these_bytes(
        &self,
        git: &Git,
        files: &[(Vec<u8>, Version)],
    ) -> Result<BTreeSet<Vec<u8>>> {
        let differs = |path: &Vec<u8>, id: &String| self.versions[path].1 != *id;
        let files = files.iter().filter(|(path, (_, id))| differs(path, id));
        let paths: Vec<&Vec<u8>> = files.map(|(path, _)| path).collect();
        let mut same = BTreeSet::new();
        for paths in paths.chunks(HASHED_AT_ONCE) {
            // As arguments: a line of input would end at a line end in a name.
            let options = ["hash-object", "--no-filters", "--"].map(OsStr::new);
            let names = paths.iter().map(|path| OsStr::from_bytes(path));
            let args: Vec<&OsStr> = options.into_iter().chain(names).collect();
            let output = git.output(&args)?;
            let ids = output.split(|byte| *byte == b'\n');
            let found = paths
                .iter()
                .zip(ids)
                .filter(|(path, id)| self.versions[**path].1.as_bytes() == *id);
            same.extend(found.map(|(path, _)| (*path).clone()));
        }
        Ok(same)
    }
}

/// Whether git looks at the executable bits of files here.
fn sees_modes(checkout: &Checkout) -> Result<bool> {
    let asked = ["config", "--type=bool", "--get", "core.fileMode"];
    let said = checkout.git().ended(&asked, Input::Nothing)?;
    Ok(said.value.trim_ascii() != b"false")
}

fn is_regular(mode: u32) -> bool {
    mode & KIND == REGULAR
}

fn is_executable(mode: u32) -> bool {
    mode & EXECUTABLE != 0
}
