//! What the core is told.

use std::time::Duration;

use orchestra_types::{
    AccountName, ApplyResult, AttemptId, BudgetChange, Limited, Outcome, Priority, ProjectId,
    ScheduleId, TaskId, TaskSpec, WorkerId, runner::WorkerInfo,
};

use crate::{
    ConnectionId, RequestId,
    row::{Availability, Reading},
    schedule::NewSchedule,
};

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
    /// A person lets a blocked task go, although one that it comes after ended without success.
    Release {
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
        /// Of these, attempts up to the latest of their tasks that were given to another worker, as their rows say,
        /// or to nobody.
        others: Vec<AttemptId>,
        /// The first report that was never acknowledged to it, or its next one; 0 when it does not say.
        first_unacked: u64,
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
        /// Whom the row of its attempt names; needed only for an attempt before the task's latest, of
        /// which the core itself does not know that. Boxed, as each session has room for an input.
        given_to: Option<Box<WorkerId>>,
    },
    /// A worker says what a running attempt has used so far. Readings may be lost or come twice.
    Metered {
        /// The stream.
        connection: ConnectionId,
        /// Who.
        worker: WorkerId,
        /// Of which attempt.
        attempt: AttemptId,
        /// What it has used.
        meter: Box<Meter>,
    },
    /// A person says how many attempts an account may have at once.
    SetAccount {
        /// For the answer.
        request: RequestId,
        /// Which.
        name: AccountName,
        /// How many; none is as configured.
        max: Option<u32>,
    },
    /// A person says that an account works again.
    ResumeAccount {
        /// For the answer.
        request: RequestId,
        /// Which.
        name: AccountName,
    },
    /// A client wants tasks that come again and again.
    Schedule {
        /// For the answer.
        request: RequestId,
        /// The same key gives the same schedules.
        key: String,
        /// What is to come.
        schedules: Vec<NewSchedule>,
    },
    /// A person pauses, resumes or deletes a schedule.
    ChangeSchedule {
        /// For the answer.
        request: RequestId,
        /// Which.
        schedule: ScheduleId,
        /// What.
        change: ScheduleChange,
    },
    /// The agent of an attempt gave a sign of life.
    Active {
        /// Which attempt.
        attempt: AttemptId,
    },
    /// A person decides whether a worker is given anything new.
    Availability {
        /// For the answer.
        request: RequestId,
        /// Which worker.
        worker: WorkerId,
        /// From now on.
        availability: Availability,
    },
    /// A person forgets a worker that will not come back.
    RemoveWorker {
        /// For the answer.
        request: RequestId,
        /// Which worker.
        worker: WorkerId,
    },
    /// A person sets, raises or takes away what a task and its subtasks may use.
    SetTaskBudget {
        /// For the answer.
        request: RequestId,
        /// Which.
        task: TaskId,
        /// How it changes.
        change: BudgetChange,
    },
    /// A person sets what a project may use in a day, or adds to today's.
    SetProjectBudget {
        /// For the answer.
        request: RequestId,
        /// Its name, its id, or the beginning of that.
        project: String,
        /// Id and name of the project that is meant where none is known by that: one without tasks so far.
        new: Option<(ProjectId, String)>,
        /// How it changes.
        change: BudgetChange,
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
    /// Somebody set the wall clock: it is ahead of the time of inputs by so much, or behind.
    ClockSet {
        /// By how many milliseconds.
        ahead_ms: i64,
    },
    /// The head was started, by the wall clock of now, which may be another one than that of an earlier
    /// head. The first input of all.
    ClockTaken,
    /// The machine was suspended until now.
    Resumed,
    /// A deadline has passed.
    Tick,
}

/// What a person wants of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScheduleChange {
    /// No runs for now.
    Pause,
    /// Runs again.
    Resume,
    /// No runs any more.
    Delete,
}

/// A task to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTask {
    /// What is asked for.
    pub spec: Box<TaskSpec>,
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
    /// How long its agent has run, where it runs still, as far as the worker says it.
    pub running: Option<Duration>,
}

/// What a running attempt has used so far, in all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meter {
    /// Tokens, cost and model.
    pub reading: Reading,
    /// For how long its agent has run, where that has ended and its result is on its way.
    pub ran: Option<Duration>,
    /// The CLI met a limit of its account since the last reading.
    pub limited: Option<Limited>,
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
    /// It was not begun, and will not be: it was called back.
    GivenBack,
    /// The attempt is over, and its result is stored.
    Finished(Box<Outcome>),
    /// The attempt is over, and bytes of its result are not stored, nor kept by its worker.
    Unstored,
}
