//! What takes too long: to find a worker, to run, to be heard of.
//!
//! A worker enforces an attempt's timeout by itself, and the head only steps in some time later.
//! Silence is not death: it is noted, and ends an attempt only where the task says so. Whoever
//! does not end an attempt that he was told to end leaves it to a person, for it may still run.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use orchestra_types::{AttemptId, Failure, FailureCode, TaskId, Timestamp};

use crate::{
    Core, Step,
    change::Change,
    message::{Message, StopReason},
    queue_timeout::Waited,
    row::{EndStatus, OutcomeRow, State, Timing},
    run_time::RunTime,
};

/// A moment that passed longer ago than this was missed because the head itself was away: it
/// cannot tell who was silent meanwhile, nor who would have ended what he was told to end.
pub(crate) const MISSED: Duration = Duration::from_secs(1);

/// The clocks of tasks.
#[derive(Debug, Default)]
pub(crate) struct Overdue {
    /// When each task is looked at next; at most one moment for each.
    timers: BTreeSet<(Timestamp, TaskId)>,
    /// Tasks that wait for their first attempt to begin, where that has an end, as they stand among the
    /// timers: whoever sets the wall clock makes no wait longer or shorter. One that was over while its
    /// task was at a worker stands here only.
    waits: BTreeMap<TaskId, Timestamp>,
    /// Attempts that run.
    watches: BTreeMap<TaskId, Watch>,
}

/// The clock of an attempt that runs.
#[derive(Debug)]
struct Watch {
    /// For how long its agent has run.
    time: RunTime,
    /// The last sign of life of its agent.
    active: Timestamp,
    /// Whether its silence was noted.
    silent: bool,
    /// Why and when its worker was told to end it.
    stopping: Option<(StopReason, Timestamp)>,
    /// As it stands among the timers.
    timer: Timestamp,
}

/// What follows from a look at an attempt.
#[derive(Default)]
struct Found {
    changed: bool,
    stop: Option<StopReason>,
    give_up: Option<StopReason>,
}

impl Overdue {
    /// When `Core::end_overdue` has something to do next.
    pub fn next(&self) -> Option<Timestamp> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Why a worker was told to end an attempt that still runs.
    pub fn stopping(&self, id: TaskId) -> Option<StopReason> {
        let (reason, _) = self.watches.get(&id)?.stopping?;
        Some(reason)
    }

    /// For how long the agent of a running attempt has run.
    pub fn run_time(&self, id: TaskId) -> Option<RunTime> {
        Some(self.watches.get(&id)?.time)
    }

    pub fn change_run_time(&mut self, id: TaskId, change: impl FnOnce(&mut RunTime)) {
        if let Some(watch) = self.watches.get_mut(&id) {
            change(&mut watch.time);
        }
    }

    /// When an attempt that runs is looked at next.
    pub fn looked_at(&self, id: TaskId) -> Option<Timestamp> {
        Some(self.watches.get(&id)?.timer)
    }

    /// The moment at which a task is looked at next is not in the past: that is how one looks that was missed
    /// because the head was away.
    pub fn not_before(&mut self, id: TaskId, now: Timestamp) {
        if self.watches.get(&id).is_some_and(|watch| watch.timer < now) {
            self.set(id, now);
        }
    }

    /// Since when nothing was heard of an agent whose silence was noted.
    pub fn silent_since(&self, id: TaskId) -> Option<Timestamp> {
        let watch = self.watches.get(&id)?;
        watch.silent.then_some(watch.active)
    }

    /// When a task has waited too long.
    pub fn wait_of(&self, id: TaskId) -> Option<Timestamp> {
        self.waits.get(&id).copied()
    }

    /// The same, to be kept.
    pub fn set_wait(&mut self, id: TaskId, due: Option<Timestamp>) {
        let old = match due {
            Some(due) => self.waits.insert(id, due),
            None => self.waits.remove(&id),
        };
        if let Some(old) = old {
            self.timers.remove(&(old, id));
        }
        if let Some(due) = due {
            self.timers.insert((due, id));
        }
    }

    /// When a task has waited too long, and whether that was over while it was at a worker.
    pub fn waited(&self, id: TaskId) -> Option<Waited> {
        let due = self.wait_of(id)?;
        Some(match self.timers.contains(&(due, id)) {
            true => Waited::Until(due),
            false => Waited::TooLong,
        })
    }

    /// The tasks whose wait has an end.
    pub fn waiting(&self) -> impl Iterator<Item = TaskId> {
        self.waits.keys().copied()
    }

