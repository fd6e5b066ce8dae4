//! Whom to tell what, once the changes are durable.

use orchestra_types::{
    AccountName, AttemptId, Failure, Measure, ProjectId, RunnerName, ScheduleId, TaskId,
    TaskStatus, WorkerId,
};

use crate::{ConnectionId, RequestId, budgets::ProjectCandidate, row::Availability};

/// One thing to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The answer to a client.
    Reply {
        /// Whose question.
        request: RequestId,
        /// The answer.
        reply: Reply,
    },
    /// The answer to a worker's first message.
    Welcome {
        /// The stream.
        connection: ConnectionId,
        /// What it says.
        welcome: Welcome,
    },
    /// Start an attempt.
    Start {
        /// The stream.
        connection: ConnectionId,
        /// Which.
        attempt: AttemptId,
        /// With which runner.
        runner: RunnerName,
    },
    /// End an attempt.
    Stop {
        /// The stream.
        connection: ConnectionId,
        /// Which.
        attempt: AttemptId,
        /// Why.
        reason: StopReason,
    },
    /// Give an attempt back if it waits for a slot.
    Retract {
        /// The stream.
        connection: ConnectionId,
        /// Which.
        attempt: AttemptId,
    },
    /// The reports up to this number are durable.
    AckReports {
        /// The stream.
        connection: ConnectionId,
        /// Up to which.
        up_to: u64,
    },
    /// End a stream that another one of the same worker has replaced, or that broke the protocol.
    Disconnect {
        /// The stream.
        connection: ConnectionId,
    },
    /// Put an attempt's result in place, then say `Input::Closed`. Doing it twice does no harm.
    Close {
        /// Which.
        attempt: AttemptId,
        /// How the task will end; none when another attempt follows.
        status: Option<TaskStatus>,
    },
    /// A task is forgotten: what else is kept of it may go.
    Forgotten {
        /// Its latest attempt.
        last: AttemptId,
    },
    /// Tell a worker whether it will be given anything new.
    Availability {
        /// The stream.
        connection: ConnectionId,
        /// From now on.
        availability: Availability,
    },
    /// A task changed: tell those who watch it.
    Changed {
        /// Which.
        task: TaskId,
    },
}

/// Why an attempt is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// A person wants it.
    Cancelled,
    /// It runs longer than it may.
    Timeout,
    /// Nothing was heard of its agent for longer than the task allows.
    Stalled,
    /// A budget is used up.
    Budget,
}

/// What a worker is told when it attaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// Grows with each attachment.
    pub epoch: u64,
    /// Reports up to here are durable.
    pub acked_up_to: u64,
    /// Go on with these.
    pub keep: Vec<AttemptId>,
    /// End these: they are no longer yours.
    pub kill: Vec<AttemptId>,
    /// Those of `kill` of which nothing is known here. A head that comes from a backup has not given them
    /// to another worker: what they have done is nowhere else.
    pub unknown: Vec<AttemptId>,
}

/// An answer to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The tasks are durable.
    Submitted {
        /// In the order of the request.
        ids: Vec<TaskId>,
        /// The key was known: these are the earlier tasks.
        duplicate: bool,
    },
    /// Nothing was submitted.
    SubmitRefused(SubmitRefused),
    /// Done, or on its way: the task as it is now can be read.
    Done(TaskId),
    /// An account was changed: as it is now it can be read.
    AccountDone(AccountName),
    /// There is no such account.
    NoAccount(AccountName),
    /// The schedules are durable.
    Scheduled {
        /// In the order of the request.
        ids: Vec<ScheduleId>,
        /// The key was known: these are the earlier ones.
        duplicate: bool,
    },
    /// Done: the schedule as it is now can be read, if it was not deleted.
    ScheduleDone(ScheduleId),
    /// There is no such schedule.
    NoSchedule(ScheduleId),
    /// Done: the worker as it is now can be read, if it was not removed.
    WorkerDone(WorkerId),
    /// There is no such worker.
    NoWorker(WorkerId),
    /// A project's budget was changed: as it is now it can be read.
    ProjectDone(ProjectId),
    /// There is no such project.
    NoProject(String),
    /// Any of these projects may be meant.
    SeveralProjects(Vec<ProjectCandidate>),
    /// The budget cannot be raised.
    RaiseRefused(RaiseRefused),
    /// There is no such task.
    NotFound(NotFound),
    /// It cannot be cancelled.
    CancelRefused(CancelRefused),
    /// The worker cannot be removed.
    RemoveRefused(RemoveRefused),
    /// It cannot be tried again.
    RetryRefused(RetryRefused),
    /// Its priority cannot be changed.
    PriorityRefused(PriorityRefused),
    /// The task waits on.
    ReleaseRefused(ReleaseRefused),
}

