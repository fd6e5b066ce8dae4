//! A task that waits too long for its first attempt to begin: `queue_timeout`.
//!
//! It waits in the queue, and also at a worker where it was given more than that can run. There the
//! head cannot know whether it has begun, so its attempt is called back when its time is over. One
//! that has begun goes on. One that was given back has not, and ends as if it had never left the
//! queue. When a worker is away that holds one, its lease decides, and nothing is ended before.
//!
//! ```text
//!                     over                     given back
//!   Queued ─► Assigned ───► called back ─┬──────────────────► Queued ─► Ended: queue_timeout
//!     │ over                             └─ has begun ─► Running
//!     └─► Ended: queue_timeout
//! ```

use std::collections::{BTreeMap, BTreeSet};

use orchestra_types::{
    AttemptId, Failure, FailureCode, RunnerName, TaskId, Timestamp, WorkerId, time::Words,
};

use crate::{
    Calendar, Core, Step,
    overdue::MISSED,
    queue::Requirement,
    retract::Waiting,
    row::{EndStatus, State},
    task::Task,
    view::Link,
    worker::Worker,
};

/// How a task has waited so far for its first attempt to begin, where that has an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// It may wait until then. A moment that is past was missed, because the head was away.
    Until(Timestamp),
    /// It has waited too long, at a worker.
    TooLong,
}

impl Task {
    /// Since when it waits for its first attempt to begin, by the wall clock, if that has an end.
    pub fn waits_since(&self) -> Option<Timestamp> {
        self.row.facts.timing.queue_timeout?;
        let known = self.row.last.as_ref().and_then(|last| last.waits_since);
        let known = known.filter(|_| !mutated!(WaitForgottenByCall));
        match &self.row.state {
            State::Queued { not_before, .. } => {
                let first = self.row.attempts == 0 || mutated!(QueueTimeoutOfRetries);
                known.or(Some(*not_before).filter(|_| first))
            }
            State::Assigned { .. } => known,
            State::Blocked
            | State::Running { .. }
            | State::Closing { .. }
            | State::Ended { .. } => None,
        }
    }

    /// When it has waited too long for its first attempt to begin.
    pub fn wait_ends(&self, calendar: Calendar, now: Timestamp) -> Option<Timestamp> {
        let limit = self.row.facts.timing.queue_timeout?;
        let since = calendar.steady(self.waits_since()?);
        let not_before = calendar.steady(self.wait().not_before);
        // By a clock that was ahead it may seem to wait from later on.
        let begins = match not_before > now {
            true => not_before,
            false => since.min(now),
        };
        Some(begins.plus(limit))
    }

    /// It comes into this state. What never began and comes into the queue anew, by a person or when what
    /// it comes after is over, waits from then on.
    pub fn wait_anew(&mut self, state: &State) {
        let State::Queued { not_before, .. } = state else {
            return;
        };
        match &self.row.state {
            State::Blocked | State::Ended { .. } => {
                let last = self.row.last.as_mut();
                let since = last.and_then(|last| last.waits_since.as_mut());
                since.into_iter().for_each(|since| *since = *not_before);
            }
            State::Queued { .. }
            | State::Assigned { .. }
            | State::Running { .. }
            | State::Closing { .. } => {}
        }
    }
}

impl Core {
    /// A task has come into another state. Where it goes on to wait for its first attempt, its time goes
    /// on as well; to be given to a worker and called back makes it no longer.
    pub(crate) fn go_on_waiting(&mut self, now: Timestamp, id: TaskId, waited: Option<Waited>) {
        let (Some(waited), Some(_)) = (waited, self.overdue.wait_of(id)) else {
            return;
        };
        let could_run = self.tasks.get(&id).is_some_and(|task| {
            let not_before = task.wait().not_before;
            not_before <= self.wall(now)
        });
        if !could_run || mutated!(WaitForgottenByCall) {
            return;
        }
        self.overdue.set_wait(
            id,
            Some(match waited {
                Waited::Until(due) => due,
                Waited::TooLong => now,
            }),
        );
    }

    /// A task that was given back waits for its time to start again, since somebody set the wall clock
    /// back: it waits for a worker only from then on.
    pub(crate) fn wait_for_start(&mut self, now: Timestamp, id: TaskId, queued: &State) {
        let wall = self.wall(now);
        let State::Queued { not_before, .. } = queued else {
            return;
        };
        let task = self.tasks.get_mut(&id).filter(|_| *not_before > wall);
        let last = task.and_then(|task| task.row.last.as_mut());
        if let Some(since) = last.and_then(|last| last.waits_since.as_mut()) {
            *since = *not_before;
        }
    }

    /// The wall clock was set: tasks whose time is still to come by the earlier of both readings wait
    /// for a worker from then on, or from now when it has come with that.
    pub(crate) fn rewind_waits(&mut self, now: Timestamp, earlier: Timestamp) {
        let waits: Vec<TaskId> = self.overdue.waiting().collect();
        for id in waits {
            let Some(task) = self.tasks.get(&id) else {
                continue;
            };
            let limit = task.row.facts.timing.queue_timeout.unwrap_or_default();
            let not_before = task.wait().not_before;
            if not_before > earlier && !mutated!(WaitsGrow) {
                let begins = self.calendar.steady(not_before).max(now);
                self.overdue.set_wait(id, Some(begins.plus(limit)));
            }
        }
    }

