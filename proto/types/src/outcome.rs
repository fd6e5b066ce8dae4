//! How an attempt ended and what came out of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    Artifact, ArtifactKind, Failure, FailureCode, Fault, ManifestSummary, TaskId, Timestamp, Usage,
};

/// How the CLI's process ended. It does not say whether the agent succeeded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// It could not be started.
    NotStarted {
        /// Why.
        reason: String,
    },
    /// It exited by itself.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
    /// Orchestra stopped it: cancel, timeout or shutdown.
    Stopped,
    /// Nobody knows: the supervisor was lost.
    Unknown,
}

impl Exit {
    /// Whether an attempt that ended like this and left these has nothing of what an agent did: its CLI
    /// never began, or it was lost with all that it had. What an attempt before it has left stands then.
    #[must_use]
    pub fn is_of_nothing(&self, artifacts: &[Artifact]) -> bool {
        match self {
            Self::NotStarted { .. } => true,
            Self::Unknown => artifacts.is_empty(),
            Self::Code(_) | Self::Signal(_) | Self::Stopped => false,
        }
    }
}

/// What came out of an attempt, whatever ended it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How the process ended.
    pub exit: Exit,
    /// Why it is not a success; none means success.
    pub failure: Option<Failure>,
    /// The agent's final text, cut to `OUTCOME_TEXT_BYTES_MAX`.
    pub text: String,
    /// What it used.
    pub usage: Usage,
    /// The CLI's own session, which a later task may resume; empty when unknown.
    pub session: String,
    /// The model that answered; empty when unknown.
    pub model: String,
    /// The counts of the manifest.
    pub files: ManifestSummary,
    /// The branch inside the bundle artifact; empty without one.
    pub branch: String,
    /// The commit of the result; empty outside a repository, or without a change and anything that it
    /// was built on.
    pub commit: String,
    /// What it was built on.
    pub built_on: BuiltOn,
    /// What is stored at the head.
    pub artifacts: Vec<Artifact>,
    /// When the CLI was started, by the worker's clock.
    pub started_at: Timestamp,
    /// When the result was complete, by the worker's clock.
    pub finished_at: Timestamp,
}

impl Outcome {
    /// How long it ran, by the worker's clock; none where that was set back meanwhile.
    #[must_use]
    pub fn ran(&self) -> Option<Duration> {
        let forward = self.finished_at >= self.started_at;
        let seen = self.exit != Exit::Unknown;
        (forward && seen).then(|| self.finished_at.since(self.started_at))
    }

    /// One that began and ended at `at`, with nothing in it: a success, when nobody adds a failure.
    #[must_use]
    pub fn bare(exit: Exit, at: Timestamp) -> Self {
        Self {
            exit,
            failure: None,
            text: String::new(),
            usage: Usage::default(),
            session: String::new(),
            model: String::new(),
            files: ManifestSummary::default(),
            branch: String::new(),
            commit: String::new(),
            built_on: BuiltOn::default(),
            artifacts: Vec::new(),
            started_at: at,
            finished_at: at,
        }
    }

    /// Whether there is a change of its own in the result, and not only what it was built on.
    #[must_use]
    pub fn has_own_change(&self) -> bool {
        !self.commit.is_empty() && self.commit != self.built_on.commit
    }

    /// Whether there is nothing in it of what an agent did; see [`Exit::is_of_nothing`].
    #[must_use]
    pub fn is_of_nothing(&self) -> bool {
        self.exit.is_of_nothing(&self.artifacts)
    }

    /// Why the task was not even tried, where its worker is to blame: it could not begin it, or nobody is
    /// logged in there. It says nothing of the task. One whose worker was stopped is not among them:
    /// nothing begins again by itself that a person has stopped.
    #[must_use]
    pub fn untried(&self) -> Option<&Failure> {
        let failure = self.failure.as_ref()?;
        let not_started = matches!(self.exit, Exit::NotStarted { .. });
        let untried = match failure.code {
            FailureCode::WorkerLost => false,
            FailureCode::Auth => self.usage.input_tokens == 0 && self.usage.output_tokens == 0,
            code => code.fault() == Fault::Worker && not_started,
        };
        untried.then_some(failure)
    }

    /// The bundle that holds the commit of the result. Without one, a bundle has only branches beside it,
    /// and nothing is built on those.
    #[must_use]
    pub fn result_bundle(&self) -> Option<&Artifact> {
        let mut artifacts = self.artifacts.iter();
        let bundle = artifacts.find(|artifact| artifact.kind == ArtifactKind::Bundle);
        bundle.filter(|_| !self.commit.is_empty())
    }
}

/// What an attempt's files began with besides the snapshot: the changes of tasks that its own comes after.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuiltOn {
    /// The snapshot with those changes, which the result is told from; empty where it is told from the
    /// snapshot itself.
    pub commit: String,
    /// The tasks whose changes are in it.
    pub tasks: Vec<TaskId>,
    /// The tasks whose changes are not, because they conflict with it.
    pub left_out: Vec<TaskId>,
}

impl BuiltOn {
    /// The commit that the result is told from, where the task began with the snapshot `start`.
    #[must_use]
    pub fn base<'a>(&'a self, start: &'a str) -> &'a str {
        match self.commit.as_str() {
            "" => start,
            base => base,
        }
    }
}

/// What became of putting the change into the user's checkout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "result")]
pub enum ApplyResult {
    /// Nobody asked, or there is nothing to put there.
    NotRequested,
    /// It is there.
    Applied {
        /// How many files.
        files: u64,
    },
    /// It would have conflicted, and nothing was touched.
    Conflict {
        /// Why, with the paths.
        message: String,
    },
}
