//! Brings a work tree into an index, file by file, so that one odd file never costs the rest.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    panic::resume_unwind,
    path::Path,
    thread,
};

use orchestra_types::limits;
use rustix::fs::{FileType, Stat};

use crate::{
    beneath,
    error::{Error, IoContext, Result, says_full, says_unwritten},
    git::{Git, Input, records},
    index::ADD_NAMED,
    names,
    temporary::Temporary,
};

/// Largest file that is taken: 256 MiB. A larger one is named in a warning.
pub(crate) const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Most new and changed files.
const FILES_MAX: usize = limits::MANIFEST_ENTRIES_MAX;
/// Most warnings; the last one says how many more there were.
pub(crate) const WARNINGS_MAX: usize = 200;
/// How much is shown of what git says of one directory.
const COMPLAINT_BYTES_MAX: usize = 512;
/// How deep repositories may lie within each other.
const NESTED_MAX: usize = 8;
/// Most files that git may refuse one by one before its reason is taken for a general one.
const REFUSED_MAX: usize = 64;

/// What to do with a repository inside the work tree that is not a submodule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nested {
    /// Leave it out, with a warning.
    Skip,
    /// Take its files as ordinary files.
    Include,
}

/// Whether the index may have files that a merge left in conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conflicts {
    /// It was never merged into.
    Never,
    /// It is a user's.
    Possible,
}

/// How much is taken. What is beyond is named in a warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// Largest file, in bytes.
    pub file: u64,
    /// Most bytes of new and changed files together.
    pub total: u64,
}

impl Sizes {
    /// Of what is kept: 256 MiB, and 4 GiB in all.
    pub const KEPT: Self = Self {
        file: FILE_BYTES_MAX,
        total: 4 * 1024 * 1024 * 1024,
    };
}

/// How to stage.
pub(crate) struct Stage<'a> {
    /// git with its directory, work tree and index.
    pub git: &'a Git,
    /// The work tree.
    pub root: &'a Path,
    /// Paths that are left as the index has them, with all below them.
    pub skip: &'a [Vec<u8>],
    /// Files that are taken although they may be ignored.
    pub also: Vec<Vec<u8>>,
    pub nested: Nested,
    pub conflicts: Conflicts,
    pub sizes: Sizes,
}

/// Warnings by name, bounded.
#[derive(Default)]
pub(crate) struct Warnings {
    list: Vec<String>,
    more: usize,
    /// Something is in no result, and nowhere but in the agent's directory.
    only_there: bool,
}

impl Warnings {
    pub fn add(&mut self, text: String) {
        if self.list.len() < WARNINGS_MAX {
            self.list.push(text);
        } else {
            self.more += 1;
        }
    }

    /// Before all others: what people should see of the result as a whole.
    pub fn first(&mut self, text: String) {
        self.list.insert(0, text);
    }

    pub fn path(&mut self, path: &[u8], why: impl std::fmt::Display) {
        self.add(format!("`{}` was left out: {why}", names::shown(path)));
    }

    /// As [`Self::path`], of a file whose content is nowhere but in the agent's directory.
    pub fn left_out(&mut self, path: &[u8], why: impl std::fmt::Display) {
        self.only_there = true;
        self.path(path, why);
    }

    /// As [`Self::add`], of what is nowhere but in the agent's directory.
    pub fn only_there(&mut self, text: String) {
        self.only_there = true;
        self.add(text);
    }

    /// Whether there was such.
    pub fn are_of_the_only_copy(&self) -> bool {
        self.only_there
    }

    pub fn into_list(mut self) -> Vec<String> {
        if self.more > 0 {
            self.list
                .push(format!("{} more files were left out", self.more));
        }
        self.list
    }
}

/// Whether a repository within has a branch. What cannot be looked at may have one.
fn has_history(root: &OwnedFd, dir: &[u8]) -> bool {
    let within = |name: &[u8]| [dir, b"/.git/", name].concat();
    let heads = beneath::list(root, &within(b"refs/heads"));
    let packed = beneath::lstat(root, &within(b"packed-refs"));
    heads.map_or(true, |heads| !heads.is_empty()) || !matches!(packed, Ok(None))
}

