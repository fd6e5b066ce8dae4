//! What a person asked for.

use std::{collections::BTreeMap, fmt, path::PathBuf, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    Artifact, Budget, Digest, MachineId, ProjectId, RunnerName, ScheduleId, TaskId, Timestamp,
    id::ParseIdError,
};

/// How much a task matters. Order: low < normal < high.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// After everything else, until it has waited long.
    Low,
    /// The default.
    #[default]
    Normal,
    /// Before everything else.
    High,
}

impl Priority {
    /// All of them, most urgent first.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    /// The name, as in `--json`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Priority {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        Self::ALL
            .into_iter()
            .find(|p| p.as_str() == text)
            .ok_or_else(|| ParseIdError {
                text: text.chars().take(64).collect(),
                wanted: "priority (high, normal or low)",
            })
    }
}

/// What becomes of a task when one that it comes after ends without success.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum OnDependencyFailure {
    /// It stays blocked: a person decides, and a retry that succeeds frees it.
    #[default]
    Block,
    /// It is cancelled, and so are those after it that say the same.
    Cancel,
    /// It runs all the same.
    Run,
}

impl OnDependencyFailure {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Block, Self::Cancel, Self::Run];

    /// The name, as in `--json`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Cancel => "cancel",
            Self::Run => "run",
        }
    }
}

impl fmt::Display for OnDependencyFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for OnDependencyFailure {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        Self::ALL
            .into_iter()
            .find(|choice| choice.as_str() == text)
            .ok_or_else(|| ParseIdError {
                text: text.chars().take(64).collect(),
                wanted: "choice (block, cancel or run)",
            })
    }
}

/// The project whose tasks share context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectRef {
    /// Its identity.
    pub id: ProjectId,
    /// A short name for people: the directory's name.
    pub name: String,
    /// The user's directory: the repository's top, or the directory itself.
    pub dir: PathBuf,
    /// The machine that `dir` is on.
    pub machine: MachineId,
}

/// Where an attempt works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a private clone of a snapshot: of a repository, or of a directory that is kept as one.
    Repository {
        /// The commit to start from: the user's HEAD, or a snapshot commit on top of it that
        /// carries uncommitted and untracked files.
        commit: String,
        /// The user's HEAD commit below the snapshot; empty where there is none yet.
        head: String,
        /// The branch that the user's checkout was on; empty when detached.
        branch: String,
        /// Git bundles to fetch in this order; the last one holds `commit`.
        bundles: Vec<Digest>,
        /// What the user's git ignores beside the `.gitignore` files in it, as lines of such a file.
        ignore_rules: String,
    },
    /// In the user's directory itself, on the machine that has it.
    InPlace {
        /// The directory.
        dir: PathBuf,
        /// The machine.
        machine: MachineId,
    },
    /// In an empty directory of its own.
    Empty,
}

/// A command for the `shell` runner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a command is a text or a list of texts")]
pub enum ShellCommand {
    /// Run by `sh -c`.
    Line(String),
    /// Run directly, without a shell.
    Argv(Vec<String>),
}

/// A file that the agent is given besides the description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextFile {
    /// Its name as the submitter gave it.
    pub name: String,
    /// Its content, already stored at the head.
    pub content: Artifact,
}

/// A file of the user's checkout that git ignores, and that an attempt needs all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopiedFile {
    /// Its path below the top of the repository.
    pub path: String,
    /// Whether it can be executed.
    pub executable: bool,
    /// Its content, already stored at the head.
    pub content: Artifact,
}

/// How an attempt's clone is made ready before its agent begins, as the project says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetUp {
    /// Run by `sh -c` in it; empty where there is none.
    pub command: String,
    /// How long that may run.
    pub timeout: Duration,
    /// Put into it first. They are never a part of the result.
    pub files: Vec<CopiedFile>,
}

/// What a person asked for. Written once, never changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskSpec {
    /// What the agent shall do.
    pub description: String,
    /// How much it matters.
    pub priority: Priority,
    /// The runner that must do it; any agent runner when none is named.
    pub runner: Option<RunnerName>,
    /// Runners that may do it while the account of those before them is parked, best first.
    pub fallback: Vec<RunnerName>,
    /// The model that the runner shall use; the runner's default when none is named.
    pub model: Option<String>,
    /// Tasks that must have succeeded first.
    pub after: Vec<TaskId>,
    /// What becomes of it when one of them does not succeed.
    pub on_dependency_failure: OnDependencyFailure,
    /// It is not started before this moment.
    pub start_at: Option<Timestamp>,
    /// The recurring task that it is a run of.
    pub schedule: Option<ScheduleId>,
    /// How long it may wait for a worker before its first attempt; for ever when none is named.
    pub queue_timeout: Option<Duration>,
    /// How long a running attempt may be silent before it is stopped; only noted when none is named.
    pub stall_timeout: Option<Duration>,
    /// How long one attempt may run.
    pub timeout: Duration,
    /// How many more attempts a failure that can be retried may have.
    pub retries: u32,
    /// How many ports of its own an attempt must have, for servers that it starts; one, where there is
    /// one, when nobody says.
    pub ports: Option<u32>,
    /// How much it may use, its subtasks included.
    pub budget: Budget,
    /// The task that it is a part of; what it uses counts there too.
    pub parent: Option<TaskId>,
    /// Free labels, for finding tasks again.
    pub labels: BTreeMap<String, String>,
    /// Labels that the worker must have.
    pub requires: BTreeMap<String, String>,
    /// Files that the agent is given.
    pub context_files: Vec<ContextFile>,
    /// The project that it belongs to.
    pub project: Option<ProjectRef>,
    /// Where it works.
    pub place: Place,
    /// How its clone is made ready.
    pub set_up: Option<SetUp>,
    /// Whether the change is put into the user's checkout by itself on success.
    pub apply: bool,
    /// The command, for the `shell` runner.
    pub command: Option<ShellCommand>,
    /// Who submitted it: `user@host`.
    pub submitter: String,
    /// The W3C `traceparent` of the submission; empty without tracing.
    pub traceparent: String,
}

impl TaskSpec {
    /// A task that says only what is to be done, with the defaults for everything else: in an empty
    /// directory, for any agent, for half an hour.
    #[must_use]
    pub fn new(description: impl Into<String>) -> Self {
        Self {
            description: description.into(),
            priority: Priority::default(),
            runner: None,
            fallback: Vec::new(),
            model: None,
            after: Vec::new(),
            on_dependency_failure: OnDependencyFailure::default(),
            start_at: None,
            schedule: None,
            queue_timeout: None,
            stall_timeout: None,
            timeout: Duration::from_secs(30 * 60),
            retries: 0,
            ports: None,
            budget: Budget::default(),
            parent: None,
            labels: BTreeMap::new(),
            requires: BTreeMap::new(),
            context_files: Vec::new(),
            project: None,
            place: Place::Empty,
            set_up: None,
            apply: false,
            command: None,
            submitter: String::new(),
            traceparent: String::new(),
        }
    }
}
