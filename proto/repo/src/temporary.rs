//! Temporary directories that nobody else on the machine can look into, whatever the umask: what comes
//! into them is of a repository that may be closed to others.
//!
//! One that a killed process left is removed by a later one: nobody holds its lock, and it is old.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Once,
    time::{Duration, SystemTime},
};

use tempfile::TempDir;

use crate::{
    error::{IoContext, Result},
    lock::{self, Lock},
};

const PREFIX: &str = "orchestra-tmp-";
/// How names begin that are ours; the second is of earlier versions.
const OURS: [&str; 2] = [PREFIX, "orchestra-git-"];
/// How many random letters and digits end a name.
const RANDOM: usize = 6;
/// Between its making and its lock a directory is nobody's; in an earlier version it was so always.
const LEFT_AFTER: Duration = Duration::from_secs(24 * 60 * 60);
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
        let dir = private_in(PREFIX, place)?;
        // Where there are no locks, nothing is removed either.
        let held = lock::try_directory(dir.path()).ok().flatten();
        Ok(Self { dir, _held: held })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// A directory in `place` that this user alone can look into, from its making on.
pub(crate) fn private_in(prefix: &str, place: &Path) -> Result<TempDir> {
    tempfile::Builder::new()
        .prefix(prefix)
        .rand_bytes(RANDOM)
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir_in(place)
        .at("create a directory in", place)
}

/// Removes what is left of processes that were killed. It is only for order: what fails is left.
fn remove_left(place: &Path, now: SystemTime) {
    let Ok(entries) = fs::read_dir(place) else {
        return;
    };
    let names = entries.take(LOOKED_AT_MAX).flatten();
    let ours = names.filter(|entry| entry.file_name().to_str().is_some_and(is_ours));
    let old = ours
        .map(|entry| entry.path())
        .filter(|dir| is_old(dir, now));
    for dir in old.take(REMOVED_MAX) {
        remove_unless_held(dir);
    }
}

fn is_ours(name: &str) -> bool {
    let random = OURS.iter().find_map(|prefix| name.strip_prefix(prefix));
    random.is_some_and(|random| {
        random.len() == RANDOM && random.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

/// Whether it is a directory of this user's, and nothing came or went in it for long.
fn is_old(dir: &Path, now: SystemTime) -> bool {
    let own = rustix::process::geteuid().as_raw();
    fs::symlink_metadata(dir).is_ok_and(|meta| {
        let age = meta
            .modified()
            .ok()
            .and_then(|at| now.duration_since(at).ok());
        meta.is_dir() && meta.uid() == own && age.is_some_and(|age| age >= LEFT_AFTER)
    })
}

fn remove_unless_held(dir: PathBuf) {
    if let Ok(Some(_held)) = lock::try_directory(&dir) {
        let _ = fs::remove_dir_all(dir);
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
    fn what_was_left_is_removed_when_it_is_ours_old_and_not_held() {
        let place = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let dir = place.path().join(name);
            fs::create_dir_all(dir.join("objects")).unwrap();
            fs::write(dir.join("objects/a"), "a").unwrap();
            dir
        };
        let left = [make("orchestra-tmp-abc123"), make("orchestra-git-ABC123")];
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
        assert!(left.iter().all(|dir| dir.exists()), "they are new");

        remove_left(place.path(), SystemTime::now() + LEFT_AFTER * 2);
        assert!(left.iter().all(|dir| !dir.exists()));
        assert!(others.iter().all(|dir| dir.join("objects/a").exists()));
        assert!(link.is_symlink() && held.path().exists());
    }
}
