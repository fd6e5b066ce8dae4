//! What rows say, in a world's words: small copies that the judge compares with.
//!
//! There are two: one follows what was decided, one what is durable. A crash makes the first one
//! a copy of the second.

mod shade;

use std::time::Duration;

use orchestra_core::{Availability, Change, EndStatus, ScheduleRow};
use orchestra_types::{
    AttemptId, FailureCode, OnDependencyFailure, Recurrence, ScheduleId, TaskId,
    runner::{Readiness, RunnerInfo, WorkerInfo},
};

use self::shade::NOTHING;
pub use self::shade::{At, GivenUp, Shade};
use crate::{
    cast::{ACCOUNTS, Cast, WORKERS_MAX, bits},
    plan::{DAY_MS, MINUTE_MS},
};

/// What a task and its subtasks may use and have used, as its row says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purse {
    /// How many tokens; 0 is no limit.
    pub limit: u64,
    /// Tokens of attempts that ended.
    pub spent: u64,
    /// Attempts that ended and count.
    pub attempts: u32,
}

/// What the project has used on a day, as its row says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Day {
    /// Which, counted from the Unix epoch.
    pub number: u64,
    /// How many tokens it may use in a day, as a person has set it.
    pub set: Option<u64>,
    /// How many more on this one.
    pub added: u64,
    /// Tokens of attempts that ended.
    pub spent: u64,
    /// Attempts that ended and count.
    pub attempts: u32,
}

/// The end of an attempt as its row says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Which.
    pub attempt: AttemptId,
    /// Whether it is a result, and not a loss.
    pub result: bool,
    /// Its code.
    pub code: Option<FailureCode>,
}

/// A submission as its row says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// The number of the submission.
    pub key: usize,
    /// Its first task.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// When it was made.
    pub at: u64,
}

/// A schedule as its row says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recurring {
    /// Which.
    pub id: ScheduleId,
    /// The number of the request that made it.
    pub key: u64,
    /// When it was made.
    pub created_at: u64,
    /// When its runs come.
    pub every: Recurrence,
    /// When the next one is due.
    pub next: u64,
    /// Whether it makes none for now.
    pub paused: bool,
    /// The latest one.
    pub last: Option<TaskId>,
    /// How many there were.
    pub runs: u64,
    /// The tasks that they come after or are a part of, as a set.
    pub needs: u64,
}

impl Recurring {
    /// How many milliseconds apart its runs are.
    #[must_use]
    pub fn period(&self) -> u64 {
        match self.every {
            Recurrence::Every(every) => ms(Some(every)),
            Recurrence::Daily { .. } => DAY_MS,
        }
    }

    /// Whether a run may be due at `moment`, where one was due at `slot`. A daily one is due at its
    /// time of day, whenever the first was wanted.
    #[must_use]
    pub fn has_slot(&self, moment: u64, slot: u64) -> bool {
        match self.every {
            Recurrence::Every(_) => moment.abs_diff(slot).is_multiple_of(self.period()),
            Recurrence::Daily { minute, ahead } => {
                let clock = (moment + u64::from(Recurrence::round(ahead)) * MINUTE_MS) % DAY_MS;
                clock == u64::from(minute) * MINUTE_MS
            }
        }
    }

    /// As a row says.
    #[must_use]
    pub fn of(row: &ScheduleRow) -> Self {
        Self {
            id: row.id,
            key: row.key.parse().unwrap_or(0),
            created_at: row.created_at.0,
            every: row.every,
            next: row.next.0,
            paused: row.paused,
            last: row.last,
            runs: row.runs,
            needs: row
                .spec
                .after
                .iter()
                .chain(&row.spec.parent)
                .fold(0, |set, id| set | bit(*id)),
        }
    }
}

/// An account as its row says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Nothing is started on it before that.
    pub parked_until: Option<u64>,
    /// When its limit was met last.
    pub limited_at: Option<u64>,
    /// How many attempts it bears at once.
    pub bears: Option<u32>,
}

