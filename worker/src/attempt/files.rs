//! Where the files of one attempt lie.
//!
//! ```text
//! attempts/task_001.1/attempt.json   what was reached, and its ports: lines of JSON
//!                     order          what was asked for (protobuf)
//!                     outcome        what came of it (protobuf)
//!                     events         the journal
//!                     process/       the supervisor's: raw output, how it ended
//!                     before         an in-place directory as it was
//!                     earlier        which changes of earlier tasks it began with: JSON
//!                     git/           the worker's own git directory
//!                     results/       what is uploaded
//!                     uncollected    why the agent's directory could not be collected, if so
//!                     unknown        there when the head may not have what the attempt does
//! workspaces/task_001.1/task_001.1/  the agent's directory
//! ```
//!
//! The agent's directory lies alone in another one, so that what an agent puts beside it (`git worktree
//! add ../fix`) is its own too, and goes with it. Its name is the attempt's: tools that name things on
//! the machine after the directory do not meet.

use std::path::{Path, PathBuf};

use orchestra_types::{ArtifactKind, AttemptId};

use super::record;

/// Where the files of one attempt lie.
#[derive(Clone, Debug)]
pub struct Files {
    dir: PathBuf,
    area: PathBuf,
    workspace: PathBuf,
}

impl Files {
    /// Below these two directories.
    #[must_use]
    pub fn new(attempts: &Path, workspaces: &Path, attempt: AttemptId) -> Self {
        let name = attempt.to_string();
        let area = workspaces.join(&name);
        Self {
            dir: attempts.join(&name),
            workspace: area.join(&name),
            area,
        }
    }

    /// The same of an attempt that was begun before this process: an earlier version has made the agent's
    /// directory without one around it.
    #[must_use]
    pub fn begun(attempts: &Path, workspaces: &Path, attempt: AttemptId) -> Self {
        let files = Self::new(attempts, workspaces, attempt);
        match record::load(&files) {
            Ok(Some(found)) if !found.has_area => Self {
                workspace: files.area.clone(),
                ..files
            },
            Ok(_) | Err(_) => files,
        }
    }

    /// Whether the agent's directory lies in one of the attempt.
    #[must_use]
    pub fn has_area(&self) -> bool {
        self.area != self.workspace
    }

    /// All of it but the agent's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The agent's directory, unless it works in place.
    #[must_use]
    pub fn workspace(&self) -> &Path {
        &self.workspace
    }

    /// What holds that directory and nothing of others'.
    #[must_use]
    pub fn area(&self) -> &Path {
        &self.area
    }

    /// What was reached.
    #[must_use]
    pub fn record(&self) -> PathBuf {
        self.dir.join("attempt.json")
    }

    /// What was asked for.
    #[must_use]
    pub fn order(&self) -> PathBuf {
        self.dir.join("order")
    }

    /// What came of it.
    #[must_use]
    pub fn outcome(&self) -> PathBuf {
        self.dir.join("outcome")
    }

    /// The journal.
    #[must_use]
    pub fn events(&self) -> PathBuf {
        self.dir.join("events")
    }

    /// The supervisor's directory.
    #[must_use]
    pub fn process(&self) -> PathBuf {
        Self::process_in(&self.dir)
    }

    /// The supervisor's directory in an attempt's directory, wherever that is.
    #[must_use]
    pub fn process_in(dir: &Path) -> PathBuf {
        dir.join("process")
    }

    /// An in-place directory as it was before.
    #[must_use]
    pub fn before(&self) -> PathBuf {
        self.dir.join("before")
    }

    /// The ports that are its own, as an earlier version wrote them.
    #[must_use]
    pub fn ports(&self) -> PathBuf {
        self.dir.join("ports")
    }

    /// The worker's own git directory.
    #[must_use]
    pub fn git(&self) -> PathBuf {
        self.dir.join("git")
    }

    /// What is uploaded.
    #[must_use]
    pub fn results(&self) -> PathBuf {
        self.dir.join("results")
    }

    /// What became of the changes of earlier tasks.
    #[must_use]
    pub fn earlier(&self) -> PathBuf {
        self.dir.join("earlier")
    }

    /// There when the agent's directory could not be collected, so that it must not be removed.
    #[must_use]
    pub fn uncollected(&self) -> PathBuf {
        self.dir.join("uncollected")
    }

    /// There when the head knows nothing of the attempt, so that what it has done is nowhere else.
    #[must_use]
    pub fn unknown(&self) -> PathBuf {
        self.dir.join("unknown")
    }

    /// One artifact. Raw output is taken from where the supervisor wrote it.
    #[must_use]
    pub fn artifact(&self, kind: ArtifactKind) -> PathBuf {
        match kind {
            ArtifactKind::Log => self.process().join("stdout.log"),
            ArtifactKind::Stderr => self.process().join("stderr.log"),
            ArtifactKind::Patch => self.results().join("change.patch"),
            ArtifactKind::Bundle => self.results().join("change.bundle"),
            ArtifactKind::Output
            | ArtifactKind::Manifest
            | ArtifactKind::Source
            | ArtifactKind::Context => self.results().join(kind.as_str()),
        }
    }
}
