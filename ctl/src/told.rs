//! What was told of a change, to be compared with its bundle before that is taken.

use std::path::{Path, PathBuf};

use orchestra_proto::v1;
use orchestra_types::{Artifact, ArtifactKind, Manifest, TaskId};
use prost::Message;

use crate::{
    client::Client,
    error::{OrFailed, Result},
    exit::Exit,
    json::{attempt::Attempt, refused, task::Task},
    stored,
};

/// As many earlier changes as the head looks at.
const EARLIER_MAX: usize = 64;

/// Largest list of files: 200,000 entries with long paths.
const LIST_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// What is stored of it at the head.
#[derive(Clone, Debug)]
pub struct Stored {
    base: String,
    /// What the base may be made of besides the snapshot; none where there may be more.
    sources: Option<Vec<String>>,
    /// Tasks that it is built on, of which it is to be asked whether they are forgotten.
    unlisted: Vec<TaskId>,
    manifest: Option<Artifact>,
    patch: Option<Artifact>,
}

/// The same on this machine.
#[derive(Debug)]
pub struct Told {
    base: String,
    sources: Option<Vec<String>>,
    manifest: Manifest,
    patch: Option<PathBuf>,
}

impl Stored {
    /// Of an attempt of a task that began with the snapshot `start`.
    pub fn of(task: &Task, attempt: &Attempt, start: &str) -> Self {
        let listed: Vec<_> = task.earlier.iter().filter(|e| e.task.is_some()).collect();
        let commits = listed.iter().map(|earlier| &earlier.change);
        let commits = commits.flat_map(|change| [change.start.clone(), change.commit.clone()]);
        let is_listed = |task: &TaskId| listed.iter().any(|earlier| earlier.task == Some(*task));
        let built_on = attempt.built_on.iter().copied();
        Self {
            sources: (listed.len() < EARLIER_MAX).then(|| commits.collect()),
            unlisted: built_on
                .filter(|before| task.after.contains(before) && !is_listed(before))
                .collect(),
            base: attempt.base.clone().unwrap_or_else(|| start.to_owned()),
            manifest: attempt.artifact(ArtifactKind::Manifest),
            patch: attempt.artifact(ArtifactKind::Patch),
        }
    }

    /// Fetches it, what is large into `dir`.
    pub async fn fetch(self, client: &Client, dir: &Path) -> Result<Told> {
        let manifest = match self.manifest {
            Some(artifact) => {
                let bytes = stored::read(client, artifact, LIST_BYTES_MAX).await?;
                let wire = v1::Manifest::decode(bytes.as_slice())
                    .or_failed(|| "the worker's list of files is not readable".to_owned())?;
                wire.try_into().map_err(refused)?
            }
            None => Manifest::default(),
        };
        let mut sources = self.sources;
        for task in self.unlisted {
            match client.task(task).await {
                Ok(_) => {}
                Err(error) if error.exit() == Exit::NotFound => sources = None,
                Err(error) => return Err(error),
            }
        }
        let patch = match self.patch {
            Some(artifact) => {
                let path = dir.join("patch");
                stored::save(client, artifact, &path).await?;
                Some(path)
            }
            None => None,
        };
        Ok(Told {
            base: self.base,
            sources,
            manifest,
            patch,
        })
    }
}

impl Told {
    /// As the bundle is compared with it.
    pub fn as_told(&self) -> orchestra_repo::Told<'_> {
        orchestra_repo::Told {
            base: &self.base,
            sources: self.sources.as_deref(),
            manifest: &self.manifest,
            patch: self.patch.as_deref(),
        }
    }
}
