//! A task in memory, and the one way to change its state.

use std::collections::BTreeSet;

use orchestra_types::{AttemptId, Failure, Spent, TaskId, TaskStatus, Timestamp, WorkerId};

use crate::{
    Calendar, Core, Step,
    change::Change,
    message::Message,
    queue::{Place, Wait},
    row::{EndStatus, Ending, State, TaskFacts, TaskRow},
    run_time::RunTime,
};

/// A task in memory.
#[derive(Debug)]
pub(crate) struct Task {
    pub row: TaskRow,
    /// Tasks that must still succeed first.
    pub waits_for: Waits,
    /// Where it stands in the queue, while it is queued.
    pub place: Place,
}

/// The tasks that a task still waits for, in order. Most wait for none, and a short list takes
/// less memory than a set.
#[derive(Debug, Default)]
pub(crate) struct Waits(Box<[TaskId]>);

impl Waits {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = TaskId> {
        self.0.iter().copied()
    }

    pub fn remove(&mut self, id: TaskId) {
        let mut ids = std::mem::take(&mut self.0).into_vec();
        ids.retain(|known| *known != id);
        self.0 = ids.into_boxed_slice();
    }
}

impl FromIterator<TaskId> for Waits {
    fn from_iter<I: IntoIterator<Item = TaskId>>(ids: I) -> Self {
        let ids: BTreeSet<TaskId> = ids.into_iter().collect();
        Self(ids.into_iter().collect())
    }
}

impl Task {
    /// Whether a person wants no more of it, even if its agent has not ended yet.
    pub fn is_cancelled(&self) -> bool {
        match &self.row.state {
            State::Blocked | State::Queued { .. } => false,
            State::Assigned { .. } | State::Running { .. } => self.row.cancel_requested,
            State::Closing { ending, .. } => match ending {
                Ending::End { status, .. } => *status == EndStatus::Cancelled,
                Ending::Retry { .. } | Ending::Elsewhere { .. } => false,
            },
            State::Ended { status, .. } => *status == EndStatus::Cancelled,
        }
    }

    /// The status that people see.
    pub fn status(&self) -> TaskStatus {
        match &self.row.state {
            State::Blocked => TaskStatus::Blocked,
            State::Queued { .. } => TaskStatus::Queued,
            State::Assigned { .. } => TaskStatus::Assigned,
            State::Running { .. } | State::Closing { .. } => TaskStatus::Running,
            State::Ended { status, .. } => status.status(),
        }
    }

    /// The worker that holds attempt `number` now.
    pub fn holder(&self, number: u32) -> Option<&WorkerId> {
        match &self.row.state {
            State::Assigned {
                attempt, worker, ..
            }
            | State::Running {
                attempt, worker, ..
            } => (*attempt == number || mutated!(OldAttemptHeard)).then_some(worker),
            State::Blocked | State::Queued { .. } | State::Closing { .. } | State::Ended { .. } => {
                None
            }
        }
    }

    /// Since when and until when it waits in the queue.
    pub fn wait(&self) -> Wait {
        let (since, not_before) = match self.row.state {
            State::Queued { since, not_before } => (since, not_before),
            State::Blocked
            | State::Assigned { .. }
            | State::Running { .. }
            | State::Closing { .. }
            | State::Ended { .. } => (self.row.created_at, Timestamp(0)),
        };
        let avoids = self.row.last.as_ref().and_then(|last| last.avoids.as_ref());
        Wait {
            priority: self.row.facts.priority,
            since,
            not_before,
            avoids_until: avoids.map_or(Timestamp(0), |avoids| avoids.until),
        }
    }

    /// How it waited before it was given to a worker that has not begun it.
    pub fn waited(&self, calendar: Calendar) -> Wait {
        let start_at = self.row.facts.timing.start_at.unwrap_or_default();
        Wait {
            since: self.row.created_at.max(calendar.steady(start_at)),
            ..self.wait()
        }
    }

    /// When the attempt that runs was ordered or started.
    pub fn held_since(&self) -> Option<Timestamp> {
        match &self.row.state {
            State::Assigned { at, .. } | State::Running { at, .. } => Some(*at),
            State::Blocked | State::Queued { .. } | State::Closing { .. } | State::Ended { .. } => {
                None
            }
        }
    }

    /// What was counted of the latest attempt when it was given up; none when it never was.
    pub fn counted(&self) -> Option<Spent> {
        let counted = self.row.last.as_ref()?.counted(self.row.attempts)?;
        Some(counted.used)
    }

    /// The latest attempt.
    pub fn attempt(&self) -> AttemptId {
        AttemptId {
            task: self.row.id,
            number: self.row.attempts,
        }
    }
}

impl Core {
    /// Moves a task into `state`: counts, queue, holders and dependants follow. The only way.
    pub(crate) fn set_state(&mut self, now: Timestamp, id: TaskId, state: State, step: &mut Step) {
        self.change_state(now, id, state, step);
        self.settle_dependants(now, id, step);
    }

