//! A backup on its way. Half a backup is none: it goes when its command ends, also by Ctrl-C, and what a
//! killed one has left goes with the next one of that name.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    os::unix::{ffi::OsStrExt, fs::OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::error::{Error, Result};

/// What its name ends with.
const END: &str = ".part";

/// A file beside the one that it will be, which is gone with this: behind a success it has another name.
pub struct Part {
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
            path: file.with_file_name(OsStr::from_bytes(&own)),
            begin,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it, after removing what is left of others. Its lock is held as long as it is open.
    pub fn open(&self) -> io::Result<File> {
        self.remove_left();
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
        let above = self.path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let entries = fs::read_dir(above.unwrap_or(Path::new(".")));
        for entry in entries.into_iter().flatten().flatten() {
            if self.is_of_another(&entry.file_name()) && is_left(&entry.path()) {
                let _ = fs::remove_file(entry.path());
            }
        }
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

/// Whether the process that has made it is gone: the lock went with it.
fn is_left(path: &Path) -> bool {
    let is_file = path.symlink_metadata().is_ok_and(|meta| meta.is_file());
    let open = || File::options().write(true).open(path);
    is_file && open().is_ok_and(|file| file.try_lock().is_ok())
}

#[cfg(test)]
mod tests {
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
        let open = part.open().unwrap();
        assert!(!at(names[0]).exists());
        assert!(names[1..].iter().all(|name| at(name).exists()));
        // Nor does another one take this one for left.
        assert!(!is_left(part.path()));
        drop(open);
        let own = part.path().to_owned();
        assert!(is_left(&own));
        drop(part);
        assert!(!own.exists());
    }
}
