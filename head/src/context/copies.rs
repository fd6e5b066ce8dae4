//! Copies in mirrors of outputs that are removed here: a note of those that are still there, so that one that
//! cannot be removed now, as on a disk that is read-only or where git does not answer, is tried again at the
//! next sweep. Without it nobody would know any more which of them are what we wrote.

use std::{collections::BTreeMap, io, path::Path};

use orchestra_types::{Digest, ProjectId};
use serde::{Deserialize, Serialize};

use super::{
    COMPLETED, OUTPUTS,
    mirror::Mirror,
    store::{Error, Files, Store, Whose, warn},
};

const COPIES: &str = "copies.json";
/// Most of a project that are remembered; the oldest are given up above it.
const COPIES_MAX: usize = 10_000;

/// An output that is removed here, and may be in a mirror.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MirrorCopy {
    /// The project's directory that the mirror is in.
    dir: String,
    pub(super) name: String,
    /// What its text may have as its sum.
    pub(super) sums: Vec<Digest>,
}

impl Store {
    /// Removes the copies in mirrors of outputs that were removed here, unless somebody has changed them there. Runs
    /// git. What cannot be done now is done by another call.
    pub fn remove_copies(&self, project: &ProjectId) -> Result<(), Error> {
        // Then nothing in a project's directory is ours to write.
        if !self.enabled {
            return Ok(());
        }
        self.owned(project, |files| {
            let noted: Vec<MirrorCopy> = files.copies()?;
            if noted.is_empty() {
                return Ok(());
            }
            let mut left = Vec::new();
            for (dir, copies) in by_dir(noted.clone()) {
                left.extend(self.remove_copies_in(files, &dir, copies));
            }
            // In the order of `noted`, which says which are the oldest.
            let mut kept = noted.clone();
            kept.retain(|copy| left.contains(copy));
            files.note(&noted, kept)
        })
    }

    /// Those that are to be tried again.
    fn remove_copies_in(
        &self,
        files: &Files,
        dir: &str,
        mut copies: Vec<MirrorCopy>,
    ) -> Vec<MirrorCopy> {
        copies.retain(|copy| !files.has_output(&copy.name));
        match self.mirror_in(dir, &files.project) {
            Whose::Ours(mirror) => {
                files.renew_list(&mirror);
                let (left, removed) = mirror.remove_outputs(copies);
                if let Err(error) = removed {
                    warn(Path::new(dir), &error);
                }
                left
            }
            Whose::Anothers => Vec::new(),
            // Git may have failed to answer.
            Whose::Theirs | Whose::Elsewhere => {
                let outputs = Path::new(dir).join(&self.below).join(OUTPUTS);
                copies.retain(|copy| may_be_there(&outputs.join(&copy.name)));
                copies
            }
        }
    }
}

fn by_dir(copies: Vec<MirrorCopy>) -> BTreeMap<String, Vec<MirrorCopy>> {
    let mut dirs: BTreeMap<String, Vec<MirrorCopy>> = BTreeMap::new();
    for copy in copies {
        dirs.entry(copy.dir.clone()).or_default().push(copy);
    }
    dirs
}

fn may_be_there(path: &Path) -> bool {
    match path.symlink_metadata() {
        Ok(_) => true,
        Err(error) => !matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
        ),
    }
}

impl Files {
    fn copies(&self) -> io::Result<Vec<MirrorCopy>> {
        self.json(COPIES)
    }

    /// Remembers, durably, the copies that these outputs may have in any mirror.
    pub(super) fn note_copies(&self, outputs: &[(String, Vec<Digest>)]) -> io::Result<()> {
        let before = self.copies()?;
        let mut noted = before.clone();
        for dir in self.written()?.dirs() {
            for (name, sums) in outputs {
                noted.retain(|copy| (&copy.dir, &copy.name) != (&dir, name));
                noted.push(MirrorCopy {
                    dir: dir.clone(),
                    name: name.clone(),
                    sums: sums.clone(),
                });
            }
        }
        let given_up = noted.len().saturating_sub(COPIES_MAX);
        if given_up > 0 {
            tracing::warn!(
                project = %self.project,
                copies = given_up,
                "old outputs stay in mirrors of the context: they could not be removed for long"
            );
            noted.drain(..given_up);
        }
        self.note(&before, noted)
    }

    fn note(&self, before: &[MirrorCopy], noted: Vec<MirrorCopy>) -> io::Result<()> {
        match before == noted {
            true => Ok(()),
            false => self.write_json(COPIES, &noted).map(drop),
        }
    }

    /// Whether the output is here, again or still: then its copy is wanted.
    fn has_output(&self, name: &str) -> bool {
        let outputs = self.folder.existing(OUTPUTS);
        let look =
            outputs.and_then(|outputs| outputs.map_or(Ok(None), |outputs| outputs.look(name)));
        look.is_ok_and(|look| look.is_some())
    }

    /// The list names no output that is not there.
    fn renew_list(&self, mirror: &Mirror<'_>) {
        let renewed = match self.text_if_whole(COMPLETED) {
            Ok(Some(text)) => mirror.renew(COMPLETED, &text),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = renewed {
            warn(Path::new(mirror.dir), &error);
        }
    }
}
