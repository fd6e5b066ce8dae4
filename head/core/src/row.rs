//! What is durable, in the core's words. The store knows its bytes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use orchestra_types::{
    AccountName, ApplyResult, AttemptId, Budget, Failure, MachineId, OnDependencyFailure, Outcome,
    Place, Priority, ProjectId, RunnerName, Spent, TaskId, TaskSpec, TaskStatus, Timestamp, Usage,
    WorkerId, runner::WorkerInfo,
};

/// What the scheduler needs to know of a task's specification. Never changes, and is kept once for
/// all tasks that have it in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TaskFacts {
    /// How much it matters.
    pub priority: Priority,
    /// The runner that must do it.
    pub runner: Option<RunnerName>,
    /// The machine that must do it.
    pub machine: Option<MachineId>,
    /// Labels that the worker must have.
    pub requires: BTreeMap<String, String>,
    /// Labels to find it by.
    pub labels: BTreeMap<String, String>,
    /// The project, with its name for people.
    pub project: Option<(ProjectId, String)>,
    /// Who submitted it; empty where that is not known.
    pub submitter: String,
    /// What becomes of it when one that it comes after does not succeed.
    pub on_dependency_failure: OnDependencyFailure,
    /// When it may start, and how long it may take.
    pub timing: Timing,
    /// How many more attempts a failure may have.
    pub retries: u32,
    /// What few tasks have: runners to fall back on, a budget, a parent.
    pub terms: Option<Box<Terms>>,
}

/// Who else may do a task, what it may use, and what it is a part of.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Terms {
    /// Runners that may do it while the accounts of those before them are parked.
    pub fallback: Vec<RunnerName>,
    /// What it and its subtasks may use.
    pub budget: Budget,
    /// The task that it is a part of.
    pub parent: Option<TaskId>,
}

impl Terms {
    /// These terms; none where they say nothing.
    #[must_use]
    pub fn some(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }
}

/// When a task may start, and how long it may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timing {
    /// It is not started before this moment.
    pub start_at: Option<Timestamp>,
    /// How long one attempt may run; zero when only the worker enforces it.
    pub timeout: Duration,
    /// How long it may wait for its first attempt to begin.
    pub queue_timeout: Option<Duration>,
    /// How long a running attempt may be silent before it is stopped.
    pub stall_timeout: Option<Duration>,
}

impl TaskFacts {
    /// Whether it names runners to fall back on.
    pub(crate) fn has_fallback(&self) -> bool {
        self.terms
            .as_deref()
            .is_some_and(|t| !t.fallback.is_empty())
    }

    pub(crate) fn of(spec: &TaskSpec) -> Self {
        let machine = match &spec.place {
            Place::InPlace { machine, .. } => Some(machine.clone()),
            Place::Repository { .. } | Place::Empty => None,
        };
        Self {
            priority: spec.priority,
            runner: spec.runner.clone(),
            machine,
            requires: spec.requires.clone(),
            labels: spec.labels.clone(),
            project: spec
                .project
                .as_ref()
                .map(|p| (p.id.clone(), p.name.clone())),
            submitter: spec.submitter.clone(),
            on_dependency_failure: spec.on_dependency_failure,
            timing: Timing {
                start_at: spec.start_at,
                timeout: spec.timeout,
                queue_timeout: spec.queue_timeout,
                stall_timeout: spec.stall_timeout,
            },
            retries: spec.retries,
            terms: Terms {
                fallback: spec.fallback.clone(),
                budget: spec.budget,
                parent: spec.parent,
            }
            .some(),
        }
    }
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndStatus {
    /// Done.
    Succeeded,
    /// Not done.
    Failed,
    /// A person ended it.
    Cancelled,
    /// A person must look.
    NeedsReview,
}

impl EndStatus {
    /// The status that people see.
    #[must_use]
    pub fn status(self) -> TaskStatus {
        match self {
            Self::Succeeded => TaskStatus::Succeeded,
            Self::Failed => TaskStatus::Failed,
            Self::Cancelled => TaskStatus::Cancelled,
            Self::NeedsReview => TaskStatus::NeedsReview,
        }
    }
}

/// What follows once an attempt's result has been put in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The task ends so, for this reason.
    End {
        /// How.
        status: EndStatus,
        /// Why; none for a success.
        reason: Option<Box<Failure>>,
    },
    /// Another attempt is made.
    Retry {
        /// What went wrong in this one.
        reason: Box<Failure>,
    },
    /// Another attempt is made, on another worker: this one never began, through its worker's doing.
    Elsewhere {
        /// What went wrong there.
        reason: Box<Failure>,
    },
}

