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
//! workspaces/task_001.1/             the agent's directory
//! ```

use std::path::{Path, PathBuf};

use orchestra_types::{ArtifactKind, AttemptId};

/// Where the files of one attempt lie.
#[derive(Clone, Debug)]
pub struct Files {
    dir: PathBuf,
    workspace: PathBuf,
}

impl Files {
    /// Below these two directories.
    #[must_use]
    pub fn new(attempts: &Path, workspaces: &Path, attempt: AttemptId) -> Self {
        Self {
            dir: attempts.join(attempt.to_string()),
            workspace: workspaces.join(attempt.to_string()),
        }
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
        self.dir.join("process")
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
