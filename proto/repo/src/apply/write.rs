//! Writes a checked change: every file is made beside the work tree first, then all of them are
//! moved in, and moved out again when one of them cannot be.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs, io,
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt, fs::MetadataExt},
    },
    path::Path,
};

use rustix::{
    fs::{AtFlags, Mode, RenameFlags, chmodat, renameat, renameat_with, statat, unlinkat},
    io::Errno,
};
use tempfile::TempDir;

use super::{ApplyError, Stamp, Todo, encoded};
use crate::{
    beneath::{self, Missing},
    checkout::Checkout,
    error::{Error, IoContext},
    filters,
    git::{Git, Input},
    manifest::Raw,
    names,
    quarantine::Quarantine,
    temporary::private_in,
};

const EINVAL: i32 = Errno::INVAL.raw_os_error();
const ENOSYS: i32 = Errno::NOSYS.raw_os_error();

/// Writes and deletes what is to be done; the files come from the tree `new` of the change `branch`.
pub(super) fn write(
    checkout: &Checkout,
    quarantine: &Quarantine,
    new: &str,
    branch: &str,
    todo: &[Todo],
) -> Result<(), ApplyError> {
    if todo.is_empty() {
        return Ok(());
    }
    let staging = staging(checkout)?;
    make_files(checkout, quarantine, new, branch, todo, staging.path())?;
    let fresh = staging.path().join("new");
    let old = staging.path().join("old");
    let new_root = beneath::root(&fresh).at("open", &fresh)?;
    keep_modes(&new_root, todo)?;
    let mut moves = Moves {
        root: beneath::root(checkout.top()).at("open", checkout.top())?,
        new: new_root,
        old: beneath::root(&old).at("open", &old)?,
        done: Vec::new(),
    };
    let result = moves.all(todo);
    if result.is_err() {
        moves.undo(staging);
    }
    result
}

/// How the names of these directories begin.
const STAGING: &str = ".orchestra-apply-";
/// And of one that holds what could not be put back.
const KEPT: &str = ".orchestra-kept-";
/// At most so many names are looked at for those that were left.
const LOOKED_AT_MAX: usize = 10_000;