impl Stage<'_> {
    /// Makes the index equal to the work tree, as far as files can be taken.
    pub fn run(&self, warnings: &mut Warnings) -> Result<()> {
        let root = beneath::root(self.root).at("open", self.root)?;
        let mut paths = self.in_conflict()?;
        paths.extend(self.also.iter().cloned());
        // Each looks at every file: at the same time, where there are two cores.
        let (changed, others) = thread::scope(|scope| {
            let others = scope.spawn(|| others(self.git));
            (changed(self.git), others.join())
        });
        paths.extend(records(&changed?).map(<[u8]>::to_vec));
        let others = others.unwrap_or_else(|panic| resume_unwind(panic))?;
        let others = others.named(warnings);
        self.add_others(&root, &others, b"", 0, &mut paths, warnings)?;
        let (wanted, gone) = self.told_apart(&root, &paths, warnings);
        self.remove(&gone)?;
        for path in wanted.iter().skip(FILES_MAX) {
            warnings.left_out(path, format_args!("more than {FILES_MAX} files changed"));
        }
        let mut refused = 0;
        self.update(
            &wanted[..wanted.len().min(FILES_MAX)],
            &mut refused,
            warnings,
        )
    }

    fn in_conflict(&self) -> Result<BTreeSet<Vec<u8>>> {
        if self.conflicts == Conflicts::Never {
            return Ok(BTreeSet::new());
        }
        let conflicts = self.git.output(&["ls-files", "-z", "--unmerged"])?;
        let names = records(&conflicts).filter_map(|r| r.splitn(2, |b| *b == b'\t').nth(1));
        Ok(names.map(<[u8]>::to_vec).collect())
    }

    /// Takes a list of files below `prefix` that are neither tracked nor ignored.
    fn add_others(
        &self,
        root: &OwnedFd,
        others: &[u8],
        prefix: &[u8],
        depth: usize,
        paths: &mut BTreeSet<Vec<u8>>,
        warnings: &mut Warnings,
    ) -> Result<()> {
        for name in records(others) {
            let path = [prefix, name].concat();
            // Only a repository that is not tracked is listed with a slash.
            match path.strip_suffix(b"/") {
                None => drop(paths.insert(path)),
                Some(dir) if self.is_skipped(dir) => {}
                Some(dir) => self.add_nested(root, dir, depth, paths, warnings)?,
            }
        }
        Ok(())
    }

    /// The files of a repository inside the work tree, by its own ignore files. Its `.git` is
    /// not looked at.
    fn add_nested(
        &self,
        root: &OwnedFd,
        dir: &[u8],
        depth: usize,
        paths: &mut BTreeSet<Vec<u8>>,
        warnings: &mut Warnings,
    ) -> Result<()> {
        let is_dir = |stat: &Stat| beneath::kind(stat) == FileType::Directory;
        let real = beneath::lstat(root, dir)
            .ok()
            .flatten()
            .is_some_and(|stat| is_dir(&stat));
        if self.nested == Nested::Skip || depth == NESTED_MAX || !real {
            warnings.path(dir, "it is a repository of its own");
            return Ok(());
        }
        if has_history(root, dir) {
            let dir = names::shown(dir);
            warnings.only_there(format!(
                "`{dir}` is a repository of its own: its files are in the result, its commits and branches \
                 are not"
            ));
        }
        let empty_index = Temporary::new()?;
        let git = self
            .git
            .clone()
            .work_tree(&self.root.join(OsStr::from_bytes(dir)))
            .env("GIT_INDEX_FILE", empty_index.path().join("index"));
        let prefix = [dir, b"/"].concat();
        let others = others(&git)?.named(warnings);
        self.add_others(root, &others, &prefix, depth + 1, paths, warnings)
    }

    fn is_skipped(&self, path: &[u8]) -> bool {
        is_below(path, self.skip)
    }

    /// The paths that git can take or finds gone, and those that it does not look at, which are gone as
    /// well; a warning says why it is none of them.
    fn told_apart<'p>(
        &self,
        root: &OwnedFd,
        paths: &'p BTreeSet<Vec<u8>>,
        warnings: &mut Warnings,
    ) -> (Vec<&'p [u8]>, Vec<&'p [u8]>) {
        let (mut wanted, mut gone, mut total) = (Vec::new(), Vec::new(), 0);
        for path in paths.iter().filter(|path| !self.is_skipped(path)) {
            match fate(root, path, self.sizes, &mut total) {
                Fate::Update => wanted.push(path.as_slice()),
                Fate::Remove => gone.push(path.as_slice()),
                Fate::LeaveOut(why) => warnings.left_out(path, why),
                Fate::NoFile => warnings.path(path, "it is neither a file nor a link"),
            }
        }
        (wanted, gone)
    }

    /// Takes paths out of the index, whatever is there.
    fn remove(&self, paths: &[&[u8]]) -> Result<()> {
        if paths.is_empty() {
            return Ok(());
        }
        let input = with_ends(paths);
        let args = ["update-index", "-z", "--force-remove", "--stdin"];
        self.git.output_of(&args, Input::Bytes(&input)).map(drop)
    }

    /// Updates the index; halves the list to find the one file that git refuses.
    fn update(&self, paths: &[&[u8]], refused: &mut usize, warnings: &mut Warnings) -> Result<()> {
        if paths.is_empty() {
            return Ok(());
        }
        let input = with_ends(paths);
        let ended = self.git.ended(&ADD_NAMED, Input::Bytes(&input))?;
        if ended.code == 0 {
            for line in ended.stderr.lines() {
                if let Some(path) = line.strip_prefix("Ignoring path ") {
                    warnings.left_out(path.as_bytes(), "git takes no such file there");
                }
            }
            return Ok(());
        }
        // IMPORTANT: a disk that is full is no fault of a file's: whoever makes room stages again.
        let is_general = says_full(&ended.stderr) || says_unwritten(&ended.stderr);
        *refused += usize::from(paths.len() == 1);
        if is_general || *refused > REFUSED_MAX {
            return Err(Error::Git {
                command: ADD_NAMED.join(" "),
                status: format!("exit code {}", ended.code),
                stderr: ended.stderr,
            });
        }
        if let [path] = paths {
            warnings.left_out(
                path,
                ended.stderr.lines().last().unwrap_or("git refused it"),
            );
            return Ok(());
        }
        let (left, right) = paths.split_at(paths.len() / 2);
        self.update(left, refused, warnings)?;
        self.update(right, refused, warnings)
    }
}

