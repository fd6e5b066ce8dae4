//! Attempts that wait at a worker beyond its slots can be called back before they begin: when
//! another worker has nothing to do, and when theirs is given nothing new. No attempt is charged.

use orchestra_types::{AttemptId, Failure, FailureCode, RunnerName, Timestamp, WorkerId};

use crate::{
    Core, Step,
    change::Change,
    message::Message,
    queue::Requirement,
    row::{Availability, OutcomeRow, State},
    view::Link,
    worker::Worker,
};

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
    /// has room, or all that waits at a worker which is to have nothing new.
    pub(crate) fn call_back_for(&mut self, id: &WorkerId, step: &mut Step) {
        let Some(worker) = self.workers.get(id).filter(|_| !self.ahead.is_empty()) else {
            return;
        };
        let found = match worker.row.availability {
            Availability::Open => self.fitting(id, worker),
            Availability::Cordoned | Availability::Draining => self.waiting_at(worker).collect(),
        };
        for (connection, attempt) in found {
            self.called_back.insert(attempt, id.clone());
            step.messages.push(Message::Retract {
                connection,
                attempt,
            });
        }
    }

    /// What waits elsewhere and would run here at once, as much as there is room for.
    fn fitting(&self, id: &WorkerId, worker: &Worker) -> Vec<(crate::ConnectionId, AttemptId)> {
        let expected = self.called_back.values().filter(|known| *known == id);
        let room = (worker.free_slots() as usize).saturating_sub(expected.count());
        if room == 0 || !worker.can_take() {
            return Vec::new();
        }
        let others = self.ahead.iter().filter(|other| *other != id);
        let others = others.filter_map(|other| self.workers.get(other));
        let waiting = others.flat_map(|other| self.waiting_at(other));
        let fits = waiting.filter(|(_, attempt)| {
            let facts = self.tasks.get(&attempt.task).map(|task| &task.row.facts);
            facts.is_some_and(|facts| {
                let requirement = Requirement::of(facts);
                let mut runners = worker.row.info.runners.iter().enumerate();
                worker.suits(&requirement)
                    && runners.any(|(place, runner)| {
                        requirement.wants(runner, &self.parked)
                            && worker.is_idle(place)
                            && self.has_room(worker, place)
                    })
            })
        });
        fits.take(room).collect()
    }

    /// The attempts that most likely wait at a worker: the latest ones that are not begun, as many
    /// as it holds too many. It knows better, and keeps what it has begun.
    fn waiting_at(
        &self,
        worker: &Worker,
    ) -> impl Iterator<Item = (crate::ConnectionId, AttemptId)> {
        let connection = match worker.link {
            Link::Connected(connection) => Some(connection),
            Link::Disconnected | Link::Lost => None,
        };
        let latest = worker.attempts.iter().rev();
        let waits = latest.filter(|(attempt, runner)| self.may_wait(worker, **attempt, runner));
        let waits = waits.take(worker.waiting() as usize);
        waits.filter_map(move |(attempt, _)| Some((connection?, *attempt)))
    }

    fn may_wait(&self, worker: &Worker, attempt: AttemptId, runner: &RunnerName) -> bool {
        let state = self.tasks.get(&attempt.task).map(|task| &task.row.state);
        matches!(state, Some(State::Assigned { .. }))
            && worker.prefetches(runner)
            && !self.called_back.contains_key(&attempt)
    }

    /// An attempt that was not begun goes back into the queue.
    pub(crate) fn on_given_back(&mut self, now: Timestamp, attempt: AttemptId, step: &mut Step) {
        let message = "called back before it began: another worker takes the task";
        let row = OutcomeRow {
            id: attempt,
            at: now,
            result: Err(Failure::new(FailureCode::Cancelled, message)),
        };
        step.changes.push(Change::Outcome(Box::new(row)));
        let task = self.tasks.get(&attempt.task).expect("the attempt is held");
        if task.row.cancel_requested {
            let reason = crate::cancel::cancelled("cancelled before it was started");
            let ended = crate::EndStatus::Cancelled;
            return self.end(now, attempt.task, ended, Some(reason), step);
        }
        let queued = State::queued(now, task.row.created_at, &task.row.facts);
        self.set_state(now, attempt.task, queued, step);
    }
}
