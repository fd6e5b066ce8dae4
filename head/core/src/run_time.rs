//! For how long an agent has run.
//!
//! This head counts from when it was told of the start. What an earlier head was told, it was told by
//! another clock, which may have been ahead: after a start of the head nothing is counted of the time
//! before, until the worker says how long its agent has run. An agent that has ended runs no longer,
//! however long its result is on its way.

use std::time::Duration;

use orchestra_types::{AttemptId, Timestamp, WorkerId, time::millis};

use crate::{Core, input::Held, row::State};

/// The time of an attempt whose agent was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunTime {
    /// From when on it counts.
    pub since: Timestamp,
    /// When the agent had ended; none while it runs, as far as it is known.
    pub until: Option<Timestamp>,
    /// It was said to have ended and used more after that: who says so is not believed again.
    pub doubted: bool,
}

impl RunTime {
    /// Of an agent that runs from now on, or of which nothing else is known yet.
    pub fn begins(now: Timestamp) -> Self {
        Self {
            since: now,
            until: None,
            doubted: false,
        }
    }

    /// How long it has run by now.
    pub fn so_far(&self, now: Timestamp) -> Duration {
        self.until.unwrap_or(now).min(now).since(self.since)
    }

    /// It has run for so long by now, but nothing before `not_before` counts.
    fn has_run(&mut self, now: Timestamp, ran: Duration, not_before: Timestamp) {
        let began = Timestamp(now.0.saturating_sub(millis(ran))).max(not_before);
        if !mutated!(RunForgottenByStart) {
            self.since = self.since.min(began);
        }
    }

    /// It began then and has ended after so long, but nothing before `not_before` counts.
    fn ended(&mut self, now: Timestamp, began: Timestamp, ran: Duration, not_before: Timestamp) {
        self.since = self.since.min(began.max(not_before));
        let until = began.plus(ran).min(now);
        if !self.doubted {
            self.until.get_or_insert(until);
        }
    }
}

impl Core {
    /// A worker is back and says for how long its agents have run. Those of which it is known now.
    pub(crate) fn hear_run_times(
        &mut self,
        now: Timestamp,
        id: &WorkerId,
        held: &[Held],
    ) -> Vec<AttemptId> {
        let its_own = held
            .iter()
            .filter(|held| self.holder(held.attempt) == Some(id));
        let told = its_own.filter_map(|held| Some((held.attempt, held.running?)));
        let told: Vec<(AttemptId, Duration)> = told.collect();
        for (attempt, ran) in &told {
            self.hear_it_goes_on(now, *attempt, false);
            self.hear_run_time(now, *attempt, *ran);
        }
        told.into_iter().map(|(attempt, _)| attempt).collect()
    }

    /// The agent of an attempt that is held has run for so long in all.
    pub(crate) fn hear_run_time(&mut self, now: Timestamp, attempt: AttemptId, ran: Duration) {
        let Some((ran, not_before)) = self.countable(attempt, ran) else {
            return;
        };
        self.change_run_times(now, attempt, |time, earliest| {
            time.has_run(now, ran, not_before.max(earliest));
        });
    }

    /// Nobody says how long an attempt ran that was started before this head was: it ran as long as the
    /// earlier one is known to have been there.
    pub(crate) fn suppose_run_time(&mut self, now: Timestamp, attempt: AttemptId) {
        let task = self.tasks.get(&attempt.task);
        let time = self.overdue.run_time(attempt.task);
        let (Some(task), Some(time)) = (task, time) else {
            return;
        };
        let at = task.held_since().unwrap_or(time.since);
        let before = self.known_until.min(time.since).since(at);
        let counted = task.counted().unwrap_or_default().time;
        if at < time.since && !before.is_zero() {
            let ran = counted
                .saturating_add(before)
                .saturating_add(time.so_far(now));
            self.hear_run_time(now, attempt, ran);
        }
    }

    /// The agent of an attempt that is held has ended after so long. Its result is on its way.
    pub(crate) fn hear_run_ended(&mut self, now: Timestamp, attempt: AttemptId, ran: Duration) {
        let Some((ran, told)) = self.countable(attempt, ran) else {
            return;
        };
        let began = match told {
            Timestamp(0) => Timestamp(now.0.saturating_sub(millis(ran))),
            told => told,
        };
        self.change_run_times(now, attempt, |time, earliest| {
            time.ended(now, began, ran, earliest);
        });
    }

    /// An agent was said to have ended, and goes on. One that has used more since is `doubted`.
    pub(crate) fn hear_it_goes_on(&mut self, now: Timestamp, attempt: AttemptId, doubted: bool) {
        let time = self.overdue.run_time(attempt.task);
        let has_ended = time.is_some_and(|time| time.until.is_some());
        if has_ended && self.countable(attempt, Duration::ZERO).is_some() {
            self.change_run_times(now, attempt, |time, _| {
                time.until = None;
                time.doubted |= doubted;
            });
        }
    }

    /// What counts of a time that the worker of a running attempt says: not what was counted before it
    /// was given up and taken back, and nothing before its start was told, where that was by this clock.
    fn countable(&self, attempt: AttemptId, ran: Duration) -> Option<(Duration, Timestamp)> {
        let task = self.tasks.get(&attempt.task)?;
        let at = match &task.row.state {
            State::Running {
                at,
                attempt: number,
                ..
            } if *number == attempt.number => *at,
            State::Blocked
            | State::Queued { .. }
            | State::Assigned { .. }
            | State::Running { .. }
            | State::Closing { .. }
            | State::Ended { .. } => return None,
        };
        let since = self.overdue.run_time(attempt.task)?.since;
        let not_before = Some(at).filter(|at| *at <= since).unwrap_or_default();
        let counted = task.counted().unwrap_or_default().time;
        Some((ran.saturating_sub(counted), not_before))
    }

    /// Changes the time of a running attempt everywhere it counts; each place counts from some moment on.
    fn change_run_times(
        &mut self,
        now: Timestamp,
        attempt: AttemptId,
        change: impl Fn(&mut RunTime, Timestamp),
    ) {
        let looked_at = self.overdue.looked_at(attempt.task);
        self.overdue
            .change_run_time(attempt.task, |time| change(time, Timestamp(0)));
        self.change_ledgers(attempt, change);
        // A moment that has come is looked at anyway: one that was missed shows that the head was away.
        if looked_at.is_some_and(|at| at > now) {
            self.rewind(attempt.task);
            self.overdue.not_before(attempt.task, now);
        }
    }
}
