//! Tasks as `--json` has them, and what commands ask of them.
//!
//! The document is here. How it is read from the head's answer is in `read`, why it is as it is in `reason`, where
//! it works in `place`, how it stands in `state`, and which of its attempts counts in `result`. What is said where
//! an attempt is wanted that is not there is in `calls`.

mod place;
mod read;
mod reason;
mod result;
mod state;

use std::collections::BTreeMap;

use orchestra_repo::BranchHere;
use orchestra_types::{
    OnDependencyFailure, Priority, ScheduleId, ShellCommand, TaskId, TaskStatus, Usage,
};
use serde::Serialize;

pub use self::{
    place::{Project, SetUpDocument, Workplace},
    reason::Reason,
};
use super::{
    attempt::Attempt,
    budget::{BudgetDocument, SpentDocument},
    manifest::{Changes, File},
    time::Time,
};

/// A task. Lists leave `usage` (but for that of `ctl tasks`), `files`, `changes`, `result`, `branch`, `commit` and `attempts` null.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Task {
    /// `task_001`.
    pub id: TaskId,
    /// Where it is in its life.
    pub status: TaskStatus,
    /// What the agent shall do.
    pub description: String,
    /// `high`, `normal`, `low`.
    pub priority: Priority,
    /// The runner of the latest attempt, else the one that was asked for.
    pub runner: Option<String>,
    /// The worker of the latest attempt.
    pub worker: Option<String>,
    /// The latest attempt; 0 before the first.
    pub attempt: u32,
    /// Why it failed, is blocked, waits for a person or was tried again.
    pub reason: Option<Reason>,
    /// Why no worker can begin it now, where it is queued and has no reason of its own.
    pub waits_because: Option<String>,
    /// When it was submitted.
    pub created_at: Time,
    /// When its latest attempt started.
    pub started_at: Option<Time>,
    /// When it ended.
    pub finished_at: Option<Time>,
    /// Tokens and cost of all attempts.
    pub usage: Option<Usage>,
    /// The files that the latest attempt changed.
    pub files: Option<Vec<File>>,
    /// Why they are not known although it has left some: the head's list of them is lost or damaged.
    pub files_lost: Option<String>,
    /// Counts of them.
    pub changes: Option<Changes>,
    /// The agent's final text, cut.
    pub result: Option<String>,
    /// The branch of the result.
    pub branch: Option<String>,
    /// The commit of the result.
    pub commit: Option<String>,
    /// Whether the change is or was put into the checkout.
    pub apply: Apply,
    /// Runners that may do it while the account of those before them is parked.
    pub fallback: Vec<String>,
    /// What it and its subtasks may use, with every raise; null without a limit, and in lists.
    pub budget: Option<BudgetDocument>,
    /// What they have used of it in attempts that ended; null where nobody counts.
    pub spent: Option<SpentDocument>,
    /// The task that it is a part of.
    pub parent: Option<TaskId>,
    /// The model that was asked for.
    pub model: Option<String>,
    /// Tasks that it comes after.
    pub after: Vec<TaskId>,
    /// Those of them that have not succeeded yet.
    pub waits_for: Vec<TaskId>,
    /// What becomes of it when one of them does not succeed: `block`, `cancel`, `run`.
    pub on_dependency_failure: OnDependencyFailure,
    /// It is not started before.
    pub start_at: Option<Time>,
    /// The recurring task that it is a run of.
    pub schedule: Option<ScheduleId>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Labels that its worker must have.
    pub requires: BTreeMap<String, String>,
    /// How long an attempt may run.
    pub timeout_seconds: f64,
    /// How long it may wait for a worker; null for ever.
    pub queue_timeout_seconds: Option<f64>,
    /// How long its agent may be silent; null when silence is only noted.
    pub stall_timeout_seconds: Option<f64>,
    /// How many retries it may have.
    pub retries: u32,
    /// Names of its context files.
    pub context: Vec<String>,
    /// Its project.
    pub project: Option<Project>,
    /// Where it works.
    pub place: Workplace,
    /// The command of the `shell` runner.
    pub command: Option<ShellCommand>,
    /// How many ports of its own an attempt must have; null for one, where there is one.
    pub ports: Option<u32>,
    /// How its clone is made ready.
    pub set_up: Option<SetUpDocument>,
    /// `user@host`.
    pub submitter: Option<String>,
    /// Whether a cancel is on its way.
    pub cancel_requested: bool,
    /// Whether its attempt has ended, and its result is being put in place.
    pub finishing: bool,
    /// Nothing was heard of its agent since then, and that is worth a notice.
    pub silent_since: Option<Time>,
    /// It waits until then.
    pub not_before: Option<Time>,
    /// Its attempts, oldest first.
    pub attempts: Option<Vec<Attempt>>,
    /// Changes of earlier tasks that its result builds on.
    #[serde(skip)]
    pub earlier: Vec<Earlier>,
    /// What the name of its result's branch is in the repository here; none where nobody has looked.
    #[serde(skip)]
    pub branch_here: Option<BranchHere>,
}

/// A change that a result builds on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Earlier {
    /// The task that made it; none for all of them together.
    pub task: Option<TaskId>,
    /// What it is.
    pub change: orchestra_repo::Earlier,
}

/// What became of putting the change into the user's checkout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Apply {
    /// Whether it was asked for with the task.
    pub requested: bool,
    /// `not_requested`, `applied`, `conflict`; null before the end.
    pub result: Option<String>,
    /// Why it conflicts.
    pub message: Option<String>,
}

#[cfg(test)]
mod tests;
