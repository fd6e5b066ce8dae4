//! Files below a directory that somebody else may be changing: no symbolic link is followed on
//! the way, and nothing but regular files is ever opened for reading.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read},
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::Path,
};

use orchestra_types::Digest;
use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, mkdirat, openat, statat},
    io::Errno,
};
use sha2::{Digest as _, Sha256};

/// What to do about directories that are not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    Fail,
    Create,
}

const DIR: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// The directory itself. Its own path is trusted.
pub(crate) fn root(path: &Path) -> io::Result<OwnedFd> {
    Ok(openat(
        CWD,
        path,
        DIR.difference(OFlags::NOFOLLOW),
        Mode::empty(),
    )?)
}

/// The directory that holds `path`, and the last name of it.
pub(crate) fn parent<'p>(
    root: &OwnedFd,
    path: &'p [u8],
    missing: Missing,
) -> io::Result<(OwnedFd, &'p OsStr)> {
    let mut dir = root.try_clone()?;
    let mut rest = path;
    while let Some(slash) = rest.iter().position(|b| *b == b'/') {
        let name = OsStr::from_bytes(&rest[..slash]);
        if missing == Missing::Create {
            match mkdirat(&dir, name, Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        dir = openat(&dir, name, DIR, Mode::empty())?;
        rest = &rest[slash + 1..];
    }
    Ok((dir, OsStr::from_bytes(rest)))
}

/// What is at `path`, not following links; none when there is nothing.
pub(crate) fn lstat(root: &OwnedFd, path: &[u8]) -> io::Result<Option<Stat>> {
    let found = parent(root, path, Missing::Fail)
        .and_then(|(dir, name)| Ok(statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?));
    match found {
        Ok(stat) => Ok(Some(stat)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What a directory holds: names and kinds, none of them followed.
pub(crate) fn list(root: &OwnedFd, path: &[u8]) -> io::Result<Vec<(Vec<u8>, FileType)>> {
    let (parent, name) = parent(root, path, Missing::Fail)?;
    let dir = openat(&parent, name, DIR, Mode::empty())?;
    let mut found = Vec::new();
    for entry in Dir::read_from(&dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => kind(&statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?),
            kind => kind,
        };
        found.push((name.to_vec(), kind));
    }
    Ok(found)
}

/// The kind of a file.
pub(crate) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Opens a regular file for reading; never blocks on a pipe, never follows a link.
pub(crate) fn open_regular(root: &OwnedFd, path: &[u8]) -> io::Result<File> {
    let (dir, name) = parent(root, path, Missing::Fail)?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = openat(&dir, name, flags, Mode::empty())?;
    if kind(&fstat(&fd)?) != FileType::RegularFile {
        return Err(io::Error::other("not a regular file"));
    }
    Ok(File::from(fd))
}

/// The SHA-256 of the first `limit` bytes that `from` gives.
pub(crate) fn digest(from: &mut dyn Read, limit: u64) -> io::Result<Digest> {
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; 64 * 1024];
    let mut from = from.take(limit);
    loop {
        match from.read(&mut chunk) {
            Ok(0) => return Ok(Digest(hasher.finalize().into())),
            Ok(count) => hasher.update(&chunk[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The SHA-256 of a short text.
pub(crate) fn digest_of(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}
