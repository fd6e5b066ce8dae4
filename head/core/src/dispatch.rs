//! Which task goes to which worker.
//!
//! Best rank first. For a task: runner preference first, then a worker that it did not fail on,
//! then the least loaded one, then the lowest id.

use orchestra_types::{AttemptId, RunnerName, TaskId, Timestamp, WorkerId};

use crate::{
    Core, Step,
    change::Change,
    message::Message,
    queue::Requirement,
    row::{AttemptRow, State},
    view::Link,
    worker::Worker,
};

impl Core {
    /// Assigns tasks until no waiting task fits a free slot.
    pub(crate) fn dispatch(&mut self, now: Timestamp, step: &mut Step) {
        while self.assigning {
            let Some((task, worker, runner)) = self.next_match() else {
                return;
            };
            self.assign(now, task, worker, runner, step);
        }
    }

    fn next_match(&self) -> Option<(TaskId, WorkerId, RunnerName)> {
        if !self.workers.values().any(Worker::can_take) {
            return None;
        }
        self.queue.heads().find_map(|(task, requirement)| {
            let (worker, runner) = self.best_worker(task, requirement)?;
            Some((task, worker, runner))
        })
    }

    fn best_worker(
        &self,
        task: TaskId,
        requirement: &Requirement,
    ) -> Option<(WorkerId, RunnerName)> {
        let failed_on = self.tasks.get(&task)?.row.last.as_ref().map(|last| &last.0);
        let open = self.workers.iter().filter(|(_, worker)| worker.can_take());
        let candidates = open.filter_map(|(id, worker)| {
            let (preference, runner) = worker.runner_for(requirement)?;
            let key = (preference, Some(id) == failed_on, worker.load(), id);
            Some((key, runner))
        });
        let (key, runner) = candidates.min_by_key(|(key, _)| *key)?;
        Some((key.3.clone(), runner.clone()))
    }

    fn assign(
        &mut self,
        now: Timestamp,
        id: TaskId,
        worker: WorkerId,
        runner: RunnerName,
        step: &mut Step,
    ) {
        let task = self.tasks.get_mut(&id).expect("queued tasks exist");
        task.row.attempts += 1;
        task.row.last = Some(Box::new((worker.clone(), runner.clone())));
        let attempt = AttemptId {
            task: id,
            number: task.row.attempts,
        };
        step.changes.push(Change::Attempt(Box::new(AttemptRow {
            id: attempt,
            worker: worker.clone(),
            runner: runner.clone(),
            assigned_at: now,
            started_at: None,
        })));
        let assigned = State::Assigned {
            attempt: attempt.number,
            worker: worker.clone(),
            runner: runner.clone(),
            at: now,
        };
        self.set_state(now, id, assigned, step);
        if let Some(Link::Connected(connection)) = self.workers.get(&worker).map(|w| w.link) {
            step.messages.push(Message::Start {
                connection,
                attempt,
                runner,
            });
        }
    }
}