/// All rows.
#[derive(Debug, Default)]
pub struct Shadow {
    tasks: Vec<Shade>,
    /// Tasks that have ended at least once, as a set.
    pub ended: u64,
    /// Tasks that are forgotten, as a set.
    pub forgotten: u64,
    /// Submissions whose keys are forgotten, by their numbers, as a set.
    pub forgotten_keys: u64,
    /// Ends of attempts, in the order of their recording.
    pub outcomes: Vec<Ended>,
    /// Attempts and the worker that each went to.
    pub attempts: Vec<(AttemptId, u8)>,
    /// Submissions.
    pub keys: Vec<Key>,
    /// What tasks have used.
    pub purses: Vec<(TaskId, Purse)>,
    /// The day of the project.
    pub day: Option<Day>,
    /// Up to which report of each worker is recorded.
    pub acked: [u64; WORKERS_MAX],
    /// Schedules.
    pub schedules: Vec<Recurring>,
    /// The newest one that there ever was.
    pub last_schedule: Option<ScheduleId>,
    /// What each account bears.
    pub accounts: [Account; ACCOUNTS],
    /// What each worker says of itself.
    pub capacities: [Capacity; WORKERS_MAX],
    /// The start of each worker's machine in which it attached last.
    pub boots: [Option<u32>; WORKERS_MAX],
    /// Whether each worker is given anything new.
    pub availability: [Availability; WORKERS_MAX],
    /// How often each worker has attached.
    pub epochs: [u64; WORKERS_MAX],
    /// What was acknowledged to each worker at most, also before it was removed.
    pub once_acked: [u64; WORKERS_MAX],
}

fn ms(limit: Option<Duration>) -> u64 {
    let limit = limit.unwrap_or_default();
    u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)
}

/// A task's bit in a set.
#[must_use]
pub fn bit(id: TaskId) -> u64 {
    1 << (id.0 & 63)
}

/// What a worker could run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    /// Its slots.
    pub slots: u32,
    /// Which of its runners are ready, as a set.
    pub ready: u8,
    /// Of which of its runners orders may wait there, as a set.
    pub ahead: u8,
}

impl Capacity {
    fn of(info: &WorkerInfo) -> Self {
        let set = |has: &dyn Fn(&RunnerInfo) -> bool| {
            let runners = info.runners.iter().enumerate();
            let found = runners.filter(|(_, runner)| has(runner));
            found.fold(0, |set, (place, _)| set | 1 << place)
        };
        Self {
            slots: info.slots,
            ready: set(&|runner| runner.readiness == Readiness::Ready),
            ahead: set(&|runner| runner.prefetch > 0),
        }
    }
}

impl Shadow {
    /// A task.
    #[must_use]
    pub fn task(&self, id: TaskId) -> Shade {
        let place = usize::try_from(id.0).ok().and_then(|n| n.checked_sub(1));
        place
            .and_then(|n| self.tasks.get(n))
            .copied()
            .unwrap_or(NOTHING)
    }

    /// All tasks.
    pub fn tasks(&self) -> impl Iterator<Item = (TaskId, &Shade)> {
        let there = self.tasks.iter().enumerate();
        there
            .filter(|(_, shade)| shade.at != At::Nowhere)
            .map(|(n, shade)| (TaskId(n as u64 + 1), shade))
    }

    /// Takes a task as it is now.
    pub fn set(&mut self, id: TaskId, shade: Shade) {
        if matches!(shade.at, At::Ended(_)) {
            self.ended |= bit(id);
        }
        let place = usize::try_from(id.0.saturating_sub(1)).unwrap_or(0);
        if self.tasks.len() <= place {
            self.tasks.resize(place + 1, NOTHING);
        }
        self.tasks[place] = shade;
    }

    /// Notes whether a cancel is in force.
    pub fn mark(&mut self, id: TaskId, cancelled: bool) {
        let mut shade = self.task(id);
        if shade.at != At::Nowhere {
            shade.cancelled = cancelled;
            self.set(id, shade);
        }
    }

    /// Whether a task may go as far as those that it comes after are concerned. One that runs
    /// anyway may go when each has ended once, also when one is tried again since.
    #[must_use]
    pub fn is_free(&self, shade: &Shade) -> bool {
        self.all_before(shade, |id, _| self.ended & bit(id) != 0)
    }

