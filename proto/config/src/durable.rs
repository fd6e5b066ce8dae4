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

/// Adds a line to a file of which the last line counts ([`last_line`]). As [`replace`] it survives
/// the end of this process at any point and costs no wait for the disk; it costs less, because a
/// file system may begin to write out a file that takes the place of another.
pub fn add_line(path: &Path, line: &[u8], access: Access) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(mode(access))
        .open(path)?;
    let before = file.metadata()?.len();
    // A part of an earlier line may be there, of a process that ended on a full disk.
    let line = [b"\n", line, b"\n"].concat();
    file.write_all(&line)
        .or_else(|error| file.set_len(before).and(Err(error)))
}

/// The last line of a file that `parse` takes.
pub fn last_line<T>(bytes: &[u8], parse: impl FnMut(&[u8]) -> Option<T>) -> Option<T> {
    bytes.rsplit(|b| *b == b'\n').find_map(parse)
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

/// Makes the file, or empties it, readable by the owner only (0600) where it is new. Nothing is made durable.
pub fn create_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    options.mode(mode(Access::Private)).open(path)
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
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode(access))
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

fn mode(access: Access) -> u32 {
    match access {
        Access::Private => 0o600,
        Access::Shared => 0o666,
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
    fn the_last_whole_line_counts_whatever_was_cut_off_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        let newest = || {
            let whole = |line: &[u8]| line.ends_with(b"}").then(|| line.to_vec());
            last_line(&fs::read(&path).unwrap(), whole).unwrap()
        };
        add_line(&path, b"{1}", Access::Private).unwrap();
        add_line(&path, b"{2}", Access::Private).unwrap();
        assert_eq!(newest(), b"{2}");
        let whole = fs::read(&path).unwrap();
        fs::write(&path, [&whole[..], b"\n{3"].concat()).unwrap();
        assert_eq!(newest(), b"{2}");
        add_line(&path, b"{4}", Access::Private).unwrap();
        assert_eq!(newest(), b"{4}");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(add_line(Path::new("/dev/full"), b"{}", Access::Private).is_err());
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
