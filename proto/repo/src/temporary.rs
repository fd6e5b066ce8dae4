//! Temporary directories that nobody else on the machine can look into, whatever the umask: what comes
//! into them is of a repository that may be closed to others.
//!
//! One that a killed process left is removed by the next one, which sees that nobody holds its lock.
//! Between its making and its lock a directory is nobody's: who finds its own removed makes another.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::Path,
    sync::Once,
    time::{Duration, SystemTime},
};

use rustix::io::Errno;
use tempfile::TempDir;

use crate::{
    error::{Error, IoContext, Result},
    lock::{self, Lock},
};

const PREFIX: &str = "orchestra-tmp-";
/// How names of earlier versions begin, which held no lock.
const FORMER: &str = "orchestra-git-";
/// How many random letters and digits end a name.
const RANDOM: usize = 6;
/// What has no lock is left when it is so old.
const LEFT_AFTER: Duration = Duration::from_secs(24 * 60 * 60);
/// How often another one is made when somebody took one for left.
const TRIES_MAX: usize = 32;
/// At most so many names are looked at, and so many directories removed, by one process.
const LOOKED_AT_MAX: usize = 10_000;
const REMOVED_MAX: usize = 32;

/// A directory below the system's temporary one, for this user only. It goes with this value.
#[derive(Debug)]
pub struct Temporary {
    // IMPORTANT: before the lock, so that it is held until the directory is gone.
    dir: TempDir,
    _held: Option<Lock>,
}

impl Temporary {
    /// Makes one. The first in a process also removes what killed ones have left.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn new() -> Result<Self> {
        static CLEANED: Once = Once::new();
        let place = std::env::temp_dir();
        CLEANED.call_once(|| remove_left(&place, SystemTime::now()));
        Self::new_in(&place)
    }

    fn new_in(place: &Path) -> Result<Self> {
        let doing = named_by(std::env::var_os("TMPDIR"));
        for _ in 0..TRIES_MAX {
            if let Some(made) = Self::kept(make(PREFIX, place).at(doing, place)?)? {
                return Ok(made);
            }
        }
        Err(io::Error::from(io::ErrorKind::NotFound)).at("keep a directory in", place)
    }

    /// None when another process took it for left before it was locked.
    fn kept(dir: TempDir) -> Result<Option<Self>> {
        let held = match lock::try_directory(dir.path()) {
            Ok(Some(held)) => Some(held),
            Ok(None) => return Ok(None),
            Err(_) if !dir.path().is_dir() => return Ok(None),
            // Where there are no locks, nothing is removed either.
            Err(error) if has_no_locks(&error) => None,
            Err(error) => return Err(error),
        };
        let is_there = dir.path().is_dir();
        Ok(is_there.then_some(Self { dir, _held: held }))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// A directory in `place` that this user alone can look into, from its making on.
pub(crate) fn private_in(prefix: &str, place: &Path) -> Result<TempDir> {
    make(prefix, place).at("create a directory in", place)
}

/// Makes a directory, and what is missing above it, that this user alone can look into. Git makes what is in
/// it as the umask says.
pub(crate) fn make_private(dir: &Path) -> Result<()> {
    let mut builder = fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(dir);
    made.at("create the directory", dir)
}

fn make(prefix: &str, place: &Path) -> io::Result<TempDir> {
    tempfile::Builder::new()
        .prefix(prefix)
        .rand_bytes(RANDOM)
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir_in(place)
}

/// What is tried, so that whoever has named a place that is no good knows where.
fn named_by(tmpdir: Option<OsString>) -> &'static str {
    match tmpdir {
        Some(_) => "create a directory where TMPDIR says, in",
        None => "create a temporary directory in",
    }
}

/// Whether the file system cannot lock.
fn has_no_locks(error: &Error) -> bool {
    let cannot = [Errno::NOLCK, Errno::OPNOTSUPP, Errno::NOSYS];
    let said = match error {
        Error::Io { source, .. } => source.raw_os_error(),
        _ => None,
    };
    cannot
        .iter()
        .any(|errno| said == Some(errno.raw_os_error()))
}