/// Where a task is. The data lives in the state that has it.
///
/// ```text
/// Blocked ─► Queued ─► Assigned ─► Running ─► Closing ─► Ended
///              ▲           │          │          │
///              └───────────┴──lost────┴──retry───┘
/// ```
///
/// A lost attempt whose worker comes back while the task is still queued is taken back: `Queued ─► Running`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Waits for tasks that it comes after.
    Blocked,
    /// Waits for a worker.
    Queued {
        /// Since when, for its place in the queue.
        since: Timestamp,
        /// Not before this moment: the delay of a retry.
        not_before: Timestamp,
    },
    /// Ordered from a worker.
    Assigned {
        /// Which attempt.
        attempt: u32,
        /// From whom.
        worker: WorkerId,
        /// With which runner.
        runner: RunnerName,
        /// When.
        at: Timestamp,
    },
    /// The worker says that the agent runs.
    Running {
        /// Which attempt.
        attempt: u32,
        /// Where.
        worker: WorkerId,
        /// With which runner.
        runner: RunnerName,
        /// Since when.
        at: Timestamp,
    },
    /// The result is durable and is being put in place: shared context, branch, apply.
    Closing {
        /// Which attempt.
        attempt: u32,
        /// What follows.
        ending: Ending,
    },
    /// Nothing more happens unless a person acts.
    Ended {
        /// How it ended.
        status: EndStatus,
        /// When.
        at: Timestamp,
    },
}

impl State {
    /// Whether its attempt has ended and nothing of it is left but to put its result in place.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        match self {
            Self::Closing { .. } => true,
            Self::Blocked
            | Self::Queued { .. }
            | Self::Assigned { .. }
            | Self::Running { .. }
            | Self::Ended { .. } => false,
        }
    }
}

/// A task, as it is kept.
///
/// A million of these are in memory: what equal tasks have in common belongs into the facts, and
/// what few tasks have stands behind a box.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskRow {
    /// Which.
    pub id: TaskId,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// What the scheduler needs to know of it.
    pub facts: Arc<TaskFacts>,
    /// Tasks that must have succeeded first.
    pub after: Box<[TaskId]>,
    /// Where it is.
    pub state: State,
    /// Number of the latest attempt; 0 before the first.
    pub attempts: u32,
    /// Failed attempts that count against its retries.
    pub failures: u32,
    /// Workers that were lost while they ran it.
    pub losses: u32,
    /// Attempts that met a limit of their account since the last one that did not; they are not
    /// charged.
    pub limited: u32,
    /// Attempts that were given up and whose results may still come, as a set: bit n stands for
    /// the attempt n before the latest. Older ones than that are not waited for.
    pub given_up: u32,
    /// Where the latest attempt went; none before the first.
    pub last: Option<Box<Last>>,
    /// When an agent first worked on it.
    pub started_at: Option<Timestamp>,
    /// Whether a person wants it to end.
    pub cancel_requested: bool,
    /// Why it failed, waits for a person or is tried again.
    pub reason: Option<Box<Failure>>,
    /// What became of putting the change in place; none before that.
    pub apply: Option<Box<ApplyResult>>,
}

impl TaskRow {
    /// What its own attempts that ended have used.
    #[must_use]
    pub fn used(&self) -> Spent {
        self.last
            .as_ref()
            .map_or(Spent::default(), |last| last.used)
    }

    /// How many attempts were made elsewhere without being charged.
    #[must_use]
    pub fn moved(&self) -> u32 {
        self.last.as_ref().map_or(0, |last| last.moved)
    }

    /// An attempt of it may have begun, or has ended: its first wait is over.
    pub(crate) fn end_first_wait(&mut self) {
        if let Some(last) = &mut self.last {
            last.waits_since = None;
        }
    }
}

/// Of so many attempts that were given up it is known what was counted.
const COUNTED_MAX: usize = 4;

/// Where the latest attempt of a task went, where the next one had better not go, and what all of
/// them used. A task that has never run has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Last {
    /// The worker.
    pub worker: WorkerId,
    /// The runner.
    pub runner: RunnerName,
    /// The worker that it failed on; none before the first failure.
    pub avoids: Option<Avoids>,
    /// How many attempts never began, through their workers' doing, and were made elsewhere, or were lost
    /// with a worker that had no slot for them yet; they are not charged.
    pub moved: u32,
    /// Since when the task has waited for its first attempt to begin, by the wall clock. None where that
    /// wait has no end, and when an attempt may have begun or has ended otherwise than by being given back.
    pub waits_since: Option<Timestamp>,
    /// What all attempts of the task that ended have used, so that a budget which comes later counts it.
    pub used: Spent,
    /// What is in `used` of attempts that were given up, so that nothing counts twice when more is heard
    /// of them; the last few.
    pub counted: Vec<Counted>,
}

/// An attempt that was given up: what had been counted of it by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Its number.
    pub number: u32,
    /// What it had used, as far as that was known.
    pub used: Spent,
    /// Until when its time is in that. Not known of one that an earlier version gave up.
    pub up_to: Option<Timestamp>,
    /// When it was ordered, if nobody had said yet that its agent runs.
    pub unstarted: Option<Timestamp>,
    /// Whether its worker came back and was told to end it. It is not taken back later.
    pub told_to_end: bool,
}

impl Counted {
    /// Whether it did not count as an attempt: it was lost while it waited for a slot of its worker.
    #[must_use]
    pub fn was_ahead(&self) -> bool {
        self.used.attempts == 0
    }
}

