//! The head's own directory of one project: every file in it has its checksum in its first line.
//!
//! A file `format` says so. A directory without it comes from before there were checksums: its
//! files get theirs when it is opened. A crash in between leaves some with and some without, and the
//! next opening goes on.

use std::{io, path::Path};

use super::{
    OUTPUTS,
    folder::{Folder, Look},
    sum,
};

/// Says that all files have a checksum.
pub(super) const FORMAT: &str = "format";
const FORMAT_TEXT: &[u8] =
    b"Every file here begins with such a line: the SHA-256 of what follows it.\n";
/// What a damaged file is called once it is set aside.
pub(super) const ASIDE: &str = ".damaged";

/// A directory of ours.
#[derive(Debug)]
pub(super) struct Own {
    folder: Folder,
}

impl Own {
    /// The directory `name` below `root`, made when it is not there, with checksums.
    pub(super) fn open(root: &Path, name: &str) -> io::Result<Self> {
        let own = Self {
            folder: Folder::open(root)?.made(name, 0o700)?,
        };
        if !own.folder.has(FORMAT)? {
            own.give_sums()?;
        }
        Ok(own)
    }

    fn give_sums(&self) -> io::Result<()> {
        give_sums(&self.folder)?;
        if let Some(outputs) = self.folder.existing(OUTPUTS)? {
            give_sums(&outputs)?;
        }
        self.folder
            .write(FORMAT, &sum::with_sum(FORMAT_TEXT), 0o600)
    }

    /// The directory `name` in this one; made when it is not there.
    pub(super) fn made(&self, name: &str) -> io::Result<Self> {
        let folder = self.folder.made(name, 0o700)?;
        Ok(Self { folder })
    }

    /// The directory `name` in this one, when it is there.
    pub(super) fn existing(&self, name: &str) -> io::Result<Option<Self>> {
        let found = self.folder.existing(name)?;
        Ok(found.map(|folder| Self { folder }))
    }

    /// The text of a file; none when it is not there. Damage is an error that names it.
    pub(super) fn read(&self, name: &str, max: usize) -> io::Result<Option<Vec<u8>>> {
        let Some(bytes) = self.folder.read(name, max + sum::LINE_BYTES)? else {
            return Ok(None);
        };
        match sum::text_of(&bytes) {
            Some(text) => Ok(Some(text.to_vec())),
            None => Err(damaged(name)),
        }
    }

    /// What the text of a file may have as its sum: what its first line says, and what its text has. Where either
    /// is damaged, the other is right. None when it is not there.
    pub(super) fn sums(
        &self,
        name: &str,
        max: usize,
    ) -> io::Result<Option<Vec<orchestra_types::Digest>>> {
        let bytes = self.folder.read(name, max + sum::LINE_BYTES)?;
        Ok(bytes.map(|bytes| sum::sums_of(&bytes)))
    }

    /// What the first line of a file says that its text was, whether it is damaged or not.
    pub(super) fn sum(&self, name: &str, max: usize) -> Option<orchestra_types::Digest> {
        let bytes = self.folder.read(name, max + sum::LINE_BYTES).ok()??;
        sum::sum_of(&bytes)
    }

    /// Replaces a file whole, durably.
    pub(super) fn write(&self, name: &str, text: &[u8]) -> io::Result<()> {
        self.folder.write(name, &sum::with_sum(text), 0o600)
    }

    /// Keeps a damaged file for a person, under another name.
    pub(super) fn set_aside(&self, name: &str) -> io::Result<()> {
        let aside = format!("{name}{ASIDE}");
        self.folder.rename(name, &aside)
    }

    /// What is known of a file without reading it; none when there is none.
    pub(super) fn look(&self, name: &str) -> io::Result<Option<Look>> {
        self.folder.look(name)
    }

    /// Removes a file. [`Own::sync`] makes it durable.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        self.folder.remove(name)
    }

    /// Makes durable which files are there.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.folder.sync()
    }

    /// The names of the files in it, without those on their way.
    pub(super) fn names(&self) -> io::Result<Vec<String>> {
        let mut names = self.folder.names()?;
        names.retain(|name| !name.starts_with('.') && !name.ends_with(ASIDE));
        Ok(names)
    }
}

/// Files that have a checksum already keep it.
fn give_sums(folder: &Folder) -> io::Result<()> {
    for name in folder.names()? {
        if name.starts_with('.') || !folder.is_file(&name)? {
            continue;
        }
        let Some(bytes) = folder.read(&name, usize::MAX - 1)? else {
            continue;
        };
        if sum::text_of(&bytes).is_none() {
            folder.write(&name, &sum::with_sum(&bytes), 0o600)?;
        }
    }
    Ok(())
}

/// Whether an error is about bytes that are not what was written.
pub(super) fn is_damage(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData
}

fn damaged(name: &str) -> io::Error {
    let why = format!(
        "`{name}` is damaged: its SHA-256 is not the one in its first line; restore a backup, or \
         move the file away to go on without it"
    );
    io::Error::new(io::ErrorKind::InvalidData, why)
}
