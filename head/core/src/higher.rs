//! A higher level goes before what waits at a worker.
//!
//! What waits at a worker begins in the order of its coming. So what has a lower level is called
//! back when a task of a higher one comes last there, or could only come behind it. It returns to
//! its place in the queue, and nothing waits there again before the other has its turn.

use orchestra_types::{
    AttemptId, Priority, TaskId, Timestamp, WorkerId,
    runner::{NOOP, RunnerInfo},
};

use crate::{
    Core, Step,
    queue::ClassNo,
    retract::Waiting,
    row::{Availability, State},
    view::Link,
    worker::Worker,
};

/// How many tasks are given to workers that have not begun them, by priority.
#[derive(Debug, Default)]
pub(crate) struct Given([u64; Priority::ALL.len()]);

impl Given {
    pub fn add(&mut self, priority: Priority) {
        self.0[priority as usize] += 1;
    }

    pub fn remove(&mut self, priority: Priority) {
        self.0[priority as usize] -= 1;
    }

    /// Whether some of them may have a lower level: nothing has a lower one than its priority.
    fn any_below(&self, level: u8) -> bool {
        let below = self.0.iter().take(usize::from(level));
        below.copied().any(|given| given > 0) || mutated!(EqualCalledBack)
    }
}

/// Whether attempts of a runner wait at their worker for a slot: `noop` has no process, and begins
/// whatever else runs.
fn waits_for_slots(runner: &RunnerInfo) -> bool {
    runner.prefetch > 0 && runner.name.as_str() != NOOP
}

impl Core {
    /// A task that comes last at a worker goes before what waits there and has a lower level.
    pub(crate) fn call_back_before(
        &mut self,
        now: Timestamp,
        id: TaskId,
        worker: &WorkerId,
        step: &mut Step,
    ) {
        let Some(task) = self.tasks.get(&id) else {
            return;
        };
        let level = self.queue.level_of_wait(now, task.waited(self.calendar));
        if self.given.any_below(level) && !mutated!(LowerGoesFirst) {
            let lower = self.lower_at(now, worker, level);
            self.call_back(worker, lower, step);
        }
    }

    /// Tasks of a higher level that find no room go before what waits at workers, and so does one
    /// that waits there and has another priority.
    pub(crate) fn call_back_lower(&mut self, now: Timestamp, step: &mut Step) {
        if let Some(id) = self.reordered.take() {
            self.reorder(now, id, step);
        }
        let risen = self.queue.take_risen();
        if self.ahead.is_empty() || mutated!(LowerGoesFirst) {
            return;
        }
        for class in risen.iter() {
            self.hold_first(now, class, step);
            let level = self.queue.level_of_class(now, class);
            if let Some(level) = level.filter(|level| self.given.any_below(*level)) {
                self.call_back_for_class(now, class, level, step);
            }
        }
    }

    /// What a budget holds is for nobody to go back for.
    fn hold_first(&mut self, now: Timestamp, class: ClassNo, step: &mut Step) {
        while let Some(id) = self.queue.first(class)
            && self.pull_back(now, id, step)
        {}
    }

    /// One worker is enough for the first task; the next one is asked for when it is first.
    fn call_back_for_class(&mut self, now: Timestamp, class: ClassNo, level: u8, step: &mut Step) {
        let lower = self.ahead.iter().find_map(|id| {
            let lower = self.lower_at(now, id, level);
            let helps = !lower.is_empty() && self.takes_without(id, class, &lower);
            helps.then(|| (id.clone(), lower))
        });
        if let Some((id, lower)) = lower {
            self.call_back(&id, lower, step);
        }
    }

    fn reorder(&mut self, now: Timestamp, id: TaskId, step: &mut Step) {
        let Some(task) = self.tasks.get(&id) else {
            return;
        };
        let worker = match &task.row.state {
            // What was called back itself goes first when it is back.
            State::Assigned { .. } if self.called_back.contains_key(&task.attempt()) => return,
            State::Assigned { worker, .. } if self.ahead.contains(worker) => worker.clone(),
            State::Blocked
            | State::Queued { .. }
            | State::Assigned { .. }
            | State::Running { .. }
            | State::Closing { .. }
            | State::Ended { .. } => return,
        };
        self.call_back_before(now, id, &worker, step);
        // Others may go before it.
        self.queue.rise_all();
    }

    /// What was called back has begun. Where it was to make room for something else at its own
    /// worker, there may be another worker where something waits.
    pub(crate) fn note_begun(&mut self, attempt: AttemptId, worker: &WorkerId) {
        if self.called_back.get(&attempt) == Some(worker) && !mutated!(RefusalForgotten) {
            self.queue.rise_all();
        }
    }

    /// Whether a task of a class is next at a worker, once these are gone and what was called back.
    fn takes_without(&self, id: &WorkerId, class: ClassNo, lower: &[Waiting]) -> bool {
        let requirement = self.queue.requirement(class);
        let Some(worker) = self.workers.get(id) else {
            return false;
        };
        let called = worker.attempts.keys().copied();
        let called = called.filter(|attempt| self.called_back.contains_key(attempt));
        let lower = lower.iter().map(|(_, attempt)| *attempt);
        let gone: Vec<AttemptId> = called.chain(lower).collect();
        let mut runners = worker.row.info.runners.iter().enumerate();
        worker.row.availability == Availability::Open
            && worker.is_connected()
            && worker.suits(requirement)
            && !self.queue.bars(class, id)
            && runners.any(|(place, runner)| {
                requirement.wants(runner, &self.parked)
                    && worker.wants_slot_without(&self.accounts, place, &gone)
            })
    }

    /// What was not begun at a worker and has a lower level.
    fn lower_at(&self, now: Timestamp, id: &WorkerId, level: u8) -> Vec<Waiting> {
        let Some(worker) = self.workers.get(id) else {
            return Vec::new();
        };
        let connection = match worker.link {
            Link::Connected(connection) => connection,
            Link::Disconnected | Link::Lost => return Vec::new(),
        };
        let lower = self.not_begun(worker).filter(|attempt| {
            self.tasks.get(&attempt.task).is_some_and(|task| {
                let own = self.queue.level_of_wait(now, task.waited(self.calendar));
                own < level || (own == level && mutated!(EqualCalledBack))
            })
        });
        lower.map(|attempt| (connection, attempt)).collect()
    }

    /// What may not be begun yet at a worker. It knows better, and keeps what it has begun.
    fn not_begun(&self, worker: &Worker) -> impl Iterator<Item = AttemptId> {
        let mut runners = worker.row.info.runners.iter();
        let any = runners.any(waits_for_slots);
        let held = worker.attempts.iter().filter(move |_| any);
        let held = held.filter(|(_, order)| order.runner.as_str() != NOOP);
        held.map(|(attempt, _)| *attempt)
            .filter(|attempt| self.may_wait(worker, *attempt))
    }
}
