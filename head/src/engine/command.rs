//! What reaches the engine's thread, and what leaves it towards a worker.

use std::sync::{Mutex, Weak};

use orchestra_core::{
    Availability, ConnectionId, Core, Input, NewSchedule, NewTask, Reply, ScheduleChange,
    StopReason, Welcome,
};
use orchestra_types::{
    AccountName, ApplyResult, AttemptId, BudgetChange, Outcome, Priority, ProjectId, RunnerName,
    ScheduleId, TaskId, TaskSpec, Timestamp, WorkerId,
};
use tokio::sync::{mpsc, oneshot};

use crate::{backup::Touched, store::Store};

/// What a task takes on the disk besides its description.
const TASK_BYTES: usize = 1024;

/// One thing for the engine to do. `at` is when it arrived, so that inputs which waited behind a
/// slow disk do not look late.
pub(super) enum Command {
    /// Something happened, and nobody waits for an answer.
    Input { at: Timestamp, input: Input },
    /// A client asks for a change.
    Ask {
        at: Timestamp,
        ask: Ask,
        reply: oneshot::Sender<Reply>,
    },
    /// A worker's stream began: from here on messages for it go to `outbox`.
    Attach {
        at: Timestamp,
        connection: ConnectionId,
        outbox: mpsc::Sender<Outgoing>,
        input: Input,
    },
    /// Somebody wants to know which rows change, as long as it lives.
    Touch(Weak<Mutex<Touched>>),
    /// Somebody wants to read.
    Query(Query),
    /// Finish what waits, then end.
    Stop,
}

impl Command {
    /// Whether it waits while the disk is full: results, which are not acknowledged until then.
    /// What keeps leases alive does not wait, and what is asked is refused before it comes here.
    pub fn waits_for_room(&self) -> bool {
        matches!(
            self,
            Self::Input {
                input: Input::Reported { .. } | Input::Closed { .. },
                ..
            }
        )
    }
}

/// What a client may ask for.
pub(super) enum Ask {
    Submit {
        key: String,
        tasks: Vec<NewTask>,
    },
    Cancel(TaskId),
    Retry(TaskId),
    Release(TaskId),
    Prioritise(TaskId, Priority),
    Schedule {
        key: String,
        schedules: Vec<NewSchedule>,
    },
    ChangeSchedule(ScheduleId, ScheduleChange),
    SetAvailability(WorkerId, Availability),
    RemoveWorker(WorkerId),
    RecordApply {
        task: TaskId,
        result: ApplyResult,
    },
    SetAccount {
        name: AccountName,
        max: Option<u32>,
    },
    ResumeAccount(AccountName),
    SetTaskBudget {
        task: TaskId,
        change: BudgetChange,
    },
    SetProjectBudget {
        project: String,
        new: Option<(ProjectId, String)>,
        change: BudgetChange,
    },
}

impl Ask {
    /// About how much of the disk it takes.
    pub fn bytes(&self) -> u64 {
        let Self::Submit { tasks, .. } = self else {
            return 0;
        };
        let text: usize = tasks.iter().map(|t| t.spec.description.len()).sum();
        2 * (text + tasks.len() * TASK_BYTES) as u64
    }

    /// Whether it is taken while the disk is full, as long as the journal has room: what fills the disk may
    /// be the very task that is to end.
    pub fn ends_work(&self) -> bool {
        matches!(self, Self::Cancel(_))
    }
}

/// Reads, and answers by itself.
pub(super) type Query = Box<dyn FnOnce(&View<'_>) + Send>;

/// What may be read: only what is durable.
pub struct View<'a> {
    /// Tasks and workers.
    pub core: &'a Core,
    /// Specifications, attempts and outcomes.
    pub store: &'a Store,
}

/// A message for a worker. It is small: each worker's channel has room for 32 from its beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// The answer to its first message.
    Welcome(Box<Welcome>),
    /// Start an attempt.
    Start(Box<Start>),
    /// End an attempt.
    Stop {
        /// Which.
        attempt: AttemptId,
        /// Why.
        reason: StopReason,
    },
    /// Give an attempt back if it waits.
    Retract {
        /// Which.
        attempt: AttemptId,
    },
    /// Whether it will be given anything new.
    Availability(Availability),
    /// The reports up to this number are durable.
    AckReports {
        /// Up to which.
        up_to: u64,
    },
}

/// An attempt to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Which.
    pub attempt: AttemptId,
    /// With which runner.
    pub runner: RunnerName,
    /// What is to be done.
    pub spec: TaskSpec,
    /// What an attempt before it has done that a budget or a limit stopped: this one goes on from
    /// there.
    pub before: Option<Box<Outcome>>,
}