    /// The head was away: who was silent meanwhile is not, and who was to end has all his time again. No worker
    /// that is `back_by` then could take what has waited too long meanwhile.
    pub fn excuse(&mut self, now: Timestamp, back_by: Timestamp) {
        self.excuse_waits(back_by);
        for watch in self.watches.values_mut() {
            watch.active = now;
            if let Some((_, asked)) = &mut watch.stopping
                && !mutated!(GivenUpAfterSleep)
            {
                *asked = now;
            }
        }
    }

    /// No wait for a worker ends before this.
    pub fn excuse_waits(&mut self, until: Timestamp) {
        if mutated!(WaitEndsWhileAway) {
            return;
        }
        let early = self.waits.iter().filter(|(_, due)| **due < until);
        let early: Vec<TaskId> = early.map(|(id, _)| *id).collect();
        for id in early {
            self.set_wait(id, Some(until));
        }
    }

    fn set(&mut self, id: TaskId, timer: Timestamp) {
        if let Some(watch) = self.watches.get_mut(&id) {
            self.timers.remove(&(watch.timer, id));
            watch.timer = timer;
            self.timers.insert((timer, id));
        }
    }
}

impl Core {
    /// Starts the clock of a task that has come into its state.
    pub(crate) fn watch(&mut self, now: Timestamp, id: TaskId) {
        let Some(task) = self.tasks.get(&id) else {
            return;
        };
        match &task.row.state {
            State::Queued { .. } | State::Assigned { .. } => {
                let ends = task.wait_ends(self.calendar, now);
                if let Some(due) = ends.filter(|_| !mutated!(QueueTimeoutIgnored)) {
                    self.overdue.set_wait(id, Some(due));
                }
            }
            State::Running { .. } => {
                let began = match mutated!(RunByOldClock) {
                    true => task.held_since().unwrap_or(now),
                    false => now,
                };
                let watch = Watch {
                    time: RunTime::begins(began),
                    active: now,
                    silent: false,
                    stopping: None,
                    timer: Timestamp(u64::MAX),
                };
                self.overdue.watches.insert(id, watch);
                self.rewind(id);
            }
            State::Blocked | State::Closing { .. } | State::Ended { .. } => {}
        }
    }

    /// Stops the clock of a task that leaves its state.
    pub(crate) fn unwatch(&mut self, id: TaskId) {
        if let Some(watch) = self.overdue.watches.remove(&id) {
            self.overdue.timers.remove(&(watch.timer, id));
        } else {
            self.overdue.set_wait(id, None);
        }
    }

    /// The agent of an attempt gave a sign of life.
    pub(crate) fn on_active(&mut self, now: Timestamp, attempt: AttemptId, step: &mut Step) {
        let id = attempt.task;
        let current = self.tasks.get(&id).is_some_and(|t| t.attempt() == attempt);
        let Some(watch) = self.overdue.watches.get_mut(&id).filter(|_| current) else {
            return;
        };
        if !mutated!(StallTooEarly) {
            watch.active = now;
        }
        // The timer that stands is early now; when it comes, it is set anew.
        if std::mem::take(&mut watch.silent) {
            self.rewind(id);
            step.messages.push(Message::Changed { task: id });
        }
    }

    /// Ends, stops or notes what has taken too long.
    pub(crate) fn end_overdue(&mut self, now: Timestamp, step: &mut Step) {
        if self.overdue.next().is_some_and(|at| now.since(at) > MISSED) {
            self.overdue.excuse(now, self.back_by(now));
        }
        while let Some((at, id)) = self.overdue.timers.first().copied() {
            if at > now {
                return;
            }
            self.overdue.timers.pop_first();
            if self.overdue.watches.contains_key(&id) {
                self.look_at(now, id, step);
            } else {
                self.end_wait(now, id, step);
            }
        }
    }

    /// When workers that are there are back after the head was away: by then the others are lost.
    pub(crate) fn back_by(&self, now: Timestamp) -> Timestamp {
        now.plus(self.config.lease).plus(self.config.lease_grace)
    }

    fn look_at(&mut self, now: Timestamp, id: TaskId, step: &mut Step) {
        let found = self.judge(now, id);
        if found.changed {
            step.messages.push(Message::Changed { task: id });
        }
        if let Some(reason) = found.stop {
            self.order_stop(id, reason, step);
        }
        match found.give_up {
            Some(reason) => self.give_up(now, id, reason, step),
            None => self.rewind(id),
        }
    }