    /// Whether it may go as those that it comes after are now.
    #[must_use]
    pub fn is_free_now(&self, shade: &Shade) -> bool {
        self.all_before(shade, |_, at| matches!(at, At::Ended(_)))
    }

    fn all_before(&self, shade: &Shade, over: impl Fn(TaskId, At) -> bool) -> bool {
        let runs = shade.policy == OnDependencyFailure::Run;
        bits(shade.after).map(TaskId).all(|id| {
            let at = self.task(id).at;
            self.is_settled(id) || (runs && over(id, at))
        })
    }

    /// Whether nobody waits for a task: it succeeded, or it was forgotten.
    #[must_use]
    pub fn is_settled(&self, id: TaskId) -> bool {
        self.task(id).at == At::Ended(EndStatus::Succeeded) || self.forgotten & bit(id) != 0
    }

    /// Whether a task is to be cancelled because one that it comes after did not succeed.
    #[must_use]
    pub fn is_doomed(&self, shade: &Shade) -> bool {
        shade.policy == OnDependencyFailure::Cancel && self.is_behind_failure(shade)
    }

    /// Whether a task is blocked by one that it comes after and that did not succeed.
    #[must_use]
    pub fn is_kept_back(&self, shade: &Shade) -> bool {
        shade.at == At::Blocked && self.is_behind_failure(shade)
    }

    fn is_behind_failure(&self, shade: &Shade) -> bool {
        let unsuccessful = |id| match self.task(TaskId(id)).at {
            At::Ended(status) => status != EndStatus::Succeeded,
            _ => false,
        };
        bits(shade.after).any(unsuccessful)
    }

    /// The worker that an attempt was given to.
    #[must_use]
    pub fn given_to(&self, attempt: AttemptId) -> Option<u8> {
        let mut given = self.attempts.iter().rev();
        given
            .find(|(id, _)| *id == attempt)
            .map(|(_, worker)| *worker)
    }

    /// The end of an attempt.
    #[must_use]
    pub fn outcome(&self, attempt: AttemptId) -> Option<Ended> {
        let mut ends = self.outcomes.iter().rev();
        ends.find(|end| end.attempt == attempt).copied()
    }

    /// What a task has used.
    #[must_use]
    pub fn purse(&self, id: TaskId) -> Option<Purse> {
        let mut purses = self.purses.iter();
        purses
            .find(|(known, _)| *known == id)
            .map(|(_, purse)| *purse)
    }

    /// A submission.
    #[must_use]
    pub fn key(&self, key: usize) -> Option<Key> {
        self.keys.iter().find(|known| known.key == key).copied()
    }

    /// A schedule.
    #[must_use]
    pub fn schedule(&self, id: ScheduleId) -> Option<Recurring> {
        self.schedules.iter().find(|known| known.id == id).copied()
    }

    /// Sets a schedule as it is in memory.
    pub fn set_schedule(&mut self, schedule: Recurring) {
        self.schedules.retain(|known| known.id != schedule.id);
        self.schedules.push(schedule);
    }