/// Removes what is left of processes that were killed. It is only for order: what fails is left.
fn remove_left(place: &Path, now: SystemTime) {
    let Ok(entries) = fs::read_dir(place) else {
        return;
    };
    let names = entries.take(LOOKED_AT_MAX).flatten();
    let left = names.filter_map(|entry| {
        let age = after(entry.file_name().to_str()?)?;
        let dir = entry.path();
        is_own(&dir, now, age).then_some(dir)
    });
    let removed = left.filter(|dir| remove_unless_held(dir));
    let _ = removed.take(REMOVED_MAX).count();
}

/// How old a directory of this name must be to be left; none when it is not ours.
fn after(name: &str) -> Option<Duration> {
    let is_random = |random: &str| {
        random.len() == RANDOM && random.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    let begins = [(PREFIX, Duration::ZERO), (FORMER, LEFT_AFTER)];
    let found = begins.into_iter().find(|(begin, _)| {
        let random = name.strip_prefix(begin);
        random.is_some_and(is_random)
    });
    found.map(|(_, age)| age)
}

/// Whether it is a directory of this user's, and nothing came or went in it for so long.
fn is_own(dir: &Path, now: SystemTime, least: Duration) -> bool {
    let own = rustix::process::geteuid().as_raw();
    fs::symlink_metadata(dir).is_ok_and(|meta| {
        let at = meta.modified().ok();
        let age = at.and_then(|at| now.duration_since(at).ok());
        // A clock that was set back makes nothing young whose lock is enough.
        let old = least.is_zero() || age.is_some_and(|age| age >= least);
        meta.is_dir() && meta.uid() == own && old
    })
}

/// False when it is held or stays.
fn remove_unless_held(dir: &Path) -> bool {
    match lock::try_directory(dir) {
        Ok(Some(_held)) => fs::remove_dir_all(dir).is_ok(),
        Ok(None) | Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn nobody_else_can_look_into_it() {
        let place = tempfile::tempdir().unwrap();
        let made = Temporary::new_in(place.path()).unwrap();
        assert_eq!(mode(made.path()), 0o700);
        assert_eq!(mode(private_in("x-", place.path()).unwrap().path()), 0o700);
        let path = made.path().to_owned();
        drop(made);
        assert!(!path.exists());
    }

    #[test]
    fn a_place_that_is_not_there_is_told_with_the_variable_that_names_it() {
        assert!(named_by(Some("/x".into())).contains("TMPDIR"));
        assert!(!named_by(None).contains("TMPDIR"));
        let place = tempfile::tempdir().unwrap();
        let error = Temporary::new_in(&place.path().join("none")).unwrap_err();
        assert!(error.to_string().ends_with("none`"), "{error}");
    }

    #[test]
    fn what_was_left_is_removed_when_it_is_ours_and_not_held() {
        let place = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let dir = place.path().join(name);
            fs::create_dir_all(dir.join("objects")).unwrap();
            fs::write(dir.join("objects/a"), "a").unwrap();
            dir
        };
        let left = make("orchestra-tmp-abc123");
        let former = make("orchestra-git-ABC123");
        let others = [
            make("orchestra-tmp-"),
            make("orchestra-tmp-of.me"),
            make("orchestra-demo-abc123"),
            make("ctl-abc123"),
        ];
        let link = place.path().join("orchestra-tmp-link12");
        std::os::unix::fs::symlink(&others[0], &link).unwrap();
        let held = Temporary::new_in(place.path()).unwrap();

        remove_left(place.path(), SystemTime::now());
        assert!(!left.exists());
        assert!(former.exists(), "it has no lock, and is new");

        remove_left(place.path(), SystemTime::now() + LEFT_AFTER * 2);
        assert!(!former.exists());
        assert!(others.iter().all(|dir| dir.join("objects/a").exists()));
        assert!(link.is_symlink() && held.path().exists());
    }

    #[test]
    fn one_that_was_taken_for_left_before_it_was_locked_is_not_used() {
        let place = tempfile::tempdir().unwrap();
        let gone = private_in(PREFIX, place.path()).unwrap();
        remove_left(place.path(), SystemTime::now());
        assert!(Temporary::kept(gone).unwrap().is_none());
        let going = private_in(PREFIX, place.path()).unwrap();
        let remover = lock::try_directory(going.path()).unwrap();
        assert!(Temporary::kept(going).unwrap().is_none());
        drop(remover);
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    remove_left(place.path(), SystemTime::now());
                }
            });
            for _ in 0..200 {
                let made = Temporary::new_in(place.path()).unwrap();
                fs::write(made.path().join("a"), "a").unwrap();
                assert!(made.path().join("a").exists());
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }
}
