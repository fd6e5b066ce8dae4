//! What the core is told.

use orchestra_types::{
    ApplyResult, AttemptId, Outcome, Priority, TaskId, TaskSpec, WorkerId, runner::WorkerInfo,
};

use crate::{ConnectionId, RequestId};

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// A client submits tasks.
    Submit {
        /// For the answer.
        request: RequestId,
        /// The same key gives the same tasks.
        key: String,
        /// The tasks.
        tasks: Vec<NewTask>,
    },
    /// A person wants a task to end.
    Cancel {
        /// For the answer.
        request: RequestId,
        /// Which.
        task: TaskId,
    },
    /// A person wants an ended task to be tried again.
    Retry {
        /// For the answer.
        request: RequestId,
        /// Which.
        task: TaskId,
    },
    /// A person wants another priority for a task.
    Prioritise {
        /// For the answer.
        request: RequestId,
        /// Which.
        task: TaskId,
        /// How much it matters now.
        priority: Priority,
    },
    /// A client put a task's change into a checkout, or could not.
    ApplyRecorded {
        /// For the answer.
        request: RequestId,
        /// Which.
        task: TaskId,
        /// What became of it.
        result: ApplyResult,
    },
    /// A worker's control stream began.
    Attached {
        /// The stream.
        connection: ConnectionId,
        /// Who.
        info: Box<WorkerInfo>,
        /// Every attempt that it still holds: running ones and those whose final report is not
        /// acknowledged yet.
        held: Vec<Held>,
    },
    /// A worker's control stream ended.
    Detached {
        /// The stream.
        connection: ConnectionId,
        /// Who.
        worker: WorkerId,
    },
    /// A worker's runners or slots changed.
    Capacity {
        /// The stream.
        connection: ConnectionId,
        /// As it describes itself now.
        info: Box<WorkerInfo>,
    },
    /// A worker gave a sign of life.
    Heartbeat {
        /// The stream.
        connection: ConnectionId,
        /// Who.
        worker: WorkerId,
    },
    /// A worker reports.
    Reported {
        /// The stream.
        connection: ConnectionId,
        /// Who.
        worker: WorkerId,
        /// What.
        report: Box<Report>,
    },
    /// The shell put an attempt's result in place.
    Closed {
        /// Which attempt.
        attempt: AttemptId,
        /// What became of putting the change into the user's checkout.
        apply: ApplyResult,
    },
    /// Nothing new is to be started from here on; what runs may end.
    StopAssigning,
    /// A deadline has passed.
    Tick,
}

/// A task to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTask {
    /// What is asked for.
    pub spec: TaskSpec,
    /// Tasks of the same submission that it comes after, by their place in it.
    pub after_index: Vec<u32>,
}

/// An attempt that a worker still holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Which.
    pub attempt: AttemptId,
    /// Whether its agent was started.
    pub started: bool,
}

/// A numbered report of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Counts from 1 for the worker's whole life.
    pub seq: u64,
    /// About which attempt.
    pub attempt: AttemptId,
    /// What.
    pub body: ReportBody,
}

/// What a report says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReportBody {
    /// The order is on the worker's disk.
    Accepted,
    /// The agent was started.
    Started,
    /// The attempt is over, and its result is stored.
    Finished(Box<Outcome>),
}
