//! Tasks and their attempts.

use std::{collections::BTreeMap, time::Duration};

use orchestra_proto::{convert, v1};
use orchestra_repo::BranchHere;
use orchestra_types::{
    Failure, FailureCode, Fault, OnDependencyFailure, Place, Priority, ProjectId, ScheduleId,
    SetUp, ShellCommand, TaskId, TaskSpec, TaskStatus, Usage,
};
use serde::Serialize;

use super::{
    attempt::{Attempt, of_result},
    budget::{BudgetDocument, SpentDocument},
    manifest::Changes,
    manifest::File,
    refused, some,
    time::Time,
};
use crate::error::Result;

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

impl From<v1::Earlier> for Earlier {
    fn from(wire: v1::Earlier) -> Self {
        Self {
            task: Some(TaskId(wire.task_id)).filter(|task| task.0 > 0),
            change: orchestra_repo::Earlier {
                start: wire.start,
                base: wire.base,
                commit: wire.commit,
                applied: wire.applied,
            },
        }
    }
}

/// Why something is as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// A word of the taxonomy, as `rate_limited`.
    pub code: FailureCode,
    /// What exactly.
    pub message: String,
    /// Whether another attempt can help without a person doing something first.
    pub retryable: bool,
    /// Whose doing it is: `task`, `provider`, `worker`, `person`, `orchestra`.
    pub fault: Fault,
    /// What a person can do.
    pub advice: String,
    /// When the provider says that it works again.
    pub resets_at: Option<Time>,
}

impl Reason {
    /// The failure of a task, or of one of its attempts.
    pub(crate) fn of(task: TaskId, failure: Failure) -> Self {
        let advice = match failure.code {
            // Nothing in the checkout is in the way then.
            FailureCode::ApplyConflict if failure.message.contains("`ctl apply") => {
                format!("`ctl apply {task}` puts the change there; `ctl diff {task}` shows it")
            }
            FailureCode::DependencyFailed => match first_task(&failure.message) {
                Some(before) => format!(
                    "`ctl retry {before}` first, since {task} comes after it; `ctl show {before}` says why it ended so"
                ),
                None => failure.code.advice_for(task),
            },
            code => code.advice_for(task),
        };
        Self {
            code: failure.code,
            message: failure.message,
            retryable: failure.code.is_retryable(),
            fault: failure.code.fault(),
            advice,
            resets_at: failure.resets_at.map(Time),
        }
    }

    /// With the other way that a task has which is blocked by one that it directly comes after.
    fn or_go_without(mut self, task: TaskId, status: TaskStatus, after: &[TaskId]) -> Self {
        let is_blocked = status == TaskStatus::Blocked;
        let failed = self.code == FailureCode::DependencyFailed;
        let before = first_task(&self.message).filter(|before| after.contains(before));
        if is_blocked && failed && before.is_some() {
            self.advice += &format!("; or `ctl release {task}` lets it go all the same");
        }
        self
    }

    /// Nobody needs to do what happens by itself, nor could: a task that is not at its end cannot be retried.
    fn of_one_tried_again(mut self, task: TaskId, status: TaskStatus) -> Self {
        let again = matches!(
            status,
            TaskStatus::Queued | TaskStatus::Assigned | TaskStatus::Running
        );
        if again && self.advice.contains(&format!("`ctl retry {task}`")) {
            self.advice = format!(
                "it is tried again by itself; if it fails again: {}",
                self.advice
            );
        }
        self
    }
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

/// The project of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Project {
    /// `git-<hex>` or `dir-<hex>`.
    pub id: String,
    /// The directory's name.
    pub name: String,
    /// The directory.
    pub dir: String,
    /// The machine that the directory is on.
    pub machine: String,
}

/// How the clone of an attempt is made ready before its agent begins.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SetUpDocument {
    /// Run by `sh -c`; null where only files are copied.
    pub command: Option<String>,
    /// How long that may run.
    pub timeout_seconds: f64,
    /// Files of the checkout that git ignores and that are copied; never what is in them.
    pub files: Vec<String>,
}

impl From<SetUp> for SetUpDocument {
    fn from(set_up: SetUp) -> Self {
        Self {
            command: some(set_up.command),
            timeout_seconds: set_up.timeout.as_secs_f64(),
            files: set_up.files.into_iter().map(|f| f.path).collect(),
        }
    }
}