    fn judge(&mut self, now: Timestamp, id: TaskId) -> Found {
        let mut found = Found::default();
        let timing = self.timing(id);
        let Some(watch) = self.overdue.watches.get_mut(&id) else {
            return found;
        };
        let has_ended = watch.time.until.is_some();
        let silence = now.since(watch.active);
        if !watch.silent && silence >= self.config.stall_notice {
            watch.silent = true;
            found.changed = true;
        }
        match watch.stopping {
            Some((reason, at)) if has_had(now.since(at), self.config.give_up_after) => {
                found.give_up = Some(reason);
            }
            Some(_) => {}
            // It takes no more time, and nobody is to end it. A result that does not come is silence.
            None if has_ended => {}
            None => {
                let limit = timing.timeout.saturating_add(self.config.timeout_margin);
                let late = watch.time.so_far(now) >= limit || mutated!(TimeoutTooEarly);
                if !timing.timeout.is_zero() && late && !mutated!(TimeoutIgnored) {
                    found.stop = Some(StopReason::Timeout);
                } else if timing.stall_timeout.is_some_and(|limit| silence >= limit)
                    && !mutated!(StallIgnored)
                {
                    found.stop = Some(StopReason::Stalled);
                }
                watch.stopping = found.stop.map(|reason| (reason, now));
            }
        }
        found
    }

    /// Sets the timer of a running attempt to the next moment that matters.
    pub(crate) fn rewind(&mut self, id: TaskId) {
        let Some(watch) = self.overdue.watches.get(&id) else {
            return;
        };
        let timing = self.timing(id);
        let notice = (!watch.silent).then(|| watch.active.plus(self.config.stall_notice));
        let asked = watch
            .stopping
            .map(|(_, at)| {
                if mutated!(GivenUpTooEarly) {
                    return at;
                }
                at.plus(self.config.give_up_after)
            })
            .filter(|_| !mutated!(NeverGivenUp));
        let open = watch.stopping.is_none() && watch.time.until.is_none();
        let limit = timing.timeout.saturating_add(self.config.timeout_margin);
        let limited = !timing.timeout.is_zero() && !mutated!(TimeoutIgnored);
        let ends = (open && limited).then(|| watch.time.since.plus(limit));
        let stalls = timing
            .stall_timeout
            .filter(|_| open && !mutated!(StallIgnored));
        let stalls = stalls.map(|limit| watch.active.plus(limit));
        let next = [notice, asked, ends, stalls].into_iter().flatten().min();
        self.overdue.set(id, next.unwrap_or(Timestamp(u64::MAX)));
    }

    fn timing(&self, id: TaskId) -> Timing {
        let task = self.tasks.get(&id).expect("watched tasks exist");
        task.row.facts.timing
    }

    /// A worker did not end an attempt. It may still run, so nothing is started in its place.
    fn give_up(&mut self, now: Timestamp, id: TaskId, reason: StopReason, step: &mut Step) {
        // What it uses from here on is not known, and counts for nothing.
        let attempt = self.tasks.get(&id).expect("watched tasks exist").attempt();
        let reading = self.last_reading(attempt);
        self.close_run(now, attempt, None, true, step);
        let task = self.tasks.get_mut(&id).expect("watched tasks exist");
        let worker = task.row.last.as_ref().map(|last| last.worker.to_string());
        let why = format!(
            "{}, and worker {} did not end it within {} s",
            reason.words(),
            worker.unwrap_or_default(),
            self.config.give_up_after.as_secs()
        );
        let failure = Failure::new(reason.code(), why);
        // A result that comes late is still kept.
        task.row.given_up |= 1;
        let row = OutcomeRow {
            id: attempt,
            at: now,
            result: Err(failure.clone()),
            reading,
        };
        step.changes.push(Change::Outcome(Box::new(row)));
        self.end(now, id, EndStatus::NeedsReview, Some(failure), step);
    }
}

/// Whether a worker has had the time to end an attempt that it is left.
fn has_had(time: Duration, left: Duration) -> bool {
    if mutated!(NeverGivenUp) {
        return false;
    }
    time >= left || mutated!(GivenUpTooEarly)
}

impl StopReason {
    /// The code of the failure that it leads to.
    #[must_use]
    pub fn code(self) -> FailureCode {
        match self {
            Self::Cancelled => FailureCode::Cancelled,
            Self::Budget => FailureCode::BudgetExceeded,
            Self::Timeout => FailureCode::Timeout,
            Self::Stalled => FailureCode::Stalled,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Cancelled => "a person cancelled it",
            Self::Budget => "a budget is used up",
            Self::Timeout => "it ran longer than its timeout",
            Self::Stalled => "nothing was heard of its agent",
        }
    }
}
