//! Removing what agents leave behind, and whether there is room for more.

use std::{
    error::Error,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use orchestra_repo::says_full;

use crate::room::Full;

/// What a directory must have room for, so that its disk does not count as full.
const ROOM_BYTES: usize = 64 * 1024;
/// How much of what a CLI said last is searched for a disk that is full.
const LAST_WORDS_BYTES: u64 = 4096;

/// Whether an error, or what caused it, is a full disk or a used up quota. Other programs say so
/// only in words.
pub fn is_full(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(Full::is_full) || says_full(&error.to_string()) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Whether a directory has no room left.
pub fn has_no_room(dir: &Path) -> bool {
    let tried = tempfile::tempfile_in(dir).and_then(|mut file| file.write_all(&[1; ROOM_BYTES]));
    tried.is_err_and(|error| error.is_full())
}

/// Whether a log ends with words about a full disk.
pub fn ends_with_full(log: &Path) -> bool {
    let read = || {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LAST_WORDS_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(LAST_WORDS_BYTES).read_to_end(&mut bytes)?;
        io::Result::Ok(says_full(&String::from_utf8_lossy(&bytes)))
    };
    read().unwrap_or(false)
}

/// Removes a directory with all that is in it; not finding it is fine.
pub fn remove_dir(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            make_writable(path)?;
            fs::remove_dir_all(path)
        }
        other => other,
    }
}

/// Agents make read-only directories (module caches): their owner may open them again.
fn make_writable(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.is_dir() {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    fs::read_dir(path)?.try_for_each(|entry| make_writable(&entry?.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_known_by_its_error_and_by_its_words() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        assert!(is_full(&full));
        assert!(is_full(&io::Error::other(
            "git said: fatal: No space left on device"
        )));
        assert!(is_full(&io::Error::other(
            "fatal: sha1 file 'index.lock' write error. Out of diskspace"
        )));
        assert!(!is_full(&io::Error::from(io::ErrorKind::PermissionDenied)));
        let dir = tempfile::tempdir().unwrap();
        assert!(!has_no_room(dir.path()) && !has_no_room(Path::new("/no/such/dir")));
        let log = dir.path().join("log");
        fs::write(&log, "x".repeat(10_000) + "\ncp: Disk quota exceeded\n").unwrap();
        assert!(ends_with_full(&log));
        fs::write(
            &log,
            "cp: Disk quota exceeded\n".to_owned() + &"x".repeat(10_000),
        )
        .unwrap();
        assert!(!ends_with_full(&log));
    }

    #[test]
    fn a_read_only_tree_can_be_removed() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("inner")).unwrap();
        fs::write(tree.join("inner/file"), "x").unwrap();
        fs::set_permissions(tree.join("inner"), fs::Permissions::from_mode(0o500)).unwrap();
        remove_dir(&tree).unwrap();
        assert!(!tree.exists());
        remove_dir(&tree).unwrap();
    }
}
