//! Files of a checkout that git ignores and that agents need all the same, such as `.env`: out of the
//! user's checkout and into a workspace. They are in no snapshot and in no result.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::{fd::OwnedFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
};

use orchestra_types::limits;
use rustix::fs::{FileType, Mode, OFlags, openat};

use crate::{
    beneath::{self, Missing},
    checkout::Checkout,
    error::{IoContext, Result},
    git::records,
    names,
    stage::{Warnings, is_below},
};

/// One file, copied out of a checkout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignored {
    /// Its path below the top.
    pub path: String,
    /// Whether it can be executed.
    pub executable: bool,
    /// Where the copy is.
    pub copy: PathBuf,
}

/// What became of a file that was to be put into a workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is there.
    Written,
    /// Something of that name is there already, and stays.
    Exists,
}

impl Checkout {
    /// Copies the ignored files that match `patterns` into the directory `to`: of each pattern what git
    /// takes for a path below the top, with `*` and `**`, or a directory with all below it. What cannot
    /// be taken is named in the warnings: links, large files, and patterns that match nothing.
    ///
    /// # Errors
    /// When git fails or `to` cannot be written to.
    pub fn copy_ignored(
        &self,
        patterns: &[String],
        to: &Path,
    ) -> Result<(Vec<Ignored>, Vec<String>)> {
        let root = beneath::root(self.top()).at("open", self.top())?;
        let mut warnings = Warnings::default();
        let mut copied: Vec<Ignored> = Vec::new();
        let mut room = limits::COPIED_BYTES_MAX;
        for pattern in patterns {
            let found = self.ignored(pattern)?;
            if found.is_empty() {
                warnings.add(format!("no file that git ignores matches `{pattern}`"));
            }
            for path in found {
                let Some(text) = usable(&path, &mut warnings) else {
                    continue;
                };
                if copied.iter().any(|known| known.path == text) {
                    continue;
                }
                if copied.len() == limits::COPIED_FILES_MAX {
                    let most = limits::COPIED_FILES_MAX;
                    warnings.path(&path, format_args!("more than {most} files match"));
                    continue;
                }
                let copy = to.join(copied.len().to_string());
                match copy_out(&root, &path, &copy, room) {
                    Ok((bytes, executable)) => {
                        room -= bytes;
                        copied.push(Ignored {
                            path: text,
                            executable,
                            copy,
                        });
                    }
                    Err(error) => warnings.path(&path, error),
                }
            }
        }
        Ok((copied, warnings.into_list()))
    }

    fn ignored(&self, pattern: &str) -> Result<Vec<Vec<u8>>> {
        let git = self.git().env("GIT_LITERAL_PATHSPECS", "0");
        let spec = format!(":(top,glob){}", pattern.trim_matches('/'));
        let output = git.output(&[
            "ls-files",
            "-z",
            "--others",
            "--ignored",
            "--exclude-standard",
            "--",
            &spec,
        ])?;
        let found = records(&output).filter(|path| !is_below(path, &self.excluded));
        Ok(found.map(<[u8]>::to_vec).collect())
    }
}

/// The path as text, when a workspace can have it.
fn usable(path: &[u8], warnings: &mut Warnings) -> Option<String> {
    if path.ends_with(b"/") {
        warnings.path(path, "it is a repository of its own");
        return None;
    }
    let text = String::from_utf8(path.to_vec()).ok();
    let why = match (&text, names::refusal(path)) {
        (Some(text), None) if !text.chars().any(char::is_control) => return Some(text.clone()),
        (Some(_), Some(why)) => format!("its name {why}"),
        (Some(_), None) => "its name has control characters".to_owned(),
        (None, _) => "its name is not UTF-8".to_owned(),
    };
    warnings.path(path, why);
    None
}

/// Copies at most `room` bytes; how many, and whether the file can be executed.
fn copy_out(root: &OwnedFd, path: &[u8], to: &Path, room: u64) -> io::Result<(u64, bool)> {
    let stat = beneath::lstat(root, path)?.ok_or(io::ErrorKind::NotFound)?;
    if beneath::kind(&stat) != FileType::RegularFile {
        return Err(io::Error::other("it is no regular file"));
    }
    let from = beneath::open_regular(root, path)?;
    let executable = from.metadata()?.permissions().mode() & 0o111 != 0;
    let mut copy = File::create_new(to)?;
    let bytes = io::copy(&mut from.take(room + 1), &mut copy)?;
    if bytes > room {
        fs::remove_file(to)?;
        let most = limits::COPIED_BYTES_MAX;
        return Err(io::Error::other(format!(
            "all files that match are more than {most} bytes"
        )));
    }
    Ok((bytes, executable))
}

/// Puts a file at `path` below the directory `root`, readable for its owner alone. No link is followed on
/// the way, and nothing is replaced.
///
/// # Errors
/// When the path does not stay below the directory, or the disk refuses.
pub fn put_ignored(root: &Path, path: &str, executable: bool, from: &Path) -> Result<Put> {
    let shown = root.join(path);
    if let Some(why) = names::refusal(path.as_bytes()) {
        return Err(io::Error::other(format!("its name {why}"))).at("write", &shown);
    }
    let top = beneath::root(root).at("open", root)?;
    let (dir, name) =
        beneath::parent(&top, path.as_bytes(), Missing::Create).at("write", &shown)?;
    let mode = Mode::from_raw_mode(if executable { 0o700 } else { 0o600 });
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = match openat(&dir, name, flags, mode) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::EXIST) => return Ok(Put::Exists),
        Err(error) => return Err(io::Error::from(error)).at("write", &shown),
    };
    let mut source = File::open(from).at("open", from)?;
    io::copy(&mut source, &mut file).at("write", &shown)?;
    Ok(Put::Written)
}