    /// The same without the dependants, for those who see to them by themselves.
    pub(crate) fn change_state(
        &mut self,
        now: Timestamp,
        id: TaskId,
        state: State,
        step: &mut Step,
    ) {
        let was_reason = self
            .end_of(id)
            .is_some_and(|end| end != EndStatus::Succeeded);
        let reason = match was_reason || self.budgets.asks(id) {
            true => Some(id),
            false => self.kept_back_by(id),
        };
        let waited = self.overdue.waited(id);
        self.leave_state(id);
        let task = self
            .tasks
            .get_mut(&id)
            .expect("the caller looked the task up");
        task.wait_anew(&state);
        task.row.state = state;
        self.enter_state(now, id);
        self.go_on_waiting(now, id, waited);
        self.write(id, step);
        if let Some(reason) = reason {
            self.release_stuck(id, reason, step);
        }
        self.keep_back_if_stuck(id, step);
        if self.budgets.asks(id) {
            self.keep_back_all_after(id, step);
        }
    }

    /// Changes what was asked for of a task. What is derived from that is the caller's to follow.
    pub(crate) fn change_facts(&mut self, id: TaskId, change: impl FnOnce(&mut TaskFacts)) {
        let task = self
            .tasks
            .get_mut(&id)
            .expect("the caller looked the task up");
        let mut facts = TaskFacts::clone(&task.row.facts);
        change(&mut facts);
        let old = std::mem::replace(&mut task.row.facts, self.facts.share(facts));
        self.facts.release(&old);
    }

    /// Writes a task's row and tells its watchers.
    pub(crate) fn write(&self, id: TaskId, step: &mut Step) {
        let task = self.tasks.get(&id).expect("the caller looked the task up");
        step.changes.push(Change::Task(Box::new(task.row.clone())));
        if !mutated!(WatchersNotTold) {
            step.messages.push(Message::Changed { task: id });
        }
    }

    /// Takes the task into what is derived from its state.
    pub(crate) fn enter_state(&mut self, now: Timestamp, id: TaskId) {
        let task = self.tasks.get(&id).expect("the caller looked the task up");
        self.finished.enter(&task.row);
        let status = task.status();
        self.counts.add(task);
        match &task.row.state {
            State::Queued { .. } => {
                self.drop_run(task.attempt());
                if !self.hold(now, id) {
                    self.enqueue(now, id);
                }
            }
            State::Assigned { worker, runner, .. } | State::Running { worker, runner, .. } => {
                if status == TaskStatus::Assigned {
                    self.given.add(task.row.facts.priority);
                }
                let attempt = task.attempt();
                if let Some(worker) = self.workers.get_mut(worker) {
                    worker.hold(attempt, runner);
                    if let Some(account) = worker.account_of(runner) {
                        self.accounts.begin(attempt, account.clone());
                    }
                }
                let runs = status == TaskStatus::Running;
                self.open_run(attempt, runs.then(|| RunTime::begins(now)));
            }
            State::Blocked | State::Closing { .. } | State::Ended { .. } => {}
        }
        self.tasks.count(id, status);
        if status.is_ended() {
            self.schedules.on_end(self.calendar.wall(now), id);
        }
        self.watch(now, id);
    }

    /// Puts a queued task into the queue.
    pub(crate) fn enqueue(&mut self, now: Timestamp, id: TaskId) {
        let task = self.tasks.get(&id).expect("the caller looked the task up");
        if !self.accounts.is_idle() && task.row.facts.has_fallback() {
            self.parks_moved = true;
        }
        let avoids = task.row.last.as_ref().and_then(|last| last.avoids.as_ref());
        let place = (self.queue).add(
            self.calendar.wall(now),
            id,
            &task.row.facts,
            task.wait(),
            avoids,
        );
        if let Some(task) = self.tasks.get_mut(&id) {
            task.place = place;
        }
    }

    pub(crate) fn leave_state(&mut self, id: TaskId) {
        self.unwatch(id);
        let task = self.tasks.get(&id).expect("the caller looked the task up");
        self.finished.leave(&task.row);
        let status = task.status();
        if !(mutated!(CountsOff) && status == TaskStatus::Queued) {
            self.counts.remove(task);
        }
        match &task.row.state {
            State::Queued { .. } => {
                if !self.budgets.let_go(id) {
                    self.queue.remove(id, task.place, task.wait());
                }
            }
            State::Assigned { worker, .. } | State::Running { worker, .. } => {
                if status == TaskStatus::Assigned {
                    self.given.remove(task.row.facts.priority);
                }
                let (attempt, id) = (task.attempt(), worker.clone());
                if let Some(worker) = self.workers.get_mut(&id) {
                    worker.release(attempt);
                }
                self.uncall(attempt);
                if self.accounts.end(attempt) {
                    self.queue.refresh();
                    self.ask_idle();
                }
                self.touch(&id);
            }
            State::Blocked => {
                self.stuck.remove(&id);
            }
            State::Closing { .. } | State::Ended { .. } => {}
        }
        self.tasks.uncount(id, status);
    }

    /// Ends a task.
    pub(crate) fn end(
        &mut self,
        now: Timestamp,
        id: TaskId,
        status: EndStatus,
        reason: Option<Failure>,
        step: &mut Step,
    ) {
        self.end_quietly(now, id, status, reason, step);
        self.settle_dependants(now, id, step);
    }

    /// The same without the dependants, for those who see to them by themselves.
    pub(crate) fn end_quietly(
        &mut self,
        now: Timestamp,
        id: TaskId,
        status: EndStatus,
        reason: Option<Failure>,
        step: &mut Step,
    ) {
        let task = self
            .tasks
            .get_mut(&id)
            .expect("the caller looked the task up");
        task.row.reason = reason.map(Box::new);
        self.change_state(now, id, State::Ended { status, at: now }, step);
    }
}
