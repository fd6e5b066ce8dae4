//! Attempts that wait at a worker beyond its slots can be called back before they begin: when
//! another worker has nothing to do, when theirs is given nothing new, when something of a higher
//! level is to begin before them, and when their task has waited too long. No attempt is charged.

use std::collections::BTreeSet;

use orchestra_types::{AttemptId, Failure, FailureCode, TaskId, Timestamp, WorkerId};

use crate::{
    Core, Step,
    change::Change,
    message::Message,
    queue::Requirement,
    row::{Availability, OutcomeRow, State},
    view::Link,
    worker::{Order, Worker},
};

/// An attempt that waits at a worker, and the stream to it.
pub(crate) type Waiting = (crate::ConnectionId, AttemptId);

impl Core {
    /// Notes whether a worker holds more than it can run.
    pub(crate) fn note_ahead(&mut self, id: &WorkerId) {
        if self.workers.get(id).is_some_and(|w| w.waiting() > 0) {
            self.ahead.insert(id.clone());
        } else if !self.ahead.is_empty() {
            self.ahead.remove(id);
        }
    }

    /// Calls back what waits elsewhere for a worker that was given all that it could be and still
    /// has room, or all that waits at a worker which is to have nothing new, as none has any more before
    /// the head stops.
    pub(crate) fn call_back_for(&mut self, id: &WorkerId, step: &mut Step) {
        let Some(worker) = self.workers.get(id).filter(|_| !self.ahead.is_empty()) else {
            return;
        };
        let found = match worker.row.availability {
            Availability::Open if !self.assigning && mutated!(StopKeepsWaiting) => return,
            Availability::Open if !self.assigning => self.may_wait_at(worker),
            Availability::Open if mutated!(NotCalledBack) => return,
            Availability::Open => self.fitting(id, worker),
            Availability::Cordoned | Availability::Draining if mutated!(CordonKeepsWaiting) => {
                return;
            }
            Availability::Cordoned | Availability::Draining => self.may_wait_at(worker),
        };
        self.call_back(id, found, step);
    }

    /// Nothing is given to workers any more, and what waits at one is not to begin there.
    pub(crate) fn stop_assigning(&mut self) {
        self.assigning = false;
        for id in self.ahead.clone() {
            self.touch(&id);
        }
    }

    pub(crate) fn call_back(&mut self, id: &WorkerId, found: Vec<Waiting>, step: &mut Step) {
        for (connection, attempt) in found {
            self.called_back.insert(attempt, id.clone());
            step.messages.push(Message::Retract {
                connection,
                attempt,
            });
        }
    }

    /// What waits elsewhere, did not fail here and would run here at once, as much as there is room
    /// for.
    fn fitting(&self, id: &WorkerId, worker: &Worker) -> Vec<Waiting> {
        // What was called back from here for the sake of something else takes no room that is free.
        let comes = |(attempt, known): &(&AttemptId, &WorkerId)| {
            *known == id && !worker.attempts.contains_key(*attempt)
        };
        let expected = self.called_back.iter().filter(comes);
        let room = (worker.free_slots() as usize).saturating_sub(expected.count());
        if room == 0 || !worker.can_take() {
            return Vec::new();
        }
        let others = self.ahead.iter().filter(|other| *other != id);
        let others = others.filter_map(|other| self.workers.get(other));
        let fits = |(_, attempt): &(_, AttemptId)| {
            let facts = self.tasks.get(&attempt.task).map(|task| &task.row.facts);
            facts.is_some_and(|facts| {
                let requirement = Requirement::of(facts);
                let mut runners = worker.row.info.runners.iter().enumerate();
                worker.suits(&requirement)
                    && (!self.failed_on(attempt.task, id) || mutated!(CalledBackToFailed))
                    && runners.any(|(place, runner)| {
                        requirement.wants(runner, &self.parked)
                            && worker.is_idle(place)
                            && self.has_room(worker, place)
                    })
            })
        };
        let fits = others.flat_map(|other| {
            let called = other.attempts.keys();
            let called = called.filter(|attempt| self.called_back.contains_key(attempt));
            let most = (other.waiting() as usize).saturating_sub(called.count());
            self.may_wait_at(other).into_iter().filter(fits).take(most)
        });
        let most = if mutated!(CalledBackTooMuch) {
            usize::MAX
        } else {
            room
        };
        fits.take(most).collect()
    }

    /// What may wait at a worker that holds more than it can run, the latest order first: that one
    /// waits most likely. The worker knows better, and keeps what it has begun.
    fn may_wait_at(&self, worker: &Worker) -> Vec<(crate::ConnectionId, AttemptId)> {
        let connection = match worker.link {
            Link::Connected(connection) if worker.waiting() > 0 => connection,
            Link::Connected(_) | Link::Disconnected | Link::Lost => return Vec::new(),
        };
        let mut waits = worker.orders();
        waits.retain(|attempt| self.may_wait(worker, *attempt));
        if !mutated!(FirstCalledBack) {
            waits.reverse();
        }
        let waits = waits.into_iter();
        waits.map(|attempt| (connection, attempt)).collect()
    }

    /// Whether an attempt may wait at its worker, and was not called back.
    pub(crate) fn may_wait(&self, worker: &Worker, attempt: AttemptId) -> bool {
        let order = worker.attempts.get(&attempt);
        order.is_some_and(|order| worker.prefetches(&order.runner))
            && self.is_unbegun(attempt)
            && !self.called_back.contains_key(&attempt)
    }

