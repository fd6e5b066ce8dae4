//! Whose files the state is made of.
//!
//! A head or worker that runs as another user, as root in the place of a person, leaves files behind that
//! their owner can no longer read: the next start finds a store that it may not open.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{Access, OFlags, access};

/// What the kernel shows for an owner that has no number here: it says nothing, unless all numbers are known.
const OVERFLOW: u32 = 65_534;

/// A directory that belongs to another user, or a file that this user can not use for that.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` belongs to user {owner}, and this is user {us}; {}", path.display(), self.ways_out())]
pub struct Foreign {
    path: PathBuf,
    all: PathBuf,
    owner: u32,
    us: u32,
    /// Whether what it lies in belongs to this user.
    is_stray: bool,
}

impl Foreign {
    fn ways_out(&self) -> String {
        let Self { owner, us, .. } = self;
        let all = self.all.display();
        let chown = format!("let user {us} have all of it: `sudo chown -R {us} {all}`");
        match self.is_stray {
            true => chown,
            false => format!("be user {owner} (`sudo -u '#{owner}' …`), or {chown}"),
        }
    }
}

/// Refuses a directory that is there, within `all` of a state, and belongs to another user.
///
/// # Errors
/// When it does.
pub fn refuse_foreign(dir: &Path, all: &Path) -> Result<(), Foreign> {
    let us = us();
    match dir.metadata().map(|found| found.uid()) {
        Ok(owner) if owner != us && (owner != OVERFLOW || is_told(dir)) => {
            Err(foreign(dir, all, owner, false))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Refuses what lies in `dir` of this user and is kept from this user, since another one has made it:
/// somebody was root there.
///
/// # Errors
/// When something does.
pub fn refuse_strays(dir: &Path, all: &Path) -> Result<(), Foreign> {
    let (us, entries) = (us(), fs::read_dir(dir).into_iter().flatten());
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        match path.symlink_metadata().map(|found| found.uid()) {
            Ok(owner) if owner != us && is_kept_from_us(&path) => {
                return Err(foreign(&path, all, owner, true));
            }
            Ok(_) | Err(_) => {}
        }
    }
    Ok(())
}

fn foreign(path: &Path, all: &Path, owner: u32, is_stray: bool) -> Foreign {
    Foreign {
        path: path.to_owned(),
        all: all.to_owned(),
        owner,
        us: us(),
        is_stray,
    }
}

fn us() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn is_kept_from_us(path: &Path) -> bool {
    matches!(
        access(path, Access::READ_OK | Access::WRITE_OK),
        Err(rustix::io::Errno::ACCESS)
    )
}

/// Whether the overflow number of a directory is that of a user, `nobody`, who owns it. It is not where the
/// kernel does not know all numbers, nor where what we make gets that number too, as root on NFS does.
fn is_told(dir: &Path) -> bool {
    let knows_all = fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| maps_all(&map));
    // It has no name and leaves nothing behind. NFS, for one, cannot make it.
    let mut ours = OpenOptions::new();
    let ours = ours
        .write(true)
        .mode(0o600)
        .custom_flags(i32::try_from(OFlags::TMPFILE.bits()).unwrap_or_default());
    let is_ours = || {
        let made = ours.open(dir).and_then(|file| file.metadata());
        made.is_ok_and(|made| made.uid() == us())
    };
    knows_all && us() != OVERFLOW && is_ours()
}

/// Whether a `uid_map` has each number that a user can have.
fn maps_all(map: &str) -> bool {
    let fields: Vec<_> = map.split_whitespace().collect();
    fields == ["0", "0", "4294967295"]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_namespace_knows_all_users() {
        assert!(maps_all("         0          0 4294967295\n"));
        for map in ["0 1000 1\n1 100000 65536\n", "0 0 65536\n", ""] {
            assert!(!maps_all(map), "{map}");
        }
    }

    #[test]
    fn who_finds_a_file_of_root_in_an_own_directory_is_not_told_to_be_root() {
        let all = Path::new("/s");
        let stray = foreign(Path::new("/s/head/db/snap.1"), all, 7, true).to_string();
        assert!(stray.starts_with("`/s/head/db/snap.1` belongs to user 7, and this is user"));
        assert!(
            stray.contains("sudo chown -R") && !stray.contains("be user 7"),
            "{stray}"
        );
        let dir = foreign(Path::new("/s/head"), all, 7, false).to_string();
        assert!(
            dir.contains("be user 7 (`sudo -u '#7' …`), or let user"),
            "{dir}"
        );
    }
}