/// Where a task works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum Workplace {
    /// In a private clone.
    Repository {
        /// The commit it starts from: `head`, or a snapshot of uncommitted changes on top of it.
        commit: String,
        /// The checkout's HEAD then.
        head: Option<String>,
        /// The checkout's branch then.
        branch: Option<String>,
    },
    /// In the directory itself.
    InPlace {
        /// The directory.
        dir: String,
        /// The machine.
        machine: String,
    },
    /// In an empty directory of its own.
    Empty,
}

impl From<Place> for Workplace {
    fn from(place: Place) -> Self {
        match place {
            Place::Repository {
                commit,
                head,
                branch,
                bundles: _,
                ignore_rules: _,
            } => Self::Repository {
                commit,
                head: some(head),
                branch: some(branch),
            },
            Place::InPlace { dir, machine } => Self::InPlace {
                dir: dir.to_string_lossy().into_owned(),
                machine: machine.to_string(),
            },
            Place::Empty => Self::Empty,
        }
    }
}

impl Task {
    /// Whether a cancel is on its way to its agent.
    pub fn is_being_cancelled(&self) -> bool {
        self.cancel_requested && !self.status.is_ended()
    }

    /// Whether it succeeded although a person had cancelled it: its agent had ended before it heard of that.
    pub fn was_cancelled_too_late(&self) -> bool {
        self.cancel_requested && self.status == TaskStatus::Succeeded
    }

    /// Whether it goes no further without a person: it has ended, the task before it has failed, or its
    /// budget is used up.
    pub fn rests(&self) -> bool {
        self.status.is_ended() || self.is_stuck() || self.asks_for_more()
    }

    /// Whether it, or one that it comes after, stays in the queue until somebody raises its budget. A
    /// project's of the day is another one tomorrow.
    pub fn asks_for_more(&self) -> bool {
        let kept = |reason: &Reason| {
            reason.code == FailureCode::BudgetExceeded && reason.resets_at.is_none()
        };
        let waits = matches!(self.status, TaskStatus::Queued | TaskStatus::Blocked);
        waits && self.reason.as_ref().is_some_and(kept)
    }

    /// Whether it is blocked for good, unless somebody sees to the task before it.
    pub fn is_stuck(&self) -> bool {
        let reason = self.reason.as_ref().map(|reason| reason.code);
        self.status == TaskStatus::Blocked && reason == Some(FailureCode::DependencyFailed)
    }

    /// The task that failed, for one that is stuck: however many stand between them, only that one can be
    /// tried again. The reason begins with it.
    pub fn failed_before(&self) -> Option<TaskId> {
        let reason = self.reason.as_ref().filter(|_| self.is_stuck())?;
        first_task(&reason.message)
    }

