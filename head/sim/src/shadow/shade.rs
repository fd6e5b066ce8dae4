//! A task as its row says.

use orchestra_core::{EndStatus, Ending, State, TaskRow};
use orchestra_types::{FailureCode, OnDependencyFailure, Priority, TaskId, TaskStatus};

use super::{bit, ms};
use crate::cast::{Cast, Fallback, PEOPLE};

/// Where a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// There is no such task.
    Nowhere,
    /// It waits for others.
    Blocked,
    /// It waits for a worker.
    Queued {
        /// Since when.
        since: u64,
        /// Not before.
        not_before: u64,
    },
    /// It was given to a worker.
    Assigned {
        /// Which.
        worker: u8,
        /// With which runner.
        runner: u8,
    },
    /// Its agent runs.
    Running {
        /// Where.
        worker: u8,
        /// With which runner.
        runner: u8,
    },
    /// Its result is being put in place.
    Closing {
        /// How it will end; none when it is tried again.
        plan: Option<EndStatus>,
    },
    /// It is over.
    Ended(EndStatus),
}

/// An attempt that was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GivenUp {
    /// Which.
    pub number: u32,
    /// The tokens that are in the task's `used` of it.
    pub tokens: u64,
    /// Whether it is counted there as an attempt.
    pub charged: bool,
    /// Whether its worker was told to end it when it came back.
    pub told_to_end: bool,
}

/// A task as its row says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shade {
    /// Where it is.
    pub at: At,
    /// When it was submitted.
    pub created_at: u64,
    /// When it ended.
    pub ended_at: u64,
    /// When its attempt was ordered or started, while it is held.
    pub held_since: u64,
    /// Its latest attempt.
    pub attempts: u32,
    /// Failures that count.
    pub failures: u32,
    /// Lost workers.
    pub losses: u32,
    /// Worker and runner of the latest attempt.
    pub last: Option<(u8, u8)>,
    /// Tokens that its own attempts used that ended, and how many of them count.
    pub used: (u64, u32),
    /// Its attempts that were given up.
    pub counted: [Option<GivenUp>; 4],
    /// The worker that it failed on, and until when it waits for another one.
    pub avoids: Option<(u8, u64)>,
    /// How many attempts its workers could not begin, and were made elsewhere.
    pub moved: u32,
    /// Since when it waits for its first attempt to begin, once it was given to a worker; none when that has
    /// no end, or is over.
    pub waits_since: Option<u64>,
    /// Whether its row says that a person wants it to end.
    pub cancel_requested: bool,
    /// Whether it waits for a conflict to be solved.
    pub conflict: bool,
    /// How much it matters.
    pub priority: Priority,
    /// The runner that it names.
    pub runner: Option<u8>,
    /// The runners that it falls back on, one after the other.
    pub fallback: Fallback,
    /// The machine that it names.
    pub machine: Option<u8>,
    /// Whether it wants the label.
    pub labelled: bool,
    /// Whether it belongs to a project: its result is put in place.
    pub project: bool,
    /// Retries that it may have.
    pub retries: u32,
    /// What it comes after.
    pub after: u64,
    /// Which of two people submitted it.
    pub share: u8,
    /// What becomes of it when one that it comes after does not succeed.
    pub policy: OnDependencyFailure,
    /// It is not started before this moment.
    pub start_at: u64,
    /// How many milliseconds it may wait for its first attempt, run, and be silent; 0 is no limit.
    pub limits: [u64; 3],
    /// How many tokens it and its subtasks may use at first; 0 is no limit.
    pub budget: u64,
    /// The task that it is a part of.
    pub parent: Option<TaskId>,
    /// Whether it is tried again, once its result is in place, because of a budget.
    pub goes_on: bool,
    /// Whether it is tried elsewhere, once its result is in place: its worker could not begin it.
    pub elsewhere: bool,
    /// Whether its reason is a budget.
    pub over_budget: bool,
    /// Whether a cancel is in force: not a row's word, but what was promised.
    pub cancelled: bool,
}

