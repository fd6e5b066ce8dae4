//! The cheap async face of the engine.

use std::sync::{
    Arc, Mutex, Weak,
    atomic::{AtomicU64, Ordering},
};

use orchestra_core::{
    Availability, ConnectionId, Held, Input, NewSchedule, NewTask, Reply, ScheduleChange,
};
use orchestra_types::{
    AccountName, ApplyResult, BudgetChange, Priority, ProjectId, ScheduleId, TaskId, Timestamp,
    WorkerId, runner::WorkerInfo,
};
use tokio::sync::{broadcast, mpsc, oneshot};

use super::{
    Clock,
    command::{Ask, Command, Outgoing, View},
};
use crate::{
    backup::Touched,
    disk::{Disk, Full},
    store,
};

/// The engine has ended or is about to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the head is stopping; ask again when it is back")]
pub struct Stopped;

/// Why what was asked for is not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// The engine has ended.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// There is no room for it on the disk.
    #[error(transparent)]
    Full(#[from] Full),
}

/// Why there is no answer to a query.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The engine has ended.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// A row cannot be read.
    #[error("failed to read the head's store")]
    Store(#[from] store::Error),
}

/// The way to the engine. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    changes: broadcast::Sender<TaskId>,
    clock: Clock,
    disk: Option<Disk>,
    next_connection: Arc<AtomicU64>,
}

/// A worker's open stream.
#[derive(Debug)]
pub struct Attachment {
    /// The stream.
    pub connection: ConnectionId,
    /// What is to be sent. Closed when the engine ends the stream.
    pub outbox: mpsc::Receiver<Outgoing>,
}

impl Handle {
    pub(super) fn new(
        commands: mpsc::Sender<Command>,
        changes: broadcast::Sender<TaskId>,
        clock: Clock,
        disk: Option<Disk>,
    ) -> Self {
        Self {
            commands,
            changes,
            clock,
            disk,
            next_connection: Arc::new(AtomicU64::new(1)),
        }
    }

    /// The engine's time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// What the wall clock shows.
    #[must_use]
    pub fn wall_now(&self) -> Timestamp {
        self.clock.wall_now()
    }

    /// Submits tasks. The answer comes when they are durable.
    pub async fn submit(&self, key: String, tasks: Vec<NewTask>) -> Result<Reply, AskError> {
        self.ask(Ask::Submit { key, tasks }).await
    }

    /// Asks a task to end.
    pub async fn cancel(&self, task: TaskId) -> Result<Reply, AskError> {
        self.ask(Ask::Cancel(task)).await
    }

    /// Asks for an ended task to be tried again.
    pub async fn retry(&self, task: TaskId) -> Result<Reply, AskError> {
        self.ask(Ask::Retry(task)).await
    }

    /// Lets a blocked task go, although one that it comes after ended without success.
    pub async fn release(&self, task: TaskId) -> Result<Reply, AskError> {
        self.ask(Ask::Release(task)).await
    }

    /// Gives a task another priority.
    pub async fn prioritise(&self, task: TaskId, priority: Priority) -> Result<Reply, AskError> {
        self.ask(Ask::Prioritise(task, priority)).await
    }

    /// Adds recurring tasks. The answer comes when they are durable.
    pub async fn schedule(
        &self,
        key: String,
        schedules: Vec<NewSchedule>,
    ) -> Result<Reply, AskError> {
        self.ask(Ask::Schedule { key, schedules }).await
    }

    /// Pauses, resumes or deletes a recurring task.
    pub async fn change_schedule(
        &self,
        schedule: ScheduleId,
        change: ScheduleChange,
    ) -> Result<Reply, AskError> {
        self.ask(Ask::ChangeSchedule(schedule, change)).await
    }

    /// Decides whether a worker is given anything new.
    pub async fn set_availability(
        &self,
        worker: WorkerId,
        availability: Availability,
    ) -> Result<Reply, AskError> {
        self.ask(Ask::SetAvailability(worker, availability)).await
    }

    /// Forgets a worker that will not come back.
    pub async fn remove_worker(&self, worker: WorkerId) -> Result<Reply, AskError> {
        self.ask(Ask::RemoveWorker(worker)).await
    }

