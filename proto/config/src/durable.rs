//! Small files that are replaced whole: a reader sees the old bytes or the new ones, never a part.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

/// Makes two writers of one process use two temporary names.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Its owner only (0600): keys, tokens.
    Private,
    /// Everybody whom the umask allows (0666 less the umask).
    Shared,
}

/// Writes `bytes` to `path`, durably: a temporary file beside it, fsync, rename, fsync of the
/// directory.
pub fn write(path: &Path, bytes: &[u8], access: Access) -> io::Result<()> {
    write_with(path, bytes, access, Sync::Disk)
}

/// Writes `bytes` to `path` by a temporary file and a rename. It survives the end of this process at
/// any point, and costs no wait for the disk; after a loss of power the file may be the old one or
/// none, or hold anything.
pub fn replace(path: &Path, bytes: &[u8], access: Access) -> io::Result<()> {
    write_with(path, bytes, access, Sync::None)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sync {
    Disk,
    None,
}

fn write_with(path: &Path, bytes: &[u8], access: Access, sync: Sync) -> io::Result<()> {
    let temporary = temporary_beside(path)?;
    let written = write_and_rename(&temporary, path, bytes, access, sync);
    if written.is_err() {
        // The first error is the one to report; a file that cannot be removed is only litter.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Makes `dir` and what is missing above it, readable by the owner only (0700).
pub fn create_private_dir(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
}

fn temporary_beside(path: &Path) -> io::Result<std::path::PathBuf> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path has no file name"))?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    temporary.push(format!(".{}.{number}.tmp", std::process::id()));
    Ok(path.with_file_name(temporary))
}

fn write_and_rename(
    temporary: &Path,
    path: &Path,
    bytes: &[u8],
    access: Access,
    sync: Sync,
) -> io::Result<()> {
    // A temporary file of an earlier process with the same pid is only in the way.
    match fs::remove_file(temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mode = match access {
        Access::Private => 0o600,
        Access::Shared => 0o666,
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(temporary)?;
    file.write_all(bytes)?;
    match sync {
        Sync::None => fs::rename(temporary, path),
        Sync::Disk => {
            file.sync_all()?;
            fs::rename(temporary, path)?;
            sync_parent(path)
        }
    }
}

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => File::open(".")?.sync_all(),
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_private_file_is_replaced_whole_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write(&path, b"one", Access::Private).unwrap();
        replace(&path, b"two", Access::Private).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_write_that_fails_leaves_the_old_file_and_no_litter() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("taken");
        fs::create_dir_all(path.join("full")).unwrap();
        assert!(write(&path, b"x", Access::Shared).is_err());
        assert!(path.join("full").is_dir());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
