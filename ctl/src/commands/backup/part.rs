//! A backup on its way. Half a backup is none: until it is whole it has no name, and goes with its
//! command, however that ends. Where a file system has no files without a name, it is a hidden one that
//! goes when its command ends, also by Ctrl-C; what a killed one has left goes with the next one of that name.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::{ffi::OsStrExt, fs::OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, RenameFlags},
    io::Errno,
};

use crate::error::{Error, Result};

/// What its name ends with.
const END: &str = ".part";
/// Where open files can be found by their numbers.
const OPEN: &str = "/proc/self/fd";

/// A file in the directory of the one that it will be, which is gone with this: behind a success it has
/// another name.
pub struct Part {
    /// The file that it will be.
    to: PathBuf,
    /// Its name, where it needs one.
    path: PathBuf,
    /// What the names of others on their way to the same file begin with.
    begin: Vec<u8>,
}

impl Part {
    /// The one of this process for `file`.
    pub fn of(file: &Path) -> Result<Self> {
        let Some(name) = file.file_name() else {
            return Err(Error::usage(format!("`{}` names no file", file.display())));
        };
        let begin = [b".", name.as_bytes(), b"."].concat();
        let own = [
            &begin[..],
            format!("{}{END}", std::process::id()).as_bytes(),
        ]
        .concat();
        Ok(Self {
            to: file.to_owned(),
            path: file.with_file_name(OsStr::from_bytes(&own)),
            begin,
        })
    }

    /// The file that it will be.
    pub fn to(&self) -> &Path {
        &self.to
    }

    /// Makes it, after removing what is left of others.
    pub fn open(&self) -> io::Result<File> {
        self.remove_left();
        match self.without_name() {
            Some(file) => Ok(file),
            None => self.named(),
        }
    }

    /// Gives it its name, durably. Nothing that is there is replaced.
    pub fn put_in_place(&self, file: impl AsFd) -> io::Result<()> {
        let file = file.as_fd();
        if has_name(file)? {
            rename_to_new(&self.path, &self.to)?;
        } else {
            let open = format!("{OPEN}/{}", file.as_raw_fd());
            rustix::fs::linkat(CWD, open, CWD, &self.to, AtFlags::SYMLINK_FOLLOW)?;
        }
        File::open(self.above())?.sync_all()
    }

    /// None where the file system has no such files, or they could not get a name later.
    fn without_name(&self) -> Option<File> {
        if !Path::new(OPEN).is_dir() {
            return None;
        }
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::open(self.above(), flags, Mode::RUSR | Mode::WUSR);
        file.ok().map(File::from)
    }

    /// Its lock is held as long as it is open.
    fn named(&self) -> io::Result<File> {
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&self.path)?;
        // Some file systems know no locks. There nothing is removed either.
        let _ = file.try_lock();
        Ok(file)
    }

    /// Removes what nobody writes to any more. That it cannot be removed is no reason to make no backup.
    fn remove_left(&self) {
        let entries = fs::read_dir(self.above());
        for entry in entries.into_iter().flatten().flatten() {
            if self.is_of_another(&entry.file_name()) && is_left(&entry.path()) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn above(&self) -> &Path {
        let above = self.to.parent().filter(|dir| !dir.as_os_str().is_empty());
        above.unwrap_or(Path::new("."))
    }

    /// Whether a name is that of a part of the same file.
    fn is_of_another(&self, name: &OsStr) -> bool {
        let pid = name.as_bytes().strip_prefix(&self.begin[..]);
        let pid = pid.and_then(|rest| rest.strip_suffix(END.as_bytes()));
        pid.is_some_and(|pid| !pid.is_empty() && pid.iter().all(u8::is_ascii_digit))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn rename_to_new(from: &Path, to: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Some file systems cannot see to it.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => fs::rename(from, to),
        renamed => Ok(renamed?),
    }
}

fn has_name(file: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(rustix::fs::fstat(file)?.st_nlink > 0)
}

/// Whether the process that has made it is gone: the lock went with it.
fn is_left(path: &Path) -> bool {
    let is_file = path.symlink_metadata().is_ok_and(|meta| meta.is_file());
    let open = || File::options().write(true).open(path);
    is_file && open().is_ok_and(|file| file.try_lock().is_ok())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn what_a_killed_backup_left_goes_and_what_is_written_to_stays() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let names = [
            ".a.tar.1.part",
            ".a.tar.2.part",
            ".a.tar.x.part",
            ".b.tar.1.part",
            "a.tar.1.part",
        ];
        for name in names {
            fs::write(at(name), "half").unwrap();
        }
        let busy = File::options().write(true).open(at(names[1])).unwrap();
        busy.try_lock().unwrap();
        let part = Part::of(&at("a.tar")).unwrap();
        part.remove_left();
        let open = part.named().unwrap();
        assert!(!at(names[0]).exists());
        assert!(names[1..].iter().all(|name| at(name).exists()));
        // Nor does another one take this one for left.
        assert!(!is_left(&part.path));
        drop(open);
        let own = part.path.clone();
        assert!(is_left(&own));
        drop(part);
        assert!(!own.exists());
    }

    #[test]
    fn it_has_no_name_before_it_is_whole_and_replaces_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("a.tar");
        let names = || fs::read_dir(dir.path()).unwrap().count();
        for make in [Part::without_name, |part: &Part| part.named().ok()] {
            let begin = || {
                let part = Part::of(&to).unwrap();
                let mut file = make(&part).unwrap();
                file.write_all(b"whole").unwrap();
                (part, file)
            };
            let (part, file) = begin();
            assert_eq!(names(), usize::from(has_name(file.as_fd()).unwrap()));
            part.put_in_place(&file).unwrap();
            let (other, second) = begin();
            let refused = other.put_in_place(&second).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
            drop((part, file, other, second));
            assert_eq!((names(), fs::read(&to).unwrap()), (1, b"whole".to_vec()));
            fs::remove_file(&to).unwrap();
        }
    }
}
