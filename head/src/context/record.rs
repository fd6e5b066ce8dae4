//! What the context needs to know of a task that has ended.

use orchestra_types::{Failure, ManifestEntry, TaskId, TaskSpec, TaskStatus, Timestamp};

/// A task that has ended.
#[derive(Clone, Debug)]
pub struct ClosingTask {
    /// Which.
    pub id: TaskId,
    /// Its last attempt; 0 when it never had one.
    pub attempt: u32,
    /// What was asked for.
    pub spec: TaskSpec,
    /// How it ended.
    pub status: TaskStatus,
    /// Why it is not a success.
    pub failure: Option<Failure>,
    /// The runner of the last attempt; empty without one.
    pub runner: String,
    /// The worker of the last attempt, as people know it; empty without one.
    pub worker: String,
    /// When the last attempt started.
    pub started_at: Option<Timestamp>,
    /// When the task ended.
    pub finished_at: Timestamp,
    /// The files that it changed.
    pub files: Vec<ManifestEntry>,
    /// The agent's final text.
    pub text: String,
}
