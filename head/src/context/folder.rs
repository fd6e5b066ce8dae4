//! One directory, held open. Nothing here follows a symbolic link below it, waits at a pipe, or
//! reads without bound: what lies in a project's directory is not to be trusted.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read, Write},
    os::fd::OwnedFd,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, RenameFlags},
    io::Errno,
};

/// Makes temporary names of one process differ.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// What is known of a file without reading it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) bytes: u64,
    pub(super) written: SystemTime,
}

/// A directory.
#[derive(Debug)]
pub(super) struct Folder {
    handle: OwnedFd,
}

impl Folder {
    /// The directory at `path`, which may be a link: whoever named the path has chosen it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Self { handle })
    }

    /// The directory `name` in this one, when it is there.
    pub(super) fn existing(&self, name: impl AsRef<OsStr>) -> io::Result<Option<Self>> {
        match self.descend(name.as_ref()) {
            Ok(folder) => Ok(Some(folder)),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::LOOP | Errno::NOTDIR) => Err(io::Error::other(format!(
                "`{}` is not a directory",
                name.as_ref().display()
            ))),
            Err(error) => Err(error.into()),
        }
    }

    /// The directory `name` in this one; made when it is not there.
    pub(super) fn made(&self, name: impl AsRef<OsStr>, mode: u32) -> io::Result<Self> {
        let name = name.as_ref();
        match rustix::fs::mkdirat(&self.handle, name, Mode::from_raw_mode(mode)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        self.existing(name)?
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn descend(&self, name: &OsStr) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = rustix::fs::openat(&self.handle, name, flags, Mode::empty())?;
        Ok(Self { handle })
    }

    /// The regular file `name`; none when it is not there.
    pub(super) fn read(&self, name: &str, max: usize) -> io::Result<Option<Vec<u8>>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let handle = match rustix::fs::openat(&self.handle, name, flags, Mode::empty()) {
            Ok(handle) => handle,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(io::Error::other(format!("`{name}` is a link"))),
            Err(error) => return Err(error.into()),
        };
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&handle)?.st_mode);
        if kind != FileType::RegularFile {
            return Err(io::Error::other(format!("`{name}` is not a regular file")));
        }
        let mut bytes = Vec::new();
        let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
        File::from(handle).take(limit).read_to_end(&mut bytes)?;
        if bytes.len() > max {
            return Err(io::Error::other(format!(
                "`{name}` is larger than {max} bytes"
            )));
        }
        Ok(Some(bytes))
    }

    /// Replaces the file `name` whole: temporary file, fsync, rename, fsync of the directory.
    /// A link of that name is replaced, never followed. It has this mode, less the umask.
    pub(super) fn write(&self, name: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let temporary = format!(".{name}.{}.{number}.tmp", std::process::id());
        let written = self.write_and_rename(&temporary, name, bytes, mode);
        if written.is_err() {
            // The first error is the one to report; what stays is litter.
            let _ = rustix::fs::unlinkat(&self.handle, &temporary, AtFlags::empty());
        }
        written
    }

    fn write_and_rename(
        &self,
        temporary: &str,
        name: &str,
        bytes: &[u8],
        mode: u32,
    ) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.handle, temporary, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let handle = rustix::fs::openat(&self.handle, temporary, flags, Mode::from_raw_mode(mode))?;
        let mut file = File::from(handle);
        file.write_all(bytes)?;
        file.sync_all()?;
        rustix::fs::renameat(&self.handle, temporary, &self.handle, name)?;
        rustix::fs::fsync(&self.handle)?;
        Ok(())
    }

    /// Whether there is anything of that name.
    pub(super) fn has(&self, name: &str) -> io::Result<bool> {
        Ok(self.kind(name)?.is_some())
    }

    /// Whether `name` is a regular file.
    pub(super) fn is_file(&self, name: &str) -> io::Result<bool> {
        Ok(self.kind(name)? == Some(FileType::RegularFile))
    }

    fn kind(&self, name: &str) -> io::Result<Option<FileType>> {
        match rustix::fs::statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives a file another name, in place of what had it.
    pub(super) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        rustix::fs::renameat(&self.handle, from, &self.handle, to)?;
        Ok(rustix::fs::fsync(&self.handle)?)
    }

    /// Gives a file another name, in place of what had it. Whether it was there.
    pub(super) fn rename_if_there(&self, from: &str, to: &str) -> io::Result<bool> {
        match rustix::fs::renameat(&self.handle, from, &self.handle, to) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives a file another name if nothing has that. Whether it has it now.
    pub(super) fn rename_to_free(&self, from: &str, to: &str) -> io::Result<bool> {
        let dir = &self.handle;
        match rustix::fs::renameat_with(dir, from, dir, to, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            // As on NFS, which knows no such rename.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => self.link_to_free(from, to),
            Err(error) => Err(error.into()),
        }
    }

    fn link_to_free(&self, from: &str, to: &str) -> io::Result<bool> {
        match rustix::fs::linkat(&self.handle, from, &self.handle, to, AtFlags::empty()) {
            Ok(()) => self.remove(from).map(|()| true),
            Err(Errno::EXIST) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a file of this name; a link, never what it leads to. [`Folder::sync`] makes it durable.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.handle, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes durable which names are in it.
    pub(super) fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.handle)?)
    }

    /// The bytes of the regular file `name`, and when they were written; none when there is none.
    pub(super) fn look(&self, name: &str) -> io::Result<Option<Look>> {
        let stat = match rustix::fs::statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        // What was written before 1970 was written by a clock that was wrong.
        let seconds = u64::try_from(stat.st_mtime).unwrap_or_default();
        Ok(Some(Look {
            bytes: u64::try_from(stat.st_size).unwrap_or_default(),
            written: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
        }))
    }

    /// The names in it, in no order.
    pub(super) fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.handle)? {
            if let Ok(name) = entry?.file_name().to_str() {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }
}