impl Last {
    /// What was counted of an attempt when it was given up.
    #[must_use]
    pub fn counted(&self, number: u32) -> Option<&Counted> {
        self.counted.iter().find(|known| known.number == number)
    }

    pub(crate) fn counted_mut(&mut self, number: u32) -> Option<&mut Counted> {
        self.counted.iter_mut().find(|known| known.number == number)
    }

    /// Notes what is counted of an attempt that is given up.
    pub(crate) fn count(&mut self, counted: Counted) {
        self.uncount(counted.number);
        if self.counted.len() >= COUNTED_MAX {
            self.counted.remove(0);
        }
        self.counted.push(counted);
    }

    /// Nothing more is to be heard of an attempt. What had been counted of it.
    pub(crate) fn uncount(&mut self, number: u32) -> Option<Counted> {
        let mut known = self.counted.iter();
        let place = known.position(|known| known.number == number)?;
        Some(self.counted.remove(place))
    }
}

/// A worker that a task failed on, or that was lost with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Avoids {
    /// Which.
    pub worker: WorkerId,
    /// Before this moment the task waits for another worker that could do it, if there is one.
    /// Afterwards any will do, this one last.
    pub until: Timestamp,
}

/// An attempt, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptRow {
    /// Which.
    pub id: AttemptId,
    /// Where.
    pub worker: WorkerId,
    /// With which runner.
    pub runner: RunnerName,
    /// When it was ordered.
    pub assigned_at: Timestamp,
    /// When the agent was started.
    pub started_at: Option<Timestamp>,
}

/// The end of an attempt, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutcomeRow {
    /// Which attempt.
    pub id: AttemptId,
    /// When its result was recorded, or it was given up.
    pub at: Timestamp,
    /// What came out of it, or why nothing did. A late result of a lost attempt replaces the loss.
    pub result: Result<Box<Outcome>, Failure>,
    /// Where nothing came out of it: what its worker had said that it used.
    pub reading: Option<Reading>,
}

/// What an attempt has used so far, as its worker says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Tokens and cost.
    pub usage: Usage,
    /// The model that answers; empty when unknown.
    pub model: String,
}

/// Whether a worker is given anything new, as a person wants it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Availability {
    /// It is.
    #[default]
    Open,
    /// It is not; what it has goes on.
    Cordoned,
    /// It is not, and is to become empty: what it has goes on to its end.
    Draining,
}

impl Availability {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Open, Self::Cordoned, Self::Draining];

    /// The name, as on the wire and in `--json`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Cordoned => "cordoned",
            Self::Draining => "draining",
        }
    }
}

/// A worker, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerRow {
    /// As it described itself last.
    pub info: WorkerInfo,
    /// When it first came.
    pub joined_at: Timestamp,
    /// When it last attached.
    pub attached_at: Timestamp,
    /// Grows with each attachment.
    pub epoch: u64,
    /// Whether it is given anything new.
    pub availability: Availability,
}

/// An account at a provider, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountRow {
    /// Which.
    pub name: AccountName,
    /// How many attempts it may have at once, as a person has set it.
    pub max: Option<u32>,
    /// Nothing is started on it before that.
    pub parked_until: Option<Timestamp>,
    /// Why, in the provider's words.
    pub why: String,
    /// Whether it is parked because a quota is used up, which may need a person.
    pub is_empty: bool,
    /// It bears fewer attempts for a while.
    pub slow: Option<Slow>,
    /// Limits that were met one soon after the other.
    pub strikes: u32,
    /// When the last one was met.
    pub limited_at: Option<Timestamp>,
}

/// How an account that met its limit again and again recovers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slow {
    /// How many attempts it bears.
    pub window: u32,
    /// How many it bore before.
    pub full: u32,
    /// When it is given one more.
    pub next: Timestamp,
}

impl AccountRow {
    /// An account of which nothing is known.
    #[must_use]
    pub fn new(name: AccountName) -> Self {
        Self {
            name,
            max: None,
            parked_until: None,
            why: String::new(),
            is_empty: false,
            slow: None,
            strikes: 0,
            limited_at: None,
        }
    }
}

/// What a task and its subtasks have used, as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerRow {
    /// Whose.
    pub task: TaskId,
    /// What they may use, with every raise.
    pub budget: Budget,
    /// What attempts that ended have used.
    pub spent: Spent,
}

/// What a project may use in a day and has used, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectRow {
    /// Whose.
    pub id: ProjectId,
    /// Its name.
    pub name: String,
    /// What it may use in a day, as a person has set it; none is as configured.
    pub budget: Option<Budget>,
    /// The day that the rest is of, counted from the Unix epoch.
    pub day: u64,
    /// What attempts that ended on that day have used.
    pub spent: Spent,
    /// What it may use more on that day.
    pub added: Budget,
}

/// The tasks of one submission, by its idempotency key. Their ids follow each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRow {
    /// Made once by the client.
    pub key: String,
    /// The first task.
    pub first: TaskId,
    /// How many.
    pub count: u64,
    /// When.
    pub at: Timestamp,
}