/// A task that is not there.
pub(super) const NOTHING: Shade = Shade {
    at: At::Nowhere,
    created_at: 0,
    ended_at: 0,
    held_since: 0,
    attempts: 0,
    failures: 0,
    losses: 0,
    last: None,
    used: (0, 0),
    counted: [None; 4],
    avoids: None,
    moved: 0,
    waits_since: None,
    cancel_requested: false,
    conflict: false,
    priority: Priority::Normal,
    runner: None,
    fallback: [None; 2],
    machine: None,
    labelled: false,
    project: false,
    retries: 0,
    after: 0,
    share: 0,
    policy: OnDependencyFailure::Block,
    start_at: 0,
    limits: [0; 3],
    budget: 0,
    parent: None,
    goes_on: false,
    elsewhere: false,
    over_budget: false,
    cancelled: false,
};

impl Shade {
    /// Whether a person wants no more of it.
    pub fn is_cancelled(&self) -> bool {
        match self.at {
            At::Nowhere | At::Blocked | At::Queued { .. } => false,
            At::Assigned { .. } | At::Running { .. } => self.cancel_requested,
            At::Closing { plan } => plan == Some(EndStatus::Cancelled),
            At::Ended(status) => status == EndStatus::Cancelled,
        }
    }

    /// As a row says.
    pub fn of(row: &TaskRow, cast: &Cast) -> Self {
        let facts = &row.facts;
        Self {
            at: At::of(&row.state, cast),
            created_at: row.created_at.0,
            ended_at: match row.state {
                State::Ended { at, .. } => at.0,
                State::Blocked
                | State::Queued { .. }
                | State::Assigned { .. }
                | State::Running { .. }
                | State::Closing { .. } => 0,
            },
            held_since: match row.state {
                State::Assigned { at, .. } | State::Running { at, .. } => at.0,
                State::Blocked
                | State::Queued { .. }
                | State::Closing { .. }
                | State::Ended { .. } => 0,
            },
            attempts: row.attempts,
            failures: row.failures,
            losses: row.losses,
            last: row
                .last
                .as_ref()
                .and_then(|last| Some((cast.worker(&last.worker)?, cast.runner(&last.runner)?))),
            used: (row.used().tokens, row.used().attempts),
            counted: [0, 1, 2, 3].map(|place| {
                let known = row.last.as_ref()?.counted.get(place)?;
                Some(GivenUp {
                    number: known.number,
                    tokens: known.used.tokens,
                    charged: known.used.attempts > 0,
                    told_to_end: known.told_to_end,
                })
            }),
            avoids: row.last.as_ref().and_then(|last| {
                let avoids = last.avoids.as_ref()?;
                Some((cast.worker(&avoids.worker)?, avoids.until.0))
            }),
            moved: row.moved(),
            waits_since: row.last.as_ref().and_then(|last| Some(last.waits_since?.0)),
            cancel_requested: row.cancel_requested,
            conflict: row
                .reason
                .as_ref()
                .is_some_and(|reason| reason.code == FailureCode::ApplyConflict),
            priority: facts.priority,
            runner: facts.runner.as_ref().and_then(|name| cast.runner(name)),
            fallback: [0, 1].map(|place| {
                let terms = facts.terms.as_deref()?;
                cast.runner(terms.fallback.get(place)?)
            }),
            machine: facts.machine.as_ref().and_then(|id| cast.machine(id)),
            labelled: !facts.requires.is_empty(),
            project: facts.project.is_some(),
            retries: facts.retries,
            after: row.after.iter().fold(0, |set, id| set | bit(*id)),
            share: u8::from(facts.submitter == PEOPLE[1]),
            policy: facts.on_dependency_failure,
            start_at: facts.timing.start_at.map_or(0, |at| at.0),
            limits: [
                ms(facts.timing.queue_timeout),
                ms(Some(facts.timing.timeout)),
                ms(facts.timing.stall_timeout),
            ],
            budget: facts
                .terms
                .as_ref()
                .and_then(|terms| terms.budget.tokens)
                .unwrap_or(0),
            parent: facts.terms.as_ref().and_then(|terms| terms.parent),
            goes_on: match &row.state {
                State::Closing {
                    ending: Ending::Retry { reason },
                    ..
                } => reason.code == FailureCode::BudgetExceeded,
                State::Closing { .. }
                | State::Blocked
                | State::Queued { .. }
                | State::Assigned { .. }
                | State::Running { .. }
                | State::Ended { .. } => false,
            },
            elsewhere: matches!(
                &row.state,
                State::Closing {
                    ending: Ending::Elsewhere { .. },
                    ..
                }
            ),
            over_budget: row
                .reason
                .as_ref()
                .is_some_and(|reason| reason.code == FailureCode::BudgetExceeded),
            cancelled: false,
        }
    }

