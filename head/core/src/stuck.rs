//! Blocked tasks that do not go on by themselves: one that they come after, however far before them, has
//! ended without success, or is queued and asks for more of its budget.
//!
//! Each is noted with that one, because whoever waits for it would wait for ever. Looking for it when it is
//! asked for would walk through all that a task comes after, and a chain may be as long as the queue.
//!
//! For each noted task, one that it waits for is its reason itself or is noted with the same reason.

use std::collections::BTreeSet;

use orchestra_types::{OnDependencyFailure, TaskId};

use crate::{
    Core, Step,
    message::Message,
    row::{EndStatus, State},
};

impl Core {
    /// The task that ended without success, or asks for more of its budget, and keeps a blocked one from going on.
    pub(crate) fn kept_back_by(&self, id: TaskId) -> Option<TaskId> {
        self.stuck.get(&id).copied()
    }

    /// Notes a task, and all that come after it, with this reason. Tells their watchers.
    pub(crate) fn keep_back(&mut self, id: TaskId, reason: TaskId, step: &mut Step) {
        let mut open = vec![id];
        while let Some(task) = open.pop() {
            if !self.is_blocked(task) || self.stuck.insert(task, reason) == Some(reason) {
                continue;
            }
            step.messages.push(Message::Changed { task });
            open.extend(self.directly_after(task));
        }
    }

    /// Notes a task that is new, or blocked again, if it has a reason.
    pub(crate) fn keep_back_if_stuck(&mut self, id: TaskId, step: &mut Step) {
        if self.is_blocked(id)
            && let Some(reason) = self.reason_before(id)
        {
            self.keep_back(id, reason, step);
        }
    }

    /// A queued task asks for more of its budget, or asks no more: so do those that come after it.
    pub(crate) fn tell_held(&mut self, id: TaskId, asked: bool, step: &mut Step) {
        let asks = self.budgets.asks(id);
        if asked && !asks {
            self.release_stuck(id, id, step);
        } else if asks && !asked {
            self.keep_back_all_after(id, step);
        }
    }

    /// All that come after a queued task that asks for more of its budget are noted with it.
    pub(crate) fn keep_back_all_after(&mut self, id: TaskId, step: &mut Step) {
        for task in self.directly_after(id) {
            self.keep_back(task, id, step);
        }
    }

    /// A task is no reason any more, or no longer waits for its own: those behind it that were noted with
    /// that reason go on, or have another one.
    pub(crate) fn release_stuck(&mut self, id: TaskId, reason: TaskId, step: &mut Step) {
        let mut open = self.directly_after(id);
        let mut released = BTreeSet::new();
        while let Some(task) = open.pop() {
            if self.stuck.get(&task) == Some(&reason) {
                self.stuck.remove(&task);
                released.insert(task);
                open.extend(self.directly_after(task));
            }
        }
        for task in released {
            step.messages.push(Message::Changed { task });
            self.keep_back_if_stuck(task, step);
        }
    }

    /// What keeps back one that a task waits for, or that one itself.
    fn reason_before(&self, id: TaskId) -> Option<TaskId> {
        let task = self.tasks.get(&id)?;
        let waits_for = &task.waits_for;
        // One that has just ended has not freed those after it yet.
        let runs_anyway = task.row.facts.on_dependency_failure == OnDependencyFailure::Run;
        let failed = |before: &TaskId| {
            let end = self.end_of(*before);
            end.is_some_and(|end| end != EndStatus::Succeeded) && !runs_anyway
        };
        let failed = waits_for.iter().find(failed);
        // Whatever is chosen for a failure: it has not ended yet.
        let asks = || waits_for.iter().find(|before| self.budgets.asks(*before));
        failed.or_else(asks).or_else(|| {
            let mut before = waits_for.iter();
            before.find_map(|before| self.kept_back_by(before))
        })
    }

    fn directly_after(&self, id: TaskId) -> Vec<TaskId> {
        let after = self.dependants.get(&id).into_iter().flatten();
        after.copied().collect()
    }

    fn is_blocked(&self, id: TaskId) -> bool {
        let task = self.tasks.get(&id);
        task.is_some_and(|task| task.row.state == State::Blocked)
    }
}
