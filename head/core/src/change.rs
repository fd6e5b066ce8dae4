//! What must be made durable.

use orchestra_types::{AttemptId, ScheduleId, TaskId, TaskSpec, WorkerId};

use crate::{
    row::{AccountRow, AttemptRow, KeyRow, LedgerRow, OutcomeRow, ProjectRow, TaskRow, WorkerRow},
    schedule::ScheduleRow,
};

/// One row to write, or rows to remove. All changes of a step become durable together or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A task's specification, written once.
    Spec {
        /// Which task.
        id: TaskId,
        /// The specification.
        spec: Box<TaskSpec>,
    },
    /// A task's state.
    Task(Box<TaskRow>),
    /// An attempt.
    Attempt(Box<AttemptRow>),
    /// The end of an attempt.
    Outcome(Box<OutcomeRow>),
    /// The end of an attempt is taken back: it was given up, and goes on.
    ForgetOutcome {
        /// Which attempt.
        id: AttemptId,
    },
    /// A worker.
    Worker(Box<WorkerRow>),
    /// The reports of a worker up to this number are recorded.
    Acked {
        /// Which worker.
        worker: WorkerId,
        /// Up to which report.
        up_to: u64,
    },
    /// An account.
    Account(Box<AccountRow>),
    /// A recurring task.
    Schedule(Box<ScheduleRow>),
    /// A recurring task is gone.
    ForgetSchedule {
        /// Which.
        id: ScheduleId,
    },
    /// Ids of recurring tasks up to this one were given: the newest one leaves, whose row said so.
    ScheduleIds {
        /// Up to which.
        last: ScheduleId,
    },
    /// What a task may use and has used.
    Ledger(Box<LedgerRow>),
    /// What a project may use and has used in a day.
    Project(Box<ProjectRow>),
    /// A submission's key.
    Key(KeyRow),
    /// A task leaves: its row, its specification, its attempts and their ends.
    ForgetTask {
        /// Which task.
        id: TaskId,
        /// The number of its latest attempt; 0 when it had none.
        attempts: u32,
    },
    /// A submission's key leaves: the same key makes new tasks from here on.
    ForgetKey {
        /// The key.
        key: String,
    },
    /// A worker leaves, and what is known of its reports.
    ForgetWorker {
        /// Which worker.
        id: WorkerId,
    },
}
