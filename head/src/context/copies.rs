//! Copies in mirrors of outputs that are removed here: a note of those that are still there, so that one that
//! cannot be removed now, as on a disk that is read-only or where git does not answer, is tried again at the
//! next sweep. Without it nobody would know any more which of them are what we wrote.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
};

use orchestra_types::{Digest, ProjectId};
use serde::{Deserialize, Serialize};

use super::{
    COMPLETED, OUTPUTS,
    mirror::Mirror,
    removal::hidden,
    store::{Error, Files, Store, Whose, warn},
};

const COPIES: &str = "copies.json";
/// Most of a project that are remembered; above it the oldest of those that were tried are given up.
pub(super) const COPIES_MAX: usize = 10_000;

/// Most that are removed while nobody else may touch the project.
pub(super) const BATCH_MAX: usize = 64;

/// An output that is removed here, and may be in a mirror.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MirrorCopy {
    /// The project's directory that the mirror is in.
    dir: String,
    pub(super) name: String,
    /// What its text may have as its sum.
    pub(super) sums: Vec<Digest>,
    /// Whether it could not be removed before: only then may it be given up.
    #[serde(default)]
    tried: bool,
}

/// Copies by whether their outputs are here.
#[derive(Default)]
struct Sorted {
    /// It is gone.
    going: Vec<MirrorCopy>,
    /// It is here, again or still.
    wanted: Vec<MirrorCopy>,
    /// It cannot be told now: the copy stays until it can.
    unknown: Vec<MirrorCopy>,
}

impl Sorted {
    fn all(self) -> Vec<MirrorCopy> {
        [self.going, self.wanted, self.unknown].concat()
    }
}

/// How many copies there is room for in the note.
pub(super) struct Room {
    free: usize,
    /// An output has one in each.
    dirs: usize,
    /// Nothing is noted that has not been tried.
    empty: bool,
}

impl Room {
    /// Takes the room that one output needs. An empty note takes one whatever it needs, or it would never go.
    pub(super) fn take(&mut self) -> bool {
        let fits = self.dirs <= self.free || self.empty;
        if fits && self.dirs > 0 {
            self.free = self.free.saturating_sub(self.dirs);
            self.empty = false;
        }
        fits
    }
}

impl Store {
    /// Removes the copies in mirrors of outputs that were removed here, unless somebody has changed them there. Runs
    /// git. What cannot be done now is done by another call. Whether none is left.
    pub fn remove_copies(&self, project: &ProjectId) -> Result<bool, Error> {
        let noted = self.owned(project, Files::copies)?;
        // Where it is off, nothing in a project's directory is ours to write.
        if noted.is_empty() || !self.enabled {
            return Ok(noted.is_empty());
        }
        let mut left = Vec::new();
        for (dir, copies) in by_dir(&noted) {
            left.extend(self.remove_copies_in(project, &dir, &copies)?);
        }
        // Once: until then a crash costs no more than another look.
        self.owned(project, |files| files.note_tried(&noted, &left))
    }

    /// Those that are to be tried again. Git is asked while nobody waits for the project, and not again once it has
    /// said that the mirror is not ours, or has not answered; it is quick where its index is as before.
    fn remove_copies_in(
        &self,
        project: &ProjectId,
        dir: &str,
        copies: &[MirrorCopy],
    ) -> Result<Vec<MirrorCopy>, Error> {
        let mut whose = self.mirror_in(dir, project);
        let mut left = Vec::new();
        for (number, some) in copies.chunks(BATCH_MAX).enumerate() {
            if number > 0 && matches!(whose, Whose::Ours(_)) {
                whose = self.mirror_in(dir, project);
            }
            let mirror = Mirror {
                dir,
                below: &self.below,
            };
            let removed = self.owned(project, |files| {
                Ok(files.remove_some(&mirror, &whose, some.to_vec()))
            });
            left.extend(removed?);
        }
        Ok(left)
    }
}

fn by_dir(copies: &[MirrorCopy]) -> BTreeMap<String, Vec<MirrorCopy>> {
    let mut dirs: BTreeMap<String, Vec<MirrorCopy>> = BTreeMap::new();
    for copy in copies {
        dirs.entry(copy.dir.clone()).or_default().push(copy.clone());
    }
    dirs
}

