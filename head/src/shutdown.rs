//! When the head stops: at once, or after what runs has ended.

use std::sync::{Arc, OnceLock};

use orchestra_core::Input;
use orchestra_types::{TaskStatus, Timestamp};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::engine::{Handle, ReadError};

/// The wish that the head stops. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    token: CancellationToken,
    /// When it was first asked to stop after what runs.
    since: Arc<OnceLock<Timestamp>>,
}

impl Stop {
    /// Stops now: streams end, then the services, then the engine.
    pub fn now(&self) {
        self.token.cancel();
    }

    /// Whether the head is to stop.
    #[must_use]
    pub fn is_wished(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Resolves when the head is to stop.
    pub async fn wished(&self) {
        self.token.cancelled().await;
    }

    /// Since when nothing new is started, because the head stops when what runs has ended.
    #[must_use]
    pub fn waits_since(&self) -> Option<Timestamp> {
        self.since.get().copied()
    }

    /// Starts nothing new from here on, and stops when what runs has ended. The first call counts.
    pub fn after_running(&self, engine: Handle, tracker: &TaskTracker) {
        if self.since.set(engine.now()).is_err() {
            return;
        }
        let stop = self.clone();
        tracker.spawn(async move {
            let drained = tokio::select! {
                drained = drain(&engine) => drained,
                () = stop.wished() => return,
            };
            if let Err(error) = drained {
                tracing::error!(%error, "failed to wait for running tasks; stopping now");
            }
            stop.now();
        });
    }
}

async fn drain(engine: &Handle) -> Result<(), ReadError> {
    let mut changes = engine.changes();
    engine.tell(Input::StopAssigning).await?;
    while running(engine).await? > 0 {
        match changes.recv().await {
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return Ok(()),
        }
    }
    Ok(())
}

async fn running(engine: &Handle) -> Result<u64, ReadError> {
    let count = engine.read(|view| {
        let counts = view.core.counts();
        let held = [TaskStatus::Assigned, TaskStatus::Running];
        Ok(held.map(|status| counts.with_status(status)).iter().sum())
    });
    count.await
}