/// Tracked files that differ from the index, or are gone.
fn changed(git: &Git) -> Result<Vec<u8>> {
    // Not `diff-files`: it names also what was only touched, and asks a git in each submodule whether
    // that is dirty, with the configuration that it finds there.
    git.output(&["ls-files", "-z", "--modified"])
}

/// Files that are neither tracked nor ignored.
fn others(git: &Git) -> Result<Others> {
    let args = ["ls-files", "-z", "--others", "--exclude-standard"];
    let ended = git.ended(&args, Input::Nothing)?;
    match ended.code {
        0 => Ok(Others {
            names: ended.value,
            complaints: ended.stderr,
        }),
        code => Err(Error::Git {
            command: args.join(" "),
            status: format!("exit code {code}"),
            stderr: ended.stderr,
        }),
    }
}

/// The names that git lists, and what it says of directories into which it could not look: such a one
/// is no failure to it.
struct Others {
    names: Vec<u8>,
    complaints: String,
}

impl Others {
    /// The names. What is missing among them is named in warnings.
    fn named(self, warnings: &mut Warnings) -> Vec<u8> {
        for line in self.complaints.lines() {
            let why = line.strip_prefix("warning: ").unwrap_or(line);
            let why = limits::cut(why, COMPLAINT_BYTES_MAX);
            warnings.only_there(format!("something was left out, git says: {why}"));
        }
        self.names
    }
}

/// Whether `path` is one of `tops` or below one.
pub(crate) fn is_below(path: &[u8], tops: &[Vec<u8>]) -> bool {
    tops.iter().any(|top| {
        path.strip_prefix(top.as_slice())
            .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    })
}

/// The paths as git reads them from its input.
fn with_ends(paths: &[&[u8]]) -> Vec<u8> {
    let mut input = paths.join(&0);
    input.push(0);
    input
}

/// What becomes of a path in the index.
enum Fate {
    /// Git brings it in, or removes it, as it finds it.
    Update,
    /// It is behind something that is no directory. Git refuses to look behind a link.
    Remove,
    /// It cannot be taken, for this reason.
    LeaveOut(String),
    /// It is a pipe, a socket or a device.
    NoFile,
}

fn fate(root: &OwnedFd, path: &[u8], sizes: Sizes, total: &mut u64) -> Fate {
    if let Some(why) = names::refusal(path) {
        return Fate::LeaveOut(format!("its name {why}"));
    }
    match beneath::lstat(root, path) {
        Ok(Some(stat)) => match beneath::kind(&stat) {
            // A directory in the place of a file: its files have names of their own in the list.
            FileType::Symlink | FileType::Directory => Fate::Update,
            FileType::RegularFile => match reason_against(root, path, &stat, sizes, total) {
                Some(why) => Fate::LeaveOut(why),
                None => Fate::Update,
            },
            _ => Fate::NoFile,
        },
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Fate::Remove,
        Ok(None) | Err(_) => Fate::Update,
    }
}

fn reason_against(
    root: &OwnedFd,
    path: &[u8],
    stat: &Stat,
    sizes: Sizes,
    total: &mut u64,
) -> Option<String> {
    let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
    if size > sizes.file {
        return Some(format!("it has {size} bytes, more than {}", sizes.file));
    }
    *total = total.saturating_add(size);
    if *total > sizes.total {
        return Some(format!("more than {} bytes changed", sizes.total));
    }
    beneath::open_regular(root, path)
        .err()
        .map(|e| format!("it cannot be read: {e}"))
}