    /// Reads the head's answer.
    pub fn read(wire: v1::Task) -> Result<Self> {
        let id = convert::task_id("id", wire.id).map_err(refused)?;
        let status = convert::task_status("status", wire.status).map_err(refused)?;
        let spec = wire.spec.unwrap_or_default();
        let spec = TaskSpec::try_from(spec).map_err(refused)?;
        let reason = wire
            .reason
            .map(Failure::try_from)
            .transpose()
            .map_err(refused)?;
        let attempts = wire
            .attempts
            .into_iter()
            .map(|attempt| Attempt::read(id, attempt))
            .collect::<Result<Vec<_>>>()?;
        let attempts = (!attempts.is_empty()).then_some(attempts);
        let latest = attempts.as_ref().and_then(|a| a.last());
        let left = attempts.as_deref().and_then(of_result);
        Ok(Self {
            id,
            status,
            priority: spec.priority,
            runner: some(wire.runner).or(spec.runner.map(|r| r.to_string())),
            worker: some(wire.worker),
            attempt: wire.attempt,
            reason: reason
                .map(|failure| Reason::of(id, failure))
                .map(|reason| reason.or_go_without(id, status, &spec.after))
                .map(|reason| reason.of_one_tried_again(id, status)),
            waits_because: None,
            created_at: Time::from_ms(wire.created_at_ms),
            started_at: wire.started_at_ms.map(Time::from_ms),
            finished_at: wire.finished_at_ms.map(Time::from_ms),
            usage: attempts.as_ref().map(|a| total_usage(a)),
            files: None,
            files_lost: None,
            changes: left.and_then(|a| a.changes),
            result: latest.and_then(|a| a.result.clone()),
            branch: left.and_then(|a| a.branch.clone()),
            commit: left.and_then(|a| a.commit.clone()),
            apply: Apply {
                requested: spec.apply,
                result: some(wire.apply),
                message: some(wire.apply_message),
            },
            // Where it is counted the head knows the limits; lists have what was asked for.
            budget: match wire.spent {
                Some(_) => wire.budget,
                None => convert::budget_to_wire(spec.budget),
            }
            .map(BudgetDocument::from),
            spent: wire.spent.map(SpentDocument::from),
            parent: spec.parent,
            fallback: spec.fallback.iter().map(ToString::to_string).collect(),
            model: spec.model,
            after: spec.after,
            waits_for: wire.waits_for.into_iter().map(TaskId).collect(),
            on_dependency_failure: spec.on_dependency_failure,
            start_at: spec.start_at.map(Time),
            schedule: spec.schedule,
            labels: spec.labels,
            requires: spec.requires,
            timeout_seconds: Duration::as_secs_f64(&spec.timeout),
            queue_timeout_seconds: spec.queue_timeout.as_ref().map(Duration::as_secs_f64),
            stall_timeout_seconds: spec.stall_timeout.as_ref().map(Duration::as_secs_f64),
            retries: spec.retries,
            context: spec.context_files.into_iter().map(|f| f.name).collect(),
            project: spec.project.map(|p| Project {
                id: p.id.to_string(),
                name: p.name,
                dir: p.dir.to_string_lossy().into_owned(),
                machine: p.machine.to_string(),
            }),
            place: spec.place.into(),
            command: spec.command,
            ports: spec.ports,
            set_up: spec.set_up.map(Into::into),
            submitter: some(spec.submitter),
            cancel_requested: wire.cancel_requested,
            finishing: wire.finishing,
            silent_since: wire.silent_since_ms.map(Time::from_ms),
            not_before: wire.not_before_ms.map(Time::from_ms),
            description: spec.description,
            attempts,
            earlier: wire.earlier.into_iter().map(Into::into).collect(),
            branch_here: None,
        })
    }

    /// The branch of the result, where `ctl apply` makes it: not where a directory without a
    /// repository was copied.
    pub fn branch_to_apply(&self) -> Option<&str> {
        let is_dir = self
            .project
            .as_ref()
            .is_some_and(|p| p.id.starts_with(ProjectId::PLACE));
        match &self.place {
            // A repository without a commit is known by its directory too, but it has a branch.
            Workplace::Repository { branch: None, .. } if is_dir => None,
            Workplace::Repository { .. } | Workplace::InPlace { .. } | Workplace::Empty => {
                self.branch.as_deref()
            }
        }
    }

    /// The attempt that its result is of, where the document has attempts.
    pub fn of_result(&self) -> Option<&Attempt> {
        self.attempts.as_deref().and_then(of_result)
    }

    /// The latest attempt, where the document has attempts.
    pub fn latest(&self) -> Option<&Attempt> {
        self.attempts.as_ref().and_then(|a| a.last())
    }
}

impl Task {
    /// When an attempt of it was given to its worker; none where it has no such attempt.
    pub fn given(&self, number: u32) -> Option<Time> {
        let mut attempts = self.attempts.iter().flatten();
        let attempt = attempts.find(|attempt| attempt.number == number)?;
        Some(attempt.assigned_at)
    }

    /// Reads one of a list: of its attempts only what they used.
    pub fn read_listed(wire: v1::Task) -> Result<Self> {
        Ok(Self {
            attempts: None,
            changes: None,
            result: None,
            branch: None,
            commit: None,
            ..Self::read(wire)?
        })
    }
}

/// The task that a reason begins with.
fn first_task(message: &str) -> Option<TaskId> {
    message.split(' ').next()?.parse().ok()
}

fn total_usage(attempts: &[Attempt]) -> Usage {
    attempts
        .iter()
        .filter_map(|a| a.usage)
        .fold(Usage::default(), Usage::plus)
}

#[cfg(test)]
mod tests;
