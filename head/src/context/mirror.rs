//! The copy of a project's context in the project's own directory.
//!
//! We remember the hash of what we last wrote. A file with another hash was changed by a person
//! and is adopted; a file that cannot be read as text is left alone, since it is not ours.

use std::{
    collections::BTreeMap,
    io,
    path::{Component, Path, PathBuf},
};

use orchestra_types::Digest;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use super::{
    DOCUMENT_BYTES_MAX, OUTPUTS,
    copies::MirrorCopy,
    folder::Folder,
    removal::{remove_ours, restore},
};

/// What is read from a mirror: a document, and our section in it.
const READ_BYTES_MAX: usize = DOCUMENT_BYTES_MAX + 16 * 1024;

/// What we last wrote, by directory and file name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Written {
    dirs: BTreeMap<String, BTreeMap<String, Digest>>,
}

impl Written {
    /// The directories that have a mirror.
    pub(super) fn dirs(&self) -> Vec<String> {
        self.dirs.keys().cloned().collect()
    }

    fn hash(&self, dir: &str, name: &str) -> Option<Digest> {
        self.dirs.get(dir)?.get(name).copied()
    }

    fn set(&mut self, dir: &str, name: &str, hash: Digest) {
        let files = self.dirs.entry(dir.to_owned()).or_default();
        files.insert(name.to_owned(), hash);
    }
}

/// One project's mirror in one directory.
pub(super) struct Mirror<'a> {
    /// The project's directory, as we remember it.
    pub(super) dir: &'a str,
    /// The mirror's directory below it, from the configuration.
    pub(super) below: &'a str,
}

/// What a look at a file in the mirror gives.
enum Found {
    /// It is what we wrote, or there is none.
    Ours,
    /// A person wrote this.
    Theirs(String),
}