    /// A task has waited too long. At a worker it may have begun, which that one must say first.
    pub(crate) fn end_wait(&mut self, now: Timestamp, id: TaskId, step: &mut Step) {
        let task = self.tasks.get(&id).expect("timers are of known tasks");
        match &task.row.state {
            State::Assigned { worker, .. } => {
                let (attempt, worker) = (task.attempt(), worker.clone());
                self.note_late(&worker, &[attempt]);
            }
            State::Queued { .. }
            | State::Blocked
            | State::Running { .. }
            | State::Closing { .. }
            | State::Ended { .. } => {
                self.overdue.set_wait(id, None);
                self.end_waiting(now, id, step);
            }
        }
    }

    fn end_waiting(&mut self, now: Timestamp, id: TaskId, step: &mut Step) {
        let task = self.tasks.get(&id).expect("timers are of known tasks");
        let limit = task.row.facts.timing.queue_timeout.unwrap_or_default();
        let requirement = Requirement::of(&task.row.facts);
        if let Some(lease_ends) = self.awaited_until(now, &requirement) {
            // It has waited for nobody so far.
            let again = now.plus(limit.max(MISSED)).min(lease_ends);
            self.overdue.set_wait(id, Some(again));
            return;
        }
        let kept = self.kept_by(task, &requirement);
        let why = format!("no worker took it within {}{kept}", Words(limit));
        let reason = Failure::new(FailureCode::QueueTimeout, why);
        self.end(now, id, EndStatus::Failed, Some(reason), step);
    }

    /// Until when a worker may come back that was not heard since the head was started, and that could do
    /// what requires this.
    fn awaited_until(&self, now: Timestamp, requirement: &Requirement) -> Option<Timestamp> {
        let ends = |worker: &Worker| worker.lease_ends.filter(|ends| *ends > now);
        let away = |worker: &Worker| !worker.heard && !mutated!(WaitEndsBeforeReturn);
        let mut away = self.workers.values().filter(|w| away(w)).peekable();
        away.peek()?;
        let parked = self.parked_for(requirement);
        let away = away.filter(|worker| self.could_do(worker, requirement, &parked));
        away.filter_map(ends).max()
    }

    /// Attempts of a worker whose tasks have waited too long are to be called back, when they wait there.
    pub(crate) fn note_late(&mut self, id: &WorkerId, attempts: &[AttemptId]) {
        let late = |attempt: &&AttemptId| self.is_late(attempt.task);
        let late: Vec<AttemptId> = attempts.iter().filter(late).copied().collect();
        let worker = self.workers.get_mut(id).filter(|_| !late.is_empty());
        if let Some(worker) = worker {
            worker.late.extend(late);
            self.late.insert(id.clone());
        }
    }

    fn is_late(&self, id: TaskId) -> bool {
        self.overdue.waited(id) == Some(Waited::TooLong)
    }

    /// Calls back what waits at these workers and has waited too long.
    pub(crate) fn call_back_late(&mut self, at: &BTreeSet<WorkerId>, step: &mut Step) {
        at.iter().for_each(|id| self.call_back_late_at(id, step));
    }

    fn call_back_late_at(&mut self, id: &WorkerId, step: &mut Step) {
        let worker = self.workers.get(id).filter(|w| !w.late.is_empty());
        let found = worker.map_or_else(Vec::new, |worker| self.late_at(worker));
        if found.is_empty() || mutated!(LateWaitsAhead) {
            return;
        }
        if let Some(worker) = self.workers.get_mut(id) {
            for (_, attempt) in &found {
                worker.late.remove(attempt);
            }
        }
        self.call_back(id, found, step);
    }

    /// What is late at a worker and may wait there, or comes behind what waits there for the same runner. The
    /// worker knows better, and keeps what it has begun.
    fn late_at(&self, worker: &Worker) -> Vec<Waiting> {
        let connection = match worker.link {
            Link::Connected(connection) => connection,
            Link::Disconnected | Link::Lost => return Vec::new(),
        };
        // Of each runner, the first order that waits.
        let mut first: BTreeMap<&RunnerName, u64> = BTreeMap::new();
        let ahead = self.ordered_ahead(worker);
        for order in ahead
            .iter()
            .filter_map(|attempt| worker.attempts.get(attempt))
        {
            let first = first.entry(&order.runner).or_insert(order.place);
            *first = order.place.min(*first);
        }
        let waits = |attempt: &AttemptId| {
            let order = worker.attempts.get(attempt);
            let first = order.and_then(|order| first.get(&order.runner));
            order
                .zip(first)
                .is_some_and(|(order, first)| order.place >= *first)
                && self.may_wait(worker, *attempt)
                && self.is_late(attempt.task)
        };
        let late = worker.late.iter().copied().filter(waits);
        late.map(|attempt| (connection, attempt)).collect()
    }
}
