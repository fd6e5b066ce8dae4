//! The head's store as the core's contract has it: a step is durable whole or not at all.

use std::collections::BTreeMap;

use orchestra_core::{
    AccountRow, Change, KeyRow, LedgerRow, ProjectRow, Rows, ScheduleRow, TaskRow, WorkerRow,
};
use orchestra_types::{AccountName, ProjectId, ScheduleId, TaskId, WorkerId};

use crate::{cast::Cast, shadow::Shadow};

/// What is durable.
#[derive(Debug, Default)]
pub struct Disk {
    tasks: BTreeMap<TaskId, TaskRow>,
    workers: BTreeMap<WorkerId, WorkerRow>,
    acked: BTreeMap<WorkerId, u64>,
    keys: Vec<KeyRow>,
    accounts: BTreeMap<AccountName, AccountRow>,
    schedules: BTreeMap<ScheduleId, ScheduleRow>,
    schedule_ids: Option<ScheduleId>,
    ledgers: BTreeMap<TaskId, LedgerRow>,
    projects: BTreeMap<ProjectId, ProjectRow>,
    /// The same in the judge's words.
    pub shadow: Shadow,
}

impl Disk {
    /// Makes rows durable.
    pub fn write(&mut self, changes: impl IntoIterator<Item = Change>, cast: &Cast) {
        for change in changes {
            self.shadow.apply(&change, cast);
            self.keep(change);
        }
    }

    fn keep(&mut self, change: Change) {
        match change {
            Change::Task(row) => drop(self.tasks.insert(row.id, *row)),
            Change::Worker(row) => drop(self.workers.insert(row.info.id.clone(), *row)),
            Change::Acked { worker, up_to } => drop(self.acked.insert(worker, up_to)),
            Change::Key(row) => self.keys.push(row),
            Change::ForgetTask { id, .. } => {
                self.tasks.remove(&id);
                self.ledgers.remove(&id);
            }
            Change::ForgetKey { key } => self.keys.retain(|row| row.key != key),
            Change::ForgetWorker { id } => {
                self.workers.remove(&id);
                self.acked.remove(&id);
            }
            Change::Ledger(row) => drop(self.ledgers.insert(row.task, *row)),
            Change::Project(row) => drop(self.projects.insert(row.id.clone(), *row)),
            Change::Account(row) => drop(self.accounts.insert(row.name.clone(), *row)),
            Change::Schedule(row) => drop(self.schedules.insert(row.id, *row)),
            Change::ForgetSchedule { id } => drop(self.schedules.remove(&id)),
            Change::ScheduleIds { last } => self.schedule_ids = Some(last),
            Change::Spec { .. }
            | Change::Attempt(_)
            | Change::Outcome(_)
            | Change::ForgetOutcome { .. } => {}
        }
    }

    /// Reads what the core keeps in memory.
    #[must_use]
    pub fn load(&self) -> Rows {
        let with_acked = |row: &WorkerRow| {
            let acked = self.acked.get(&row.info.id).copied().unwrap_or(0);
            (row.clone(), acked)
        };
        Rows {
            tasks: self.tasks.values().cloned().collect(),
            workers: self.workers.values().map(with_acked).collect(),
            keys: self.keys.clone(),
            accounts: self.accounts.values().cloned().collect(),
            schedules: self.schedules.values().cloned().collect(),
            schedule_ids: self.schedule_ids,
            ledgers: self.ledgers.values().copied().collect(),
            projects: self.projects.values().cloned().collect(),
        }
    }

    /// Whether the row of a task is this one.
    #[must_use]
    pub fn is_task(&self, row: &TaskRow) -> bool {
        self.tasks.get(&row.id) == Some(row)
    }
}