/// There is no such task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotFound(pub TaskId);

/// Why a worker was not removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemoveRefused {
    /// It is connected.
    Connected(WorkerId),
    /// It has so many attempts that may go on there.
    Holds(WorkerId, usize),
}

/// Why nothing was submitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubmitRefused {
    /// There is no task in it.
    Empty,
    /// There are too many tasks in it.
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// There would be too many recurring tasks.
    TooManySchedules {
        /// The limit.
        limit: usize,
    },
    /// Too many tasks wait already.
    QueueFull {
        /// The limit.
        limit: u64,
    },
    /// Labels and names of all tasks would take too much memory.
    TooMuchText {
        /// The limit, in bytes.
        limit: usize,
    },
    /// There would be too many dependencies between tasks.
    TooManyEdges {
        /// The limit.
        limit: usize,
    },
    /// Tasks would require too many different things of a worker.
    TooManyKinds {
        /// The limit.
        limit: usize,
    },
    /// A task comes after one that does not exist.
    UnknownTask {
        /// The place of the task in the submission.
        index: usize,
        /// The one that does not exist.
        after: TaskId,
    },
    /// A task is a part of one that does not exist.
    UnknownParent {
        /// The place of the task in the submission.
        index: usize,
        /// The one that does not exist.
        parent: TaskId,
    },
    /// A task is a part of one that was cancelled: with it, what its agent wants is.
    CancelledParent {
        /// The place of the task in the submission.
        index: usize,
        /// The one that was cancelled.
        parent: TaskId,
    },
    /// Too many tasks stand above one.
    TooDeep {
        /// The place of the task in the submission.
        index: usize,
        /// The limit.
        limit: usize,
    },
    /// A task comes after a place that the submission does not have.
    UnknownIndex {
        /// The place of the task in the submission.
        index: usize,
        /// The place that does not exist.
        after: u32,
    },
    /// Tasks come after each other in a circle.
    Cycle {
        /// Their places in the submission, each after the next, the first one again at the end.
        indices: Vec<usize>,
    },
    /// No worker has such a runner, and it is not one that Orchestra knows.
    UnknownRunner {
        /// The place of the task in the submission.
        index: usize,
        /// The name.
        runner: RunnerName,
        /// The names that would be accepted.
        known: Vec<RunnerName>,
    },
}

/// Why a task cannot be cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelRefused {
    /// It has ended.
    Ended(TaskId, TaskStatus),
    /// Its agent has ended, and the result is being put in place.
    Finishing(TaskId),
}

/// Why a task cannot be tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RetryRefused {
    /// It has not ended.
    NotEnded(TaskId, TaskStatus),
    /// It has succeeded: submit it again as a new task.
    Succeeded(TaskId),
    /// It would be cancelled again because of the second one, which ended so.
    Behind(TaskId, TaskId, TaskStatus),
    /// Its budget, or that of a task above it, is used up: it would only be held.
    UsedUp(TaskId, Box<Failure>),
}

/// Why a budget was not raised: it does not have a limit that was to be raised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RaiseRefused {
    /// Of a task.
    Task {
        /// Which.
        id: TaskId,
        /// What it does not limit.
        lacks: Measure,
        /// The budget that keeps it from going on; none where no budget does.
        used_up: Option<Box<Failure>>,
    },
    /// Of a project.
    Project {
        /// Its name.
        name: String,
        /// What it does not limit.
        lacks: Measure,
    },
}

/// Why a task is not let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseRefused {
    /// It waits for none.
    NotBlocked(TaskId, TaskStatus),
    /// It waits for the second one, which has not ended.
    Waits(TaskId, TaskId, TaskStatus),
}

/// Why a task's priority cannot be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PriorityRefused {
    /// It has ended.
    Ended(TaskId, TaskStatus),
}