/// Those that are to be tried again.
fn told(mirror: &Mirror<'_>, (left, done): (Vec<MirrorCopy>, io::Result<()>)) -> Vec<MirrorCopy> {
    if let Err(error) = done {
        warn(Path::new(mirror.dir), &error);
    }
    left
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

/// Gives up the oldest of those that were tried, until no more than `max` are left. How many.
fn give_up(noted: &mut Vec<MirrorCopy>, max: usize) -> usize {
    let before = noted.len();
    let mut over = before.saturating_sub(max);
    noted.retain(|copy| {
        let goes = over > 0 && copy.tried;
        over -= usize::from(goes);
        !goes
    });
    before - noted.len()
}

impl Files {
    fn copies(&self) -> io::Result<Vec<MirrorCopy>> {
        self.json(COPIES)
    }

    /// How many may be noted, at most `max`: those that were tried make room.
    pub(super) fn room(&self, max: usize) -> io::Result<Room> {
        let copies = self.copies()?;
        let untried = copies.iter().filter(|copy| !copy.tried).count();
        Ok(Room {
            free: max.saturating_sub(untried),
            dirs: self.written()?.dirs().len(),
            empty: untried == 0,
        })
    }

    /// Remembers, durably, the copies that these outputs may have in any mirror.
    pub(super) fn note_copies(
        &self,
        outputs: &[(String, Vec<Digest>)],
        max: usize,
    ) -> io::Result<()> {
        let before = self.copies()?;
        let mut noted = before.clone();
        let dirs = self.written()?.dirs();
        let names: BTreeSet<&str> = outputs.iter().map(|(name, _)| name.as_str()).collect();
        noted.retain(|copy| !(names.contains(copy.name.as_str()) && dirs.contains(&copy.dir)));
        for dir in &dirs {
            noted.extend(outputs.iter().map(|(name, sums)| MirrorCopy {
                dir: dir.clone(),
                name: name.clone(),
                sums: sums.clone(),
                tried: false,
            }));
        }
        let given_up = give_up(&mut noted, max);
        if given_up > 0 {
            tracing::warn!(
                project = %self.project,
                copies = given_up,
                "old outputs stay in mirrors of the context: they could not be removed for long"
            );
        }
        self.note(&before, noted)
    }

    /// Remembers which of those that were noted are left; what has been noted since stays as it is. Whether none is
    /// left.
    fn note_tried(&self, tried: &[MirrorCopy], left: &[MirrorCopy]) -> io::Result<bool> {
        let key = |copy: &MirrorCopy| (copy.dir.clone(), copy.name.clone());
        let tried: BTreeMap<_, _> = tried.iter().map(|copy| (key(copy), copy)).collect();
        let left: BTreeSet<_> = left.iter().map(key).collect();
        let before = self.copies()?;
        // In the order of `before`, which says which are the oldest.
        let mut noted = before.clone();
        noted.retain_mut(|copy| {
            let key = key(copy);
            let was_tried = tried.get(&key).is_some_and(|was| **was == *copy);
            copy.tried |= was_tried;
            !was_tried || left.contains(&key)
        });
        let none = noted.is_empty();
        self.note(&before, noted).map(|()| none)
    }

    fn note(&self, before: &[MirrorCopy], noted: Vec<MirrorCopy>) -> io::Result<()> {
        match before == noted {
            true => Ok(()),
            false => self.write_json(COPIES, &noted).map(drop),
        }
    }

    /// Those that are to be tried again. None is done with while something of it may be hidden.
    fn remove_some(
        &self,
        mirror: &Mirror<'_>,
        whose: &Whose<'_>,
        mut copies: Vec<MirrorCopy>,
    ) -> Vec<MirrorCopy> {
        let is_hidden = |copy: &MirrorCopy| may_be_there(&mirror.output(&hidden(&copy.name)));
        let is_there = |copy: &MirrorCopy| may_be_there(&mirror.output(&copy.name));
        match whose {
            Whose::Ours(mirror) => self.remove_from(mirror, copies),
            // What is hidden may be a person's, and it was not they who hid it.
            Whose::Anothers => {
                copies.retain(is_hidden);
                told(mirror, mirror.restore_outputs(copies))
            }
            // Git may have failed to answer.
            Whose::Theirs | Whose::Elsewhere => {
                let mut sorted = self.sorted(copies);
                sorted.wanted.retain(is_hidden);
                sorted
                    .going
                    .retain(|copy| is_there(copy) || is_hidden(copy));
                sorted.all()
            }
        }
    }

    fn remove_from(&self, mirror: &Mirror<'_>, copies: Vec<MirrorCopy>) -> Vec<MirrorCopy> {
        self.renew_list(mirror);
        let sorted = self.sorted(copies);
        Sorted {
            going: told(mirror, mirror.remove_outputs(sorted.going)),
            wanted: told(mirror, mirror.restore_outputs(sorted.wanted)),
            unknown: sorted.unknown,
        }
        .all()
    }

    fn sorted(&self, copies: Vec<MirrorCopy>) -> Sorted {
        let mut sorted = Sorted::default();
        let mut first = None;
        for copy in copies {
            match self.has_output(&copy.name) {
                Ok(true) => sorted.wanted.push(copy),
                Ok(false) => sorted.going.push(copy),
                Err(error) => {
                    first.get_or_insert(error);
                    sorted.unknown.push(copy);
                }
            }
        }
        if let Some(error) = first {
            let project = &self.project;
            tracing::warn!(%project, %error, "copies stay in mirrors: whether their outputs are gone is not known");
        }
        sorted
    }

    fn has_output(&self, name: &str) -> io::Result<bool> {
        match self.folder.existing(OUTPUTS)? {
            Some(outputs) => Ok(outputs.look(name)?.is_some()),
            None => Ok(false),
        }
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
