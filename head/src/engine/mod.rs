//! One OS thread owns the core and the store; everybody else has a [`Handle`].
//!
//! ```text
//! gRPC, sessions, closer ──► bounded channel ──► engine thread
//!      take what waits ─► Core::handle each ─► one Store::commit ─► deliver ─► answer queries
//! ```
//!
//! Nothing is told to anybody before the commit that it follows from is durable. If a commit
//! fails, memory is ahead of the disk, and the engine ends: the process must stop with it. A read that
//! fails costs only who asked.
//! While nothing happens the thread sleeps until the core's next deadline.

mod clock;
mod command;
mod delivery;
mod handle;
mod observer;
mod thread;

#[cfg(test)]
mod tests;

use std::{sync::Arc, thread::JoinHandle};

use orchestra_core::{Core, Doubt};
use orchestra_types::{AttemptId, TaskStatus};
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::{
    metrics::Metrics,
    store::{self, Store},
    traces::Traces,
};

pub use clock::Clock;
pub use command::{Outgoing, Start, View};
pub use handle::{AskError, Attachment, Handle, ReadError, Stopped};

/// Inputs that may wait for the engine. Above it, senders wait: their peers feel it.
const COMMANDS_BOUND: usize = 4096;
/// Changes that a watcher may be behind before it must look at everything again.
const CHANGES_BOUND: usize = 16 * 1024;

/// Why the engine ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// Something could not be made durable or read back.
    #[error("the head's store failed; nothing was acknowledged since")]
    Store(#[from] store::Error),
    /// The thread could not be started.
    #[error("failed to start the engine's thread")]
    Thread(#[source] std::io::Error),
    /// The thread panicked.
    #[error("the engine panicked; this is a bug in Orchestra")]
    Panicked,
}

/// An attempt whose result is to be put in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close {
    /// Which.
    pub attempt: AttemptId,
    /// How the task will end; none when another attempt follows.
    pub status: Option<TaskStatus>,
}

/// Who is told of what was committed.
pub struct Observed {
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Where spans go to; none where none are sent.
    pub traces: Option<Traces>,
}

impl From<Arc<Metrics>> for Observed {
    fn from(metrics: Arc<Metrics>) -> Self {
        let traces = None;
        Self { metrics, traces }
    }
}

/// The running engine, as its owner sees it.
pub struct Engine {
    /// For everybody.
    pub handle: Handle,
    /// Why nothing is forgotten for its age, since the start.
    pub doubt: Option<Doubt>,
    ended: oneshot::Receiver<Result<(), Failed>>,
    thread: JoinHandle<()>,
}

/// Restores the core from the store and starts the thread. Blocks while it reads.
///
/// `closes` takes the attempts that are to be closed; each must lead to `Input::Closed`. `forgotten`
/// takes the latest attempts of tasks that are forgotten, as long as it has room.
pub fn start(
    store: Store,
    config: orchestra_core::Config,
    closes: mpsc::Sender<Close>,
    forgotten: mpsc::Sender<AttemptId>,
    observed: impl Into<Observed>,
    runtime: tokio::runtime::Handle,
) -> Result<Engine, Failed> {
    start_by(
        Clock::start(),
        store,
        config,
        closes,
        forgotten,
        observed,
        runtime,
    )
}

/// The same by another clock than the machine's, for tests.
pub(crate) fn start_by(
    clock: Clock,
    store: Store,
    config: orchestra_core::Config,
    closes: mpsc::Sender<Close>,
    forgotten: mpsc::Sender<AttemptId>,
    observed: impl Into<Observed>,
    runtime: tokio::runtime::Handle,
) -> Result<Engine, Failed> {
    let disk = store.disk();
    let rows = store.load()?;
    let observer = observer::Observer::new(observed.into(), &rows);
    let (core, step) = Core::restore(config, clock.now(), rows);
    let doubt = core.doubt();
    let (commands, inbox) = mpsc::channel(COMMANDS_BOUND);
    let (changes, _) = broadcast::channel(CHANGES_BOUND);
    let delivery = delivery::Delivery::new(changes.clone(), closes, forgotten);
    let state = thread::State::new(core, store, clock.clone(), inbox, delivery, observer);
    let (end, ended) = oneshot::channel();
    let body = move || thread::run(state, step, &runtime, end);
    let builder = std::thread::Builder::new().name("engine".to_owned());
    let thread = builder.spawn(body).map_err(Failed::Thread)?;
    Ok(Engine {
        handle: Handle::new(commands, changes, clock, disk),
        doubt,
        ended,
        thread,
    })
}

impl Engine {
    /// Resolves when the engine has ended and the store is closed, with the reason when it was not
    /// asked to.
    pub async fn ended(&mut self) -> Result<(), Failed> {
        // It is told once; who asks again has been told, and a second wait would panic.
        if self.ended.is_terminated() {
            return Ok(());
        }
        let ended = (&mut self.ended).await;
        ended.unwrap_or(Err(Failed::Panicked))
    }

    /// Waits for the thread. To be called after `ended`, so that it takes no time.
    pub fn join(self) -> Result<(), Failed> {
        self.thread.join().map_err(|_| Failed::Panicked)
    }
}