    /// Takes a row.
    pub fn apply(&mut self, change: &Change, cast: &Cast) {
        match change {
            Change::Task(row) => {
                let mut shade = Shade::of(row, cast);
                shade.cancelled = self.task(row.id).cancelled;
                self.set(row.id, shade);
            }
            Change::Attempt(row) => {
                if let (None, Some(worker)) = (row.started_at, cast.worker(&row.worker)) {
                    self.attempts.push((row.id, worker));
                }
            }
            Change::ForgetOutcome { id } => self.outcomes.retain(|end| end.attempt != *id),
            Change::Outcome(row) => self.outcomes.push(Ended {
                attempt: row.id,
                result: row.result.is_ok(),
                code: match &row.result {
                    Ok(outcome) => outcome.failure.as_ref().map(|failure| failure.code),
                    Err(failure) => Some(failure.code),
                },
            }),
            Change::Worker(row) => {
                if let Some(worker) = cast.worker(&row.info.id) {
                    self.epochs[usize::from(worker)] = row.epoch;
                    self.boots[usize::from(worker)] = row.info.boot_id.parse().ok();
                    self.availability[usize::from(worker)] = row.availability;
                    self.capacities[usize::from(worker)] = Capacity::of(&row.info);
                }
            }
            Change::Acked { worker, up_to } => {
                if let Some(worker) = cast.worker(worker) {
                    self.acked[usize::from(worker)] = *up_to;
                    let once = &mut self.once_acked[usize::from(worker)];
                    *once = (*once).max(*up_to);
                }
            }
            Change::Key(row) => {
                if let Ok(key) = row.key.parse() {
                    let (first, count) = (row.first.0, row.count);
                    let at = row.at.0;
                    self.keys.push(Key {
                        key,
                        first,
                        count,
                        at,
                    });
                }
            }
            Change::Account(row) => {
                if let Some(account) = cast.account(&row.name) {
                    self.accounts[account] = Account {
                        parked_until: row.parked_until.map(|at| at.0),
                        limited_at: row.limited_at.map(|at| at.0),
                        bears: row.slow.map(|slow| slow.window),
                    };
                }
            }
            Change::Ledger(row) => {
                let purse = Purse {
                    limit: row.budget.tokens.unwrap_or(0),
                    spent: row.spent.tokens,
                    attempts: row.spent.attempts,
                };
                self.purses.retain(|(known, _)| *known != row.task);
                self.purses.push((row.task, purse));
            }
            Change::ForgetTask { id, .. } => {
                self.set(*id, NOTHING);
                self.purses.retain(|(known, _)| known != id);
                self.forgotten |= bit(*id);
            }
            Change::ForgetKey { key } => {
                if let Ok(key) = key.parse() {
                    self.keys.retain(|known| known.key != key);
                    self.forgotten_keys |= 1 << (key & 63);
                }
            }
            Change::Schedule(row) => {
                self.set_schedule(Recurring::of(row));
                self.last_schedule = self.last_schedule.max(Some(row.id));
            }
            Change::ForgetSchedule { id } => self.schedules.retain(|known| known.id != *id),
            Change::Project(row) => {
                self.day = Some(Day {
                    number: row.day,
                    set: row.budget.map(|budget| budget.tokens.unwrap_or(0)),
                    added: row.added.tokens.unwrap_or(0),
                    spent: row.spent.tokens,
                    attempts: row.spent.attempts,
                });
            }
            Change::ForgetWorker { id } => {
                if let Some(worker) = cast.worker(id) {
                    self.acked[usize::from(worker)] = 0;
                    self.epochs[usize::from(worker)] = 0;
                    self.boots[usize::from(worker)] = None;
                    self.availability[usize::from(worker)] = Availability::Open;
                    self.capacities[usize::from(worker)] = Capacity::default();
                }
            }
            Change::Spec { .. } | Change::ScheduleIds { .. } => {}
        }
    }

    /// The runner of an attempt that is held.
    #[must_use]
    pub fn runner(&self, attempt: AttemptId) -> Option<u8> {
        let shade = self.task(attempt.task);
        match shade.at {
            At::Assigned { runner, .. } | At::Running { runner, .. } => {
                (shade.attempts == attempt.number).then_some(runner)
            }
            At::Nowhere | At::Blocked | At::Queued { .. } | At::Closing { .. } | At::Ended(_) => {
                None
            }
        }
    }

    /// Whether a worker has attempts.
    pub fn holds_any(&self, worker: u8) -> bool {
        let mut holders = self.tasks().filter_map(|(_, shade)| shade.holder());
        holders.any(|(holder, _)| holder == worker)
    }

    /// Becomes a copy of another one.
    pub fn copy(&mut self, other: &Self) {
        self.tasks.clone_from(&other.tasks);
        self.ended = other.ended;
        self.forgotten = other.forgotten;
        self.forgotten_keys = other.forgotten_keys;
        self.outcomes.clone_from(&other.outcomes);
        self.attempts.clone_from(&other.attempts);
        self.keys.clone_from(&other.keys);
        self.purses.clone_from(&other.purses);
        self.day = other.day;
        self.schedules.clone_from(&other.schedules);
        self.last_schedule = other.last_schedule;
        self.acked = other.acked;
        self.epochs = other.epochs;
        self.boots = other.boots;
        self.once_acked = other.once_acked;
        self.availability = other.availability;
        self.capacities = other.capacities;
        self.accounts = other.accounts;
    }
}
