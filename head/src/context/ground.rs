//! What git says of the directory that a mirror would be in. It is asked again only after its index has changed.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use orchestra_repo::{Checkout, Error, projects_of};
use orchestra_types::{MachineId, ProjectId};

use super::excluded::Excluded;

/// A directory, as git sees it.
#[derive(Clone, Debug)]
pub(super) struct Ground {
    /// Whether its repository has files where the mirror would be.
    pub tracked: bool,
    /// The projects that it is of: the one of its repository, and the one of the place, which it was of
    /// before the first commit.
    projects: [ProjectId; 2],
}

impl Ground {
    /// Whether a project is here. Who removes a checkout and clones another one has another project at the
    /// same place.
    pub fn is_of(&self, project: &ProjectId) -> bool {
        self.projects.contains(project)
    }
}

/// What was seen, by directory.
#[derive(Debug)]
pub(super) struct Grounds {
    machine: MachineId,
    below: String,
    seen: Mutex<BTreeMap<PathBuf, (Excluded, Ground)>>,
}

impl Grounds {
    /// Of directories on `machine`, with mirrors in `below`.
    pub fn new(machine: MachineId, below: String) -> Self {
        Self {
            machine,
            below,
            seen: Mutex::default(),
        }
    }

    /// How a directory is that `project` is to be in. It is looked at again where it is not, as far as is known: a
    /// history that becomes whole makes another project of a repository, and leaves its index as it was.
    pub fn look(&self, dir: &Path, project: &ProjectId) -> Result<Ground, Error> {
        let seen = || self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, ground)) = seen().get(dir)
            && at.holds()
            && ground.is_of(project)
        {
            return Ok(ground.clone());
        }
        let checkout = Checkout::discover(dir)?;
        // Before git reads it.
        let at = Excluded::now(dir, checkout.as_ref().map(Checkout::index));
        let projects = projects_of(dir, checkout.as_ref(), &self.machine)?;
        let tracks = checkout.map(|checkout| checkout.tracks(&self.below));
        let ground = Ground {
            tracked: tracks.transpose()?.unwrap_or(false),
            projects,
        };
        seen().insert(dir.to_owned(), (at, ground.clone()));
        Ok(ground)
    }
}
