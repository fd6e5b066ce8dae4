//! What is kept besides the rows, and for how long: events go with their task; stored bytes go
//! when nothing has referred to them for a while; so do outputs in the shared context whose task is forgotten.
//!
//! The core decides which tasks are forgotten. What a forgotten task leaves is removed here, at
//! once where it is known, and else by the next look at everything (see `sweep`).

mod doubt;
mod outputs;
mod sweep;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use orchestra_types::AttemptId;
use tokio::{
    sync::{Mutex, OwnedMutexGuard, mpsc},
    time::{Instant, interval, sleep_until},
};

use crate::{
    blobs::Blobs,
    context,
    engine::Handle,
    events::{self, Events},
    metrics::Metrics,
    shutdown::Stop,
};

pub use doubt::warn as warn_of_doubt;
pub use outputs::OutputLimits;
pub use sweep::Mode;

/// Forgotten tasks that may wait; the sweep finds those for which there is no room.
pub const FORGOTTEN_BOUND: usize = 1024;
/// How long after the start, and after the first forgotten task, everything is looked at.
const SWEEP_AFTER: Duration = Duration::from_secs(3600);
/// How often events and outputs are looked at that may have become too old, or too many.
const LIMITS_EVERY: Duration = Duration::from_secs(3600);
/// How often everything is looked at when no task is forgotten: uploads may have been given up.
const SWEEP_EVERY: Duration = Duration::from_secs(24 * 3600);

/// Removes what nobody needs. Cheap to clone.
#[derive(Clone)]
pub struct Keeper {
    /// Which rows there are.
    pub engine: Handle,
    /// Go with their tasks.
    pub events: Events,
    /// Go when nothing refers to them.
    pub blobs: Blobs,
    /// How long bytes are kept that nothing refers to.
    pub uploads_for: Duration,
    /// Has the outputs of tasks.
    pub context: Arc<context::Store>,
    /// How many of them are kept of forgotten tasks.
    pub outputs: OutputLimits,
    /// What all rows take is told here.
    pub metrics: Arc<Metrics>,
    /// Held while something is removed, or while nothing may be.
    pub gate: Arc<Mutex<()>>,
}

impl Keeper {
    /// Runs until the stop is wished.
    pub async fn run(self, mut forgotten: mpsc::Receiver<AttemptId>, stop: Stop) {
        let mut sweep_at = Instant::now() + SWEEP_AFTER;
        let mut limits = interval(LIMITS_EVERY);
        loop {
            tokio::select! {
                () = stop.wished() => return,
                Some(last) = forgotten.recv() => {
                    self.forget(last).await;
                    sweep_at = sweep_at.min(Instant::now() + SWEEP_AFTER);
                }
                _ = limits.tick() => {
                    if let Err(error) = self.events.keep_limits().await {
                        tracing::debug!(%error, "old events are not dropped");
                    }
                    tokio::select! {
                        () = stop.wished() => return,
                        () = self.sweep_outputs_and_log() => {}
                    }
                }
                () = sleep_until(sweep_at) => {
                    tokio::select! {
                        () = stop.wished() => return,
                        () = self.sweep_and_log() => {}
                    }
                    sweep_at = Instant::now() + SWEEP_EVERY;
                }
            }
        }
    }

    /// Nothing is removed while this is held.
    pub async fn hold(&self) -> Result<(OwnedMutexGuard<()>, events::Hold), events::Error> {
        let gate = Arc::clone(&self.gate).lock_owned().await;
        Ok((gate, self.events.hold().await?))
    }

    async fn forget(&self, last: AttemptId) {
        let _gate = self.gate.lock().await;
        if let Err(error) = self.events.forget(last).await {
            tracing::debug!(task = %last.task, %error, "events are not removed");
        }
    }

    async fn sweep_and_log(&self) {
        self.blobs.forget_old_partials();
        match self.sweep(Mode::Remove).await {
            Ok(swept) => tracing::info!(
                files = swept.files,
                bytes = swept.bytes,
                events = swept.events,
                outputs = swept.outputs,
                "removed what nothing refers to"
            ),
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(error, "what nothing refers to is not removed");
            }
        }
    }
}