    /// Notes that a client put a task's change into a checkout, or could not.
    pub async fn record_apply(&self, task: TaskId, result: ApplyResult) -> Result<Reply, AskError> {
        self.ask(Ask::RecordApply { task, result }).await
    }

    /// Says how many attempts an account may have at once; none is as configured.
    pub async fn set_account(
        &self,
        name: AccountName,
        max: Option<u32>,
    ) -> Result<Reply, AskError> {
        self.ask(Ask::SetAccount { name, max }).await
    }

    /// Says that an account works again.
    pub async fn resume_account(&self, name: AccountName) -> Result<Reply, AskError> {
        self.ask(Ask::ResumeAccount(name)).await
    }

    /// Changes what a task and its subtasks may use.
    pub async fn set_task_budget(
        &self,
        task: TaskId,
        change: BudgetChange,
    ) -> Result<Reply, AskError> {
        self.ask(Ask::SetTaskBudget { task, change }).await
    }

    /// Changes what a project may use in a day, or adds to today's; `new` is meant where none is known.
    pub async fn set_project_budget(
        &self,
        project: String,
        new: Option<(ProjectId, String)>,
        change: BudgetChange,
    ) -> Result<Reply, AskError> {
        let ask = Ask::SetProjectBudget {
            project,
            new,
            change,
        };
        self.ask(ask).await
    }

    /// Tells what happened. Waits while too much waits already.
    pub async fn tell(&self, input: Input) -> Result<(), Stopped> {
        let at = self.now();
        self.send(Command::Input { at, input }).await
    }

    /// Reads what is durable, after everything that was told before.
    pub async fn read<T, F>(&self, read: F) -> Result<T, ReadError>
    where
        T: Send + 'static,
        F: FnOnce(&View<'_>) -> store::Result<T> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let query = move |view: &View<'_>| {
            // Who asked may be gone.
            let _ = answer.send(read(view));
        };
        self.send(Command::Query(Box::new(query))).await?;
        Ok(answered.await.map_err(|_| Stopped)??)
    }

    /// Notes every change in `touched` from here on, as long as it lives.
    pub async fn note_touched(&self, touched: Weak<Mutex<Touched>>) -> Result<(), Stopped> {
        self.send(Command::Touch(touched)).await
    }

    /// Begins a worker's stream.
    pub async fn attach(
        &self,
        info: WorkerInfo,
        held: Vec<Held>,
        first_unacked: u64,
    ) -> Result<Attachment, Stopped> {
        let connection = ConnectionId(self.next_connection.fetch_add(1, Ordering::Relaxed));
        let (sender, outbox) = mpsc::channel(outbox_bound(&info));
        let info = Box::new(info);
        let command = Command::Attach {
            at: self.now(),
            connection,
            outbox: sender,
            input: Input::Attached {
                connection,
                info,
                held,
                // The engine asks the store.
                others: Vec::new(),
                first_unacked,
            },
        };
        self.send(command).await?;
        Ok(Attachment { connection, outbox })
    }

    /// The tasks that change from here on. A receiver that lags must read everything again.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<TaskId> {
        self.changes.subscribe()
    }

    /// Lets the engine finish what waits, and end.
    pub async fn stop(&self) -> Result<(), Stopped> {
        self.send(Command::Stop).await
    }

    async fn ask(&self, ask: Ask) -> Result<Reply, AskError> {
        if let Some(disk) = &self.disk {
            match ask.ends_work() {
                true => disk.room_for_little()?,
                false => disk.room_for(ask.bytes())?,
            }
        }
        let (reply, replied) = oneshot::channel();
        let at = self.now();
        self.send(Command::Ask { at, ask, reply }).await?;
        Ok(replied.await.map_err(|_| Stopped)?)
    }

    async fn send(&self, command: Command) -> Result<(), Stopped> {
        self.commands.send(command).await.map_err(|_| Stopped)
    }
}

/// How many messages may wait for a worker. A step can order as many attempts as it takes, and stop
/// them all; a worker that is further behind than that is not reading.
fn outbox_bound(info: &WorkerInfo) -> usize {
    let prefetched: usize = info.runners.iter().map(|r| r.prefetch as usize).sum();
    1024 + 4 * (info.slots as usize + prefetched)
}