    /// A call that led to nothing: who has room for the attempt is to be given something else. Its
    /// worker may have something to do by now, and somebody else not.
    pub(crate) fn uncall(&mut self, attempt: AttemptId) {
        if let Some(idle) = self.called_back.remove(&attempt)
            && !mutated!(CallUnanswered)
        {
            self.touch(&idle);
            self.ask_idle();
        }
    }

    /// A worker has a new stream. What was called back on an older one may not have arrived.
    pub(crate) fn ask_again(&mut self, id: &WorkerId) {
        let held = self
            .workers
            .get(id)
            .into_iter()
            .flat_map(|w| w.attempts.keys());
        let held: Vec<AttemptId> = held.copied().collect();
        if !mutated!(CallNotRepeated) {
            held.iter().for_each(|attempt| self.uncall(*attempt));
            self.note_late(id, &held);
        }
        self.ask_if_ahead(id);
    }

    /// A worker describes itself: it may hold more than it can run now.
    pub(crate) fn ask_if_ahead(&mut self, id: &WorkerId) {
        self.note_ahead(id);
        if self.ahead.contains(id) {
            self.ask_idle();
            self.queue.rise_all();
        }
    }

    /// Something else than a start made attempts wait, or makes room for some that wait: workers
    /// with nothing else to do are asked again.
    pub(crate) fn ask_idle(&mut self) {
        if self.ahead.is_empty() {
            return;
        }
        let idle = self.workers.iter();
        let idle = idle.filter(|(_, worker)| worker.can_take() && worker.free_slots() > 0);
        let idle: Vec<WorkerId> = idle.map(|(id, _)| id.clone()).collect();
        idle.iter().for_each(|id| self.touch(id));
    }

    /// An attempt that was not begun goes back into the queue.
    pub(crate) fn on_given_back(&mut self, now: Timestamp, attempt: AttemptId, step: &mut Step) {
        if mutated!(GivenBackLost) {
            return;
        }
        // Nothing was used.
        self.drop_run(attempt);
        let task = self
            .tasks
            .get_mut(&attempt.task)
            .expect("the attempt is held");
        let cancelled = task.row.cancel_requested && !mutated!(GivenBackCancelForgotten);
        let row = OutcomeRow {
            id: attempt,
            at: now,
            result: Err(Failure::new(FailureCode::Cancelled, words(cancelled))),
            reading: None,
        };
        step.changes.push(Change::Outcome(Box::new(row)));
        task.row.failures += u32::from(mutated!(GivenBackCharged));
        if cancelled {
            let reason = crate::cancel::before_start(task.row.reason.as_deref());
            let ended = crate::EndStatus::Cancelled;
            return self.end(now, attempt.task, ended, Some(reason), step);
        }
        self.wait_on(now, attempt.task, step);
    }

    /// What waited at a worker goes on to wait in the queue, in its place there.
    pub(crate) fn wait_on(&mut self, now: Timestamp, id: TaskId, step: &mut Step) {
        let task = self.tasks.get(&id).expect("its attempt is held");
        let queued = State::queued(self.calendar, now, task.row.created_at, &task.row.facts);
        self.wait_for_start(now, id, &queued);
        self.set_state(now, id, queued, step);
    }

    /// What a worker cannot have begun, as far as is known here: its slots are taken by what it was given
    /// before. It begins its orders one after the other, but may have begun more since it was heard last.
    pub(crate) fn ordered_ahead(&self, worker: &Worker) -> BTreeSet<AttemptId> {
        if worker.waiting() == 0 {
            return BTreeSet::new();
        }
        let mut slots = worker.slots();
        let mut unbegun: Vec<(&Order, AttemptId)> = Vec::new();
        for (attempt, order) in &worker.attempts {
            match worker.prefetches(&order.runner) && self.is_unbegun(*attempt) {
                true => unbegun.push((order, *attempt)),
                false => slots.occupy(&order.runner),
            }
        }
        if !mutated!(OrdersByNumber) {
            unbegun.sort_unstable_by_key(|(order, _)| order.place);
        }
        unbegun.retain(|(order, _)| !slots.take(&order.runner));
        unbegun.into_iter().map(|(_, attempt)| attempt).collect()
    }

    /// Whether nobody has said that an attempt runs.
    fn is_unbegun(&self, attempt: AttemptId) -> bool {
        self.ordered_at(attempt).is_some()
    }

    /// When an attempt was ordered that nobody has said to run.
    fn ordered_at(&self, attempt: AttemptId) -> Option<Timestamp> {
        match &self.tasks.get(&attempt.task)?.row.state {
            State::Assigned { at, .. } => Some(*at),
            State::Blocked
            | State::Queued { .. }
            | State::Running { .. }
            | State::Closing { .. }
            | State::Ended { .. } => None,
        }
    }

    /// After a start orders stand as they were given, for all that their rows say.
    pub(crate) fn restore_order(&mut self) {
        let workers: Vec<WorkerId> = self.workers.keys().cloned().collect();
        for id in workers
            .into_iter()
            .filter(|_| !mutated!(OrderForgottenByStart))
        {
            let held = self.workers.get(&id).map_or_else(Vec::new, Worker::orders);
            let mut held: Vec<_> = held.into_iter().map(|a| (self.ordered_at(a), a)).collect();
            held.sort_unstable();
            if let Some(worker) = self.workers.get_mut(&id) {
                worker.put_in_order(held.into_iter().map(|(_, attempt)| attempt));
            }
        }
    }
}

/// What is said of an attempt that was given back: because it was called back, its task was cancelled, or its
/// worker had no room for it. Which worker the task goes to is not known yet.
fn words(cancelled: bool) -> &'static str {
    match cancelled {
        true => "given back before it began: the task was cancelled",
        false => "given back before it began: the task is queued again",
    }
}
