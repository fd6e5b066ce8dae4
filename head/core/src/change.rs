//! What must be made durable.

use orchestra_types::{TaskId, TaskSpec, WorkerId};

use crate::row::{AttemptRow, KeyRow, OutcomeRow, TaskRow, WorkerRow};

/// One row to write. All rows of a step are written together or not at all.
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
    /// A worker.
    Worker(Box<WorkerRow>),
    /// The reports of a worker up to this number are recorded.
    Acked {
        /// Which worker.
        worker: WorkerId,
        /// Up to which report.
        up_to: u64,
    },
    /// A submission's key.
    Key(KeyRow),
}
