//! Retries go to another worker than the one that failed, while there is one.
//!
//! A failed or lost attempt makes its task avoid that worker for as long again as the retry waits
//! for its backoff. In that time it is given to another worker that could do it: alive (its lease
//! has not ended), open, with the labels, a wanted runner that is ready, and an account that is not
//! parked. Where there is none, or when the time is over, any worker will do, the avoided one last.
//! So it never waits longer for another worker than it had to wait anyway.
//!
//! An attempt that never began through its worker's doing (no workspace, no CLI, no room, nobody logged in)
//! says nothing of the task: where another worker could do it, it goes on there at once and is not charged.
//! It waits longer for it, since a worker that fails everything at once is the one that is always free.

use std::{collections::BTreeSet, time::Duration};

use orchestra_types::{AttemptId, Failure, Outcome, RunnerName, TaskId, Timestamp, WorkerId};

use crate::{
    Core, Step,
    queue::{ClassNo, Requirement},
    row::{Availability, Avoids, Ending, State},
    view::Link,
    worker::Worker,
};

impl Core {
    /// Notes that a task failed on the worker of its latest attempt. Its retry may go back there
    /// `wait` after it could start as `queued`.
    pub(crate) fn avoid_worker(&mut self, id: TaskId, queued: &State, wait: Duration) {
        let not_before = match queued {
            State::Queued { not_before, .. } => *not_before,
            State::Blocked
            | State::Assigned { .. }
            | State::Running { .. }
            | State::Closing { .. }
            | State::Ended { .. } => return,
        };
        let task = self.tasks.get_mut(&id);
        if let Some(last) = task.and_then(|task| task.row.last.as_mut()) {
            last.avoids = Some(Avoids {
                worker: last.worker.clone(),
                until: not_before.plus(wait),
            });
        }
    }

    /// Whether an attempt says nothing of its task, and another worker could do that: it never began,
    /// through its worker's doing.
    pub(crate) fn moves_on(&self, attempt: AttemptId, outcome: &Outcome) -> bool {
        let Some(task) = self.tasks.get(&attempt.task) else {
            return false;
        };
        let row = &task.row;
        let may = row.moved() < self.config.moved_max || mutated!(MovesForEver);
        if outcome.untried().is_none() || row.cancel_requested || !may || mutated!(NeverMoves) {
            return false;
        }
        let requirement = Requirement::of(&row.facts);
        let parked = self.parked_for(&requirement);
        let here = task.holder(attempt.number);
        let mut others = self.workers.values();
        others.any(|worker| {
            let other = here != Some(&worker.row.info.id) || mutated!(MovesAlone);
            other && self.could_do(worker, &requirement, &parked)
        })
    }

    /// What follows for a task that goes on to another worker. Counts it.
    pub(crate) fn elsewhere(&mut self, id: TaskId, failure: &Failure) -> Ending {
        let mut reason = failure.clone();
        let row = self.tasks.get_mut(&id).map(|task| &mut task.row);
        if let Some(last) = row.and_then(|row| row.last.as_mut()) {
            last.moved += 1;
            let worker = self.workers.get(&last.worker);
            let name = worker.map_or("its worker", |worker| worker.row.info.name.as_str());
            reason.message = format!("it could not begin on {name}: {}", failure.message);
        }
        Ending::Elsewhere {
            reason: Box::new(reason),
        }
    }

    /// Puts a task back into the queue for another worker.
    pub(crate) fn move_on(&mut self, now: Timestamp, id: TaskId, reason: Failure, step: &mut Step) {
        let task = self.tasks.get_mut(&id).expect("the caller looked it up");
        task.row.reason = Some(Box::new(reason));
        let queued = State::queued(self.calendar, now, task.row.created_at, &task.row.facts);
        if !mutated!(MovesBack) {
            self.avoid_worker(id, &queued, self.config.moved_for);
        }
        self.set_state(now, id, queued, step);
    }

    /// Tasks that have waited long enough for another worker go to any.
    pub(crate) fn settle_for_any(&mut self, now: Timestamp) {
        if mutated!(AvoidsForEver) {
            return;
        }
        while let Some(id) = self.queue.pop_settling(self.wall(now)) {
            let task = self.tasks.get(&id).expect("queued tasks exist");
            self.queue.remove(id, task.place, task.wait());
            self.enqueue(now, id);
        }
    }

    /// Finds out for which tasks there is another worker than the avoided one. Asked again when
    /// workers or accounts are others than before; it costs one look at a worker for each kind of
    /// task that avoids one, as long as the other worker that was found stays.
    pub(crate) fn look_elsewhere(&mut self) {
        if !std::mem::take(&mut self.others_moved) && !self.queue.has_unsettled() {
            return;
        }
        let found: Vec<(ClassNo, Option<WorkerId>)> = self
            .queue
            .avoiding()
            .map(|(class, known)| (class, self.other_for(class, known)))
            .collect();
        for (class, other) in found {
            let avoided = self.queue.requirement(class).not_on.clone();
            if self.queue.set_other(class, other)
                && let Some(avoided) = avoided
            {
                if let Some(worker) = self.workers.get_mut(&avoided) {
                    worker.unlearn();
                }
                self.touch(&avoided);
            }
        }
    }

    /// A worker that could do a class and is not the one that it avoids; the known one if it still
    /// could.
    fn other_for(&self, class: ClassNo, known: Option<&WorkerId>) -> Option<WorkerId> {
        if mutated!(FailedOnAgain) {
            return None;
        }
        let requirement = self.queue.requirement(class);
        let known = known.and_then(|id| self.workers.get(id));
        let others = known.into_iter().chain(self.workers.values());
        let mut others = others.filter(|w| requirement.not_on.as_ref() != Some(&w.row.info.id));
        let other = others.find(|worker| self.could_do(worker, requirement, &self.parked));
        other.map(|worker| worker.row.info.id.clone())
    }

    /// Whether a worker could do a task once it has room, while these runners are parked.
    pub(crate) fn could_do(
        &self,
        worker: &Worker,
        requirement: &Requirement,
        parked: &BTreeSet<RunnerName>,
    ) -> bool {
        let alive = match worker.link {
            Link::Connected(_) | Link::Disconnected => true,
            Link::Lost => false,
        };
        let mut ready = worker.ready();
        alive
            && worker.row.availability == Availability::Open
            && worker.row.info.slots > 0
            && worker.suits(requirement)
            && ready.any(|runner| {
                let account = runner.account.as_ref();
                runner.slots > 0
                    && requirement.wants(runner, parked)
                    && !account.is_some_and(|account| self.accounts.is_parked(account))
            })
    }

    /// Whether a worker is the one that a task failed on. What waits elsewhere is never called back
    /// for that one.
    pub(crate) fn failed_on(&self, id: TaskId, worker: &WorkerId) -> bool {
        self.avoids(id)
            .is_some_and(|avoids| avoids.worker == *worker)
    }

    /// Whether the time is not over in which a task waits for another worker than this one.
    #[cfg(test)]
    pub(crate) fn waits_for_another(&self, now: Timestamp, id: TaskId, worker: &WorkerId) -> bool {
        let avoids = self.avoids(id);
        avoids.is_some_and(|avoids| avoids.worker == *worker && avoids.until > self.wall(now))
    }

    fn avoids(&self, id: TaskId) -> Option<&Avoids> {
        self.tasks.get(&id)?.row.last.as_ref()?.avoids.as_ref()
    }
}