impl Mirror<'_> {
    /// What a person wrote into `name` since we wrote it; none when they did not.
    pub(super) fn edited(
        &self,
        written: &Written,
        name: &str,
        current: Option<&str>,
    ) -> io::Result<Option<String>> {
        let Some(folder) = self.existing()? else {
            return Ok(None);
        };
        match look(&folder, name, written.hash(self.dir, name), current)? {
            Found::Ours => Ok(None),
            Found::Theirs(text) => Ok(Some(text)),
        }
    }

    /// The text of a file in it; none when it is not there.
    pub(super) fn text(&self, name: &str) -> io::Result<Option<String>> {
        let Some(folder) = self.existing()? else {
            return Ok(None);
        };
        let bytes = folder.read(name, READ_BYTES_MAX)?;
        Ok(bytes.and_then(|bytes| String::from_utf8(bytes).ok()))
    }

    /// Writes a file that people may edit. What they changed meanwhile was adopted before, by the
    /// caller; what could not be adopted is not overwritten.
    pub(super) fn write_editable(
        &self,
        written: &mut Written,
        name: &str,
        text: &str,
    ) -> io::Result<()> {
        let folder = self.made()?;
        let known = written.hash(self.dir, name);
        // An error here means that there is something that we do not understand.
        look(&folder, name, known, Some(text))?;
        write_changed(&folder, name, text)?;
        written.set(self.dir, name, hash(text));
        Ok(())
    }

    /// Writes a file that is ours alone.
    pub(super) fn write(&self, name: &str, text: &str) -> io::Result<()> {
        write_changed(&self.made()?, name, text)
    }

    /// Writes the output of a task.
    pub(super) fn write_output(&self, name: &str, text: &str) -> io::Result<()> {
        write_changed(&self.made()?.made(OUTPUTS, 0o777)?, name, text)
    }

    /// Writes a file that is ours alone anew, where there is one.
    pub(super) fn renew(&self, name: &str, text: &str) -> io::Result<()> {
        match self.existing()? {
            Some(folder) if folder.is_file(name)? => write_changed(&folder, name, text),
            Some(_) | None => Ok(()),
        }
    }

    /// Removes outputs of tasks, durably, where they are the texts that we wrote. What a person has changed
    /// stays. Gives those that are to be tried again, and the first error.
    pub(super) fn remove_outputs(
        &self,
        copies: Vec<MirrorCopy>,
    ) -> (Vec<MirrorCopy>, io::Result<()>) {
        self.each_output(copies, remove_ours)
    }

    /// Gives outputs their names back that a removal has left hidden. Gives the same.
    pub(super) fn restore_outputs(
        &self,
        copies: Vec<MirrorCopy>,
    ) -> (Vec<MirrorCopy>, io::Result<()>) {
        self.each_output(copies, restore)
    }

    fn each_output(
        &self,
        copies: Vec<MirrorCopy>,
        act: fn(&Folder, &str, &[Digest]) -> io::Result<()>,
    ) -> (Vec<MirrorCopy>, io::Result<()>) {
        if copies.is_empty() {
            return (copies, Ok(()));
        }
        let folder = match self.outputs() {
            Ok(Some(folder)) => folder,
            Ok(None) => return (Vec::new(), Ok(())),
            Err(error) => return (copies, Err(error)),
        };
        let mut left = Vec::new();
        let mut first = Ok(());
        for copy in &copies {
            let done = act(&folder, &copy.name, &copy.sums);
            if done.is_err() {
                left.push(copy.clone());
                first = first.and(done);
            }
        }
        match folder.sync() {
            Ok(()) => (left, first),
            Err(error) => (copies, first.and(Err(error))),
        }
    }

    /// Where an output is in it.
    pub(super) fn output(&self, name: &str) -> PathBuf {
        let outputs = Path::new(self.dir).join(self.below).join(OUTPUTS);
        outputs.join(name)
    }

    fn outputs(&self) -> io::Result<Option<Folder>> {
        match self.existing()? {
            Some(folder) => folder.existing(OUTPUTS),
            None => Ok(None),
        }
    }

    fn existing(&self) -> io::Result<Option<Folder>> {
        let mut folder = Folder::open(Path::new(self.dir))?;
        for part in self.parts() {
            match folder.existing(part)? {
                Some(next) => folder = next,
                None => return Ok(None),
            }
        }
        Ok(Some(folder))
    }

    /// The project's own directory is never made: a missing one was moved or removed by a person.
    fn made(&self) -> io::Result<Folder> {
        let mut folder = Folder::open(Path::new(self.dir))?;
        for part in self.parts() {
            folder = folder.made(part, 0o777)?;
        }
        Ok(folder)
    }

    fn parts(&self) -> impl Iterator<Item = &std::ffi::OsStr> {
        let parts = Path::new(self.below).components();
        parts.filter_map(|part| match part {
            Component::Normal(name) => Some(name),
            Component::Prefix(_)
            | Component::RootDir
            | Component::CurDir
            | Component::ParentDir => None,
        })
    }
}

fn look(
    folder: &Folder,
    name: &str,
    known: Option<Digest>,
    current: Option<&str>,
) -> io::Result<Found> {
    let Some(bytes) = folder.read(name, READ_BYTES_MAX)? else {
        return Ok(Found::Ours);
    };
    let text = String::from_utf8(bytes)
        .map_err(|_| io::Error::other(format!("`{name}` is not UTF-8 text")))?;
    if current == Some(text.as_str()) || known == Some(hash(&text)) {
        return Ok(Found::Ours);
    }
    Ok(Found::Theirs(text))
}

/// A file that is right already is not touched, so that editors do not see it change.
fn write_changed(folder: &Folder, name: &str, text: &str) -> io::Result<()> {
    let same = folder
        .read(name, text.len())
        .is_ok_and(|bytes| bytes.as_deref() == Some(text.as_bytes()));
    if same {
        Ok(())
    } else {
        folder.write(name, text.as_bytes(), 0o666)
    }
}

pub(super) fn hash(text: impl AsRef<[u8]>) -> Digest {
    Digest(sha2::Sha256::digest(text).into())
}