/// Removes the directories that applies have left which were killed. Call it with the lock: nobody else is
/// at work then. What they held was as in a commit, in the snapshot of their task, or as earlier applies made
/// it of these. It is only for order: what fails is left.
pub(super) fn remove_left(checkout: &Checkout) {
    let Ok(entries) = place(checkout).and_then(|place| fs::read_dir(place).at("read", place))
    else {
        return;
    };
    for entry in entries.take(LOOKED_AT_MAX).flatten() {
        let name = entry.file_name();
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_dir && name.as_bytes().starts_with(STAGING.as_bytes()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// A directory on the file system of the work tree.
fn staging(checkout: &Checkout) -> Result<TempDir, Error> {
    let place = place(checkout)?;
    let dir = private_in(STAGING, place)?;
    for name in ["new", "old"] {
        let path = dir.path().join(name);
        fs::create_dir(&path).at("create the directory", &path)?;
    }
    Ok(dir)
}

/// Where it is made.
fn place(checkout: &Checkout) -> Result<&Path, Error> {
    let device = |path: &Path| fs::metadata(path).map(|m| m.dev()).at("look at", path);
    let same = device(checkout.git_dir())? == device(checkout.top())?;
    Ok(if same {
        checkout.git_dir()
    } else {
        checkout.top()
    })
}

/// Has git write the files, with the line ends that the user's checkout wants, and without any filter
/// program what is not the user's own.
fn make_files(
    checkout: &Checkout,
    quarantine: &Quarantine,
    new: &str,
    branch: &str,
    todo: &[Todo],
    staging: &Path,
) -> Result<(), ApplyError> {
    let git = checkout
        .git()
        .env("GIT_INDEX_FILE", quarantine.path().join("write-index"))
        .env("GIT_OBJECT_DIRECTORY", quarantine.objects());
    git.output(&["read-tree", new])?;
    let to = staging.join("new");
    let written = |filtered: bool| {
        let written = todo.iter().filter(|t| !t.file.is_deleted());
        written.filter(move |t| t.filtered == filtered)
    };
    check_out(&git, written(true), &to)?;
    let plain = match todo.iter().any(|todo| is_of_attributes(&todo.file.path)) {
        true => by_its_own_attributes(checkout, git, staging)?,
        false => git,
    };
    let plain = filters::off(plain)?;
    check_out(&plain, written(false), &to)?;
    encoded::require(
        &plain,
        &to,
        branch,
        written(false).filter(|t| t.file.is_file()),
    )
}

fn is_of_attributes(path: &[u8]) -> bool {
    path.rsplit(|byte| *byte == b'/').next() == Some(b".gitattributes")
}

/// The same git, for which all attributes are those of its index: the change has others than the work tree.
fn by_its_own_attributes(checkout: &Checkout, git: Git, staging: &Path) -> Result<Git, Error> {
    let place = staging.join("attributes");
    fs::create_dir(&place).at("create the directory", &place)?;
    let all = ["ls-files", "-z", "--", ":(top,glob)**/.gitattributes"];
    let all = git.clone().env("GIT_LITERAL_PATHSPECS", "0").output(&all)?;
    check_out_paths(&git, &all, &place)?;
    Ok(git.work_tree(&place).env("GIT_DIR", checkout.git_dir()))
}

/// Has git write files of its index below `to`.
fn check_out<'a>(git: &Git, files: impl Iterator<Item = &'a Todo>, to: &Path) -> Result<(), Error> {
    let paths: Vec<u8> = files
        .flat_map(|todo| [todo.file.path.as_slice(), b"\0"].concat())
        .collect();
    check_out_paths(git, &paths, to)
}

/// The same for paths that each end with a zero byte.
fn check_out_paths(git: &Git, paths: &[u8], to: &Path) -> Result<(), Error> {
    if paths.is_empty() {
        return Ok(());
    }
    let mut prefix = std::ffi::OsString::from("--prefix=");
    prefix.push(to);
    prefix.push("/");
    let args = [
        "checkout-index".as_ref(),
        prefix.as_os_str(),
        "-z".as_ref(),
        "--stdin".as_ref(),
    ];
    git.output_of(&args, Input::Bytes(paths)).map(drop)
}

/// Gives each new version the mode of the file that it replaces: who could not read that shall not read
/// this. Only the executable bit is as the change has it.
fn keep_modes(new: &OwnedFd, todo: &[Todo]) -> Result<(), Error> {
    for item in todo.iter().filter(|item| is_regular(&item.file)) {
        if let Some(was) = item.was {
            let path = &item.file.path;
            set_mode(new, path, kept_mode(was.mode, &item.file))
                .at("set the mode of", named(path))?;
        }
    }
    Ok(())
}

/// Whether it is a file before and after, not a link.
fn is_regular(file: &Raw) -> bool {
    const KIND: u32 = 0o170_000;
    const REGULAR: u32 = 0o100_000;
    [file.old_mode, file.new_mode].map(|mode| mode & KIND) == [REGULAR; 2]
}

/// The mode that a file shall have which had the mode `was`.
fn kept_mode(was: u32, file: &Raw) -> u32 {
    const EXECUTABLE: u32 = 0o111;
    let is_executable = |mode: u32| mode & EXECUTABLE != 0;
    match (is_executable(file.old_mode), is_executable(file.new_mode)) {
        (true, true) | (false, false) => was,
        // Whoever may read it.
        (false, true) => was | (was & 0o444) >> 2,
        (true, false) => was & !EXECUTABLE,
    }
}

/// Not where it has that mode: a file system without modes has no others.
fn set_mode(root: &OwnedFd, path: &[u8], mode: u32) -> io::Result<()> {
    let (dir, name) = beneath::parent(root, path, Missing::Fail)?;
    let stat = statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    match stat.st_mode & 0o777 == mode {
        true => Ok(()),
        false => Ok(chmodat(
            &dir,
            name,
            Mode::from_raw_mode(mode),
            AtFlags::empty(),
        )?),
    }
}

/// One step that was made.
enum Done {
    /// A file came to where nothing was.
    Added(Vec<u8>),
    /// A file and its new version changed places.
    Exchanged(Vec<u8>),
    /// A file was put aside under this number.
    PutAside(Vec<u8>, String),
}

/// Where files are brought to, without the case of letters: a file system may make no difference.
struct Places(BTreeSet<Vec<u8>>);

impl Places {
    fn of(brought: &[&Todo]) -> Self {
        let paths = brought
            .iter()
            .map(|item| item.file.path.to_ascii_lowercase());
        Self(paths.collect())
    }

    /// Whether this file is where one of them comes, or a directory above one, or is below one.
    fn are_behind(&self, item: &Todo) -> bool {
        let path = item.file.path.to_ascii_lowercase();
        let below = [&path, &b"/"[..]].concat();
        let is_above = self.0.range(below.clone()..).next();
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let mut above = slashes.map(|(at, _)| &path[..at]);
        self.0.contains(&path)
            || is_above.is_some_and(|place| place.starts_with(&below))
            || above.any(|dir| self.0.contains(dir))
    }
}

struct Moves {
    root: OwnedFd,
    new: OwnedFd,
    old: OwnedFd,
    done: Vec<Done>,
}

impl Moves {
    fn all(&mut self, todo: &[Todo]) -> Result<(), ApplyError> {
        let (gone, here): (Vec<_>, Vec<_>) = todo.iter().partition(|t| t.file.is_deleted());
        let places = Places::of(&here);
        // IMPORTANT: what is in the way goes first, so that a file can take the place of a directory; all else
        // goes last. An apply that is killed has then each file that was renamed at least once, and the
        // next one goes on with it: to git it would have been deleted here and renamed there.
        let (first, last): (Vec<_>, Vec<_>) =
            gone.into_iter().partition(|item| places.are_behind(item));
        self.remove(&first)?;
        for item in here {
            self.bring(item)?;
        }
        self.remove(&last)
    }

    fn remove(&mut self, gone: &[&Todo]) -> Result<(), ApplyError> {
        for item in gone {
            self.put_aside(item)?;
            self.remove_empty_parents(&item.file.path);
        }
        Ok(())
    }

    /// Moves the user's file out of the way, if it is still what was checked.
    fn put_aside(&mut self, item: &Todo) -> Result<(), ApplyError> {
        let path = &item.file.path;
        let number = self.done.len().to_string();
        let moved = beneath::parent(&self.root, path, Missing::Fail)
            .and_then(|(dir, name)| Ok(renameat(&dir, name, &self.old, number.as_str())?));
        moved.at("put aside", named(path))?;
        self.done.push(Done::PutAside(path.clone(), number.clone()));
        let stat = statat(&self.old, number.as_str(), AtFlags::SYMLINK_NOFOLLOW)
            .at("look at", named(path))?;
        if item.was == Some(Stamp::of(&stat)) {
            return Ok(());
        }
        Err(ApplyError::InTheWay {
            paths: vec![names::shown(path)],
        })
    }

    fn bring(&mut self, item: &Todo) -> Result<(), ApplyError> {
        let path = &item.file.path;
        if item.was.is_some() && self.exchange(item)? {
            return Ok(());
        }
        if item.was.is_some() {
            self.put_aside(item)?;
        }
        match self.move_in(path) {
            Ok(()) => {
                self.done.push(Done::Added(path.clone()));
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(ApplyError::InTheWay {
                    paths: vec![names::shown(path)],
                })
            }
            Err(error) => Err(error)
                .at("write", named(path))
                .map_err(ApplyError::from),
        }
    }

    /// Swaps the new file with the user's in one step, so that there is always one of them.
    /// False where the file system cannot do that.
    fn exchange(&mut self, item: &Todo) -> Result<bool, ApplyError> {
        let path = &item.file.path;
        match self.swap(path) {
            Ok(()) => self.done.push(Done::Exchanged(path.clone())),
            Err(error) if matches!(error.raw_os_error(), Some(EINVAL | ENOSYS)) => {
                return Ok(false);
            }
            Err(error) => {
                return Err(error)
                    .at("write", named(path))
                    .map_err(ApplyError::from);
            }
        }
        let stat = beneath::lstat(&self.new, path).at("look at", named(path))?;
        if item.was == stat.as_ref().map(Stamp::of) {
            return Ok(true);
        }
        Err(ApplyError::InTheWay {
            paths: vec![names::shown(path)],
        })
    }

    fn swap(&self, path: &[u8]) -> io::Result<()> {
        let (from, from_name) = beneath::parent(&self.new, path, Missing::Fail)?;
        let (to, to_name) = beneath::parent(&self.root, path, Missing::Fail)?;
        Ok(renameat_with(
            &from,
            from_name,
            &to,
            to_name,
            RenameFlags::EXCHANGE,
        )?)
    }

    /// Never replaces anything, not even what came there a moment ago.
    fn move_in(&self, path: &[u8]) -> io::Result<()> {
        let (from, from_name) = beneath::parent(&self.new, path, Missing::Fail)?;
        let (to, to_name) = beneath::parent(&self.root, path, Missing::Create)?;
        match renameat_with(&from, from_name, &to, to_name, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS) => {}
            other => return Ok(other?),
        }
        // A file system without that: the best that can be done is to look first.
        match statat(&to, to_name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(renameat(&from, from_name, &to, to_name)?),
            Err(error) => Err(error.into()),
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        }
    }

    /// Like git: a directory whose last file goes, goes too.
    fn remove_empty_parents(&self, path: &[u8]) {
        let mut rest = path;
        while let Some(slash) = rest.iter().rposition(|b| *b == b'/') {
            rest = &rest[..slash];
            let removed = beneath::parent(&self.root, rest, Missing::Fail)
                .and_then(|(dir, name)| Ok(unlinkat(&dir, name, AtFlags::REMOVEDIR)?));
            if removed.is_err() {
                return;
            }
        }
    }

    /// Takes everything back. What cannot be taken back is kept, not deleted.
    fn undo(&mut self, staging: TempDir) {
        let mut stuck = false;
        while let Some(done) = self.done.pop() {
            let result = match &done {
                Done::Added(path) => beneath::parent(&self.root, path, Missing::Fail)
                    .and_then(|(dir, name)| Ok(unlinkat(&dir, name, AtFlags::empty())?))
                    .inspect(|()| self.remove_empty_parents(path)),
                Done::Exchanged(path) => self.swap(path),
                Done::PutAside(path, number) => beneath::parent(&self.root, path, Missing::Create)
                    .and_then(|(dir, name)| Ok(renameat(&self.old, number.as_str(), &dir, name)?)),
            };
            stuck |= result.is_err();
        }
        if stuck {
            keep(staging);
        }
    }
}

/// Keeps it under a name that no later apply takes for a rest.
fn keep(staging: TempDir) {
    let dir = staging.keep();
    let name = dir.file_name().and_then(OsStr::to_str);
    if let Some(random) = name.and_then(|name| name.strip_prefix(STAGING)) {
        // It fails only on a disk on which nothing can be written.
        let _ = fs::rename(&dir, dir.with_file_name(format!("{KEPT}{random}")));
    }
}

fn named(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(path))
}
