//! Other attempts of a task, which may be in a checkout although nobody knows of them there.

use std::path::{Path, PathBuf};

use orchestra_repo::{Change, Received};
use orchestra_types::{Artifact, ArtifactKind};

use crate::{
    client::Client,
    error::{OrFailed, Result},
    json::{attempt::Attempt, task::Task},
    stored,
    told::{Stored, Told},
};

/// Another attempt of the same task.
#[derive(Clone)]
pub struct Other {
    bundle: Artifact,
    branch: String,
    commit: String,
    told: Stored,
}

/// The same on this machine.
pub struct Fetched {
    bundle: PathBuf,
    branch: String,
    commit: String,
    told: Told,
}

/// The attempts that left something else than `commit`.
pub fn others(task: &Task, commit: &str, start: &str) -> Vec<Other> {
    let other = |attempt: &Attempt| {
        let (branch, tip) = attempt.tip.clone()?;
        let bundle = attempt.artifact(ArtifactKind::Bundle)?;
        (tip != commit).then(|| Other {
            bundle,
            branch,
            commit: tip,
            told: Stored::of(task, attempt, start),
        })
    };
    task.attempts.iter().flatten().filter_map(other).collect()
}

/// Fetches them, each into a directory of its own in `dir`.
pub async fn fetch(client: &Client, others: &[Other], dir: &Path) -> Result<Vec<Fetched>> {
    let mut fetched = Vec::new();
    for (at, other) in others.iter().cloned().enumerate() {
        let dir = dir.join(format!("attempt-{at}"));
        std::fs::create_dir(&dir).or_failed(|| "failed to make a directory".to_owned())?;
        let bundle = dir.join("bundle");
        stored::save(client, other.bundle, &bundle).await?;
        fetched.push(Fetched {
            bundle,
            branch: other.branch,
            commit: other.commit,
            told: other.told.fetch(client, &dir).await?,
        });
    }
    Ok(fetched)
}

impl Fetched {
    /// Has it looked for. Where it is not sound, the change is refused as it would be without it.
    pub fn look_for(&self, received: &Received<'_>, change: &Change<'_>) {
        let _ = received.take_attempt(&Change {
            bundle: &self.bundle,
            branch: &self.branch,
            commit: &self.commit,
            told: self.told.as_told(),
            ..*change
        });
    }
}