    /// The tokens that are counted of an attempt that was given up.
    #[must_use]
    pub fn counted(&self, number: u32) -> Option<u64> {
        self.given_up(number).map(|known| known.tokens)
    }

    /// Whether an attempt that was given up counts as one.
    #[must_use]
    pub fn is_charged(&self, number: u32) -> bool {
        self.given_up(number).is_some_and(|known| known.charged)
    }

    fn given_up(&self, number: u32) -> Option<GivenUp> {
        let mut known = self.counted.iter().flatten();
        known.find(|known| known.number == number).copied()
    }

    /// Whether the worker of an attempt that was given up came back and was told to end it.
    #[must_use]
    pub fn told_to_end(&self, number: u32) -> bool {
        self.given_up(number).is_some_and(|known| known.told_to_end)
    }

    /// What it requires of a worker.
    #[must_use]
    pub fn required(&self) -> impl PartialEq + use<> {
        (self.runner, self.fallback, self.machine, self.labelled)
    }

    /// Whether it waits for a person.
    #[must_use]
    pub fn is_in_review(&self) -> bool {
        self.at == At::Ended(EndStatus::NeedsReview)
    }

    /// The worker that holds it, and the runner.
    #[must_use]
    pub fn holder(&self) -> Option<(u8, u8)> {
        match self.at {
            At::Assigned { worker, runner } | At::Running { worker, runner } => {
                Some((worker, runner))
            }
            At::Nowhere | At::Blocked | At::Queued { .. } | At::Closing { .. } | At::Ended(_) => {
                None
            }
        }
    }

    /// The status that people see.
    #[must_use]
    pub fn status(&self) -> Option<TaskStatus> {
        match self.at {
            At::Nowhere => None,
            At::Blocked => Some(TaskStatus::Blocked),
            At::Queued { .. } => Some(TaskStatus::Queued),
            At::Assigned { .. } => Some(TaskStatus::Assigned),
            At::Running { .. } | At::Closing { .. } => Some(TaskStatus::Running),
            At::Ended(status) => Some(status.status()),
        }
    }
}

impl At {
    fn of(state: &State, cast: &Cast) -> Self {
        let place = |worker, runner| (cast.worker(worker), cast.runner(runner));
        match state {
            State::Blocked => Self::Blocked,
            State::Queued { since, not_before } => Self::Queued {
                since: since.0,
                not_before: not_before.0,
            },
            State::Assigned { worker, runner, .. } => match place(worker, runner) {
                (Some(worker), Some(runner)) => Self::Assigned { worker, runner },
                _ => Self::Nowhere,
            },
            State::Running { worker, runner, .. } => match place(worker, runner) {
                (Some(worker), Some(runner)) => Self::Running { worker, runner },
                _ => Self::Nowhere,
            },
            State::Closing { ending, .. } => Self::Closing {
                plan: match ending {
                    Ending::End { status, .. } => Some(*status),
                    Ending::Retry { .. } | Ending::Elsewhere { .. } => None,
                },
            },
            State::Ended { status, .. } => Self::Ended(*status),
        }
    }
}
