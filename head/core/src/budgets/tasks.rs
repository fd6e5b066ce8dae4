//! The ledgers of tasks, and which task stands above which.

use std::collections::BTreeSet;

use orchestra_types::{Budget, Spent, TaskId, Timestamp};

use super::{Budgets, LINE_MAX};
use crate::{
    Core,
    ledger::Ledger,
    row::{Ending, LedgerRow, State},
};

#[derive(Debug, Default)]
pub(super) struct TaskLedger {
    pub ledger: Ledger,
    pub parent: Option<TaskId>,
    pub children: BTreeSet<TaskId>,
}

impl TaskLedger {
    pub fn new(budget: Budget, spent: Spent) -> Self {
        Self {
            ledger: Ledger::new(budget, spent),
            ..Self::default()
        }
    }
}

impl Budgets {
    /// Takes a task's row as it was kept.
    pub fn insert_task(&mut self, row: &LedgerRow) {
        let entry = self.tasks.entry(row.task).or_default();
        let spent = if mutated!(UseForgottenByStart) {
            Spent::default()
        } else {
            row.spent
        };
        entry.ledger = Ledger::new(row.budget, spent);
    }

    /// A task is forgotten.
    pub fn forget(&mut self, id: TaskId) {
        let parent = self.tasks.remove(&id).and_then(|entry| entry.parent);
        if let Some(parent) = parent.and_then(|id| self.tasks.get_mut(&id)) {
            parent.children.remove(&id);
        }
    }

    /// How many tasks stand above a new one with this parent.
    pub fn depth(&self, parent: TaskId) -> usize {
        let above = |id: &TaskId| self.tasks.get(id)?.parent;
        let line = std::iter::successors(Some(parent), above);
        line.take(LINE_MAX + 1).count()
    }

    /// A task and all below it.
    pub(super) fn tree(&self, id: TaskId) -> Vec<TaskId> {
        let mut tree = vec![id];
        let mut next = 0;
        while let Some(at) = tree.get(next) {
            let children = self.tasks.get(at).map(|entry| entry.children.clone());
            let children = children.into_iter().flatten();
            tree.extend(children.filter(|child| *child != id));
            next += 1;
        }
        tree
    }
}

impl Core {
    /// A task's ledger. One that is opened late has what the task used until then: by attempts that
    /// ended, and by the one that runs.
    pub(super) fn open_task(&mut self, id: TaskId) -> &mut TaskLedger {
        if !self.budgets.tasks.contains_key(&id) {
            let new = TaskLedger {
                ledger: self.late_ledger(id),
                ..TaskLedger::default()
            };
            self.budgets.tasks.insert(id, new);
        }
        let opened = self.budgets.tasks.get_mut(&id);
        opened.expect("it was opened above")
    }

    fn late_ledger(&self, id: TaskId) -> Ledger {
        let Some(task) = self.tasks.get(&id).filter(|_| !mutated!(UsedBeforeIgnored)) else {
            return Ledger::default();
        };
        let mut ledger = Ledger::new(Budget::default(), task.row.used());
        if task.held_since().is_some() {
            let attempt = task.attempt();
            ledger.open(attempt, self.overdue.run_time(id), task.counted());
            ledger.read(attempt, self.budgets.reading(attempt));
        }
        ledger
    }

    /// The tasks below each of some that go on: they have not ended, and nobody has told them to end.
    /// One that is below several stands with the first.
    #[must_use]
    pub fn going_on_below(&self, ids: &[TaskId]) -> Vec<Vec<TaskId>> {
        let mut seen = BTreeSet::new();
        ids.iter().map(|id| self.below(*id, &mut seen)).collect()
    }

    fn below(&self, id: TaskId, seen: &mut BTreeSet<TaskId>) -> Vec<TaskId> {
        let mut found = Vec::new();
        let mut next = vec![id];
        while let Some(at) = next.pop() {
            let children = self.budgets.tasks.get(&at).map(|entry| &entry.children);
            for child in children.into_iter().flatten() {
                if seen.insert(*child) {
                    next.push(*child);
                    found.extend(self.goes_on(*child).then_some(*child));
                }
            }
        }
        found.sort();
        found
    }

    fn goes_on(&self, id: TaskId) -> bool {
        let row = self.tasks.get(&id).map(|task| &task.row);
        row.is_some_and(|row| match &row.state {
            State::Blocked | State::Queued { .. } => true,
            State::Assigned { .. } | State::Running { .. } => !row.cancel_requested,
            State::Closing { ending, .. } => match ending {
                Ending::Retry { .. } | Ending::Elsewhere { .. } => true,
                Ending::End { .. } => false,
            },
            State::Ended { .. } => false,
        })
    }

    /// The budget of a task, and what it and its subtasks have used, as far as it is known; the wall
    /// time of what runs is not in it. None for a task without budget and subtasks that has never
    /// run.
    #[must_use]
    pub fn budget(&self, id: TaskId) -> Option<(Budget, Spent)> {
        self.budget_at(Timestamp(0), id)
    }

    /// The same with the time that running agents have used until now.
    #[must_use]
    pub fn budget_at(&self, now: Timestamp, id: TaskId) -> Option<(Budget, Spent)> {
        let total = |ledger: &Ledger| (ledger.budget, ledger.total(now));
        match self.budgets.tasks.get(&id) {
            Some(entry) => Some(total(&entry.ledger)),
            None => {
                self.tasks.get(&id)?.row.last.as_ref()?;
                Some(total(&self.late_ledger(id)))
            }
        }
    }
}
