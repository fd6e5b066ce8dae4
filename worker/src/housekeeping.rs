//! Housekeeping of a running worker: at its start, every few hours, and when a person asks for it.

use std::time::Duration;

use orchestra_proto::v1;
use tokio::{
    sync::mpsc,
    task::{JoinError, spawn_blocking},
    time::{Instant, sleep_until},
};

use crate::gc::{self, Places};

/// How often caches are looked at.
const EVERY: Duration = Duration::from_secs(6 * 3600);
/// How many may ask while the one before is served; others are not answered.
const ASKS_BOUND: usize = 4;

/// A person wants it.
#[derive(Clone, Copy, Debug)]
struct Ask {
    request: u64,
    dry_run: bool,
}

/// Reaches the housekeeper, and hears its answers.
#[derive(Debug)]
pub struct Handle {
    asks: mpsc::Sender<Ask>,
    answers: mpsc::Receiver<v1::GarbageCollected>,
}

/// Keeps house in a worker's directory.
#[derive(Debug)]
pub struct Housekeeper {
    places: Places,
    asks: mpsc::Receiver<Ask>,
    answers: mpsc::Sender<v1::GarbageCollected>,
}

impl Handle {
    /// Asks for it; the answer comes with [`Handle::answered`].
    pub fn ask(&self, wanted: &v1::CollectGarbage) {
        let v1::CollectGarbage { request, dry_run } = *wanted;
        if self.asks.try_send(Ask { request, dry_run }).is_err() {
            tracing::warn!(request, "housekeeping is asked for too often");
        }
    }

    /// The next answer. Never resolves when the housekeeper has ended. May be dropped and called
    /// again at any time.
    pub async fn answered(&mut self) -> v1::GarbageCollected {
        match self.answers.recv().await {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }
}

impl Housekeeper {
    /// One that has not begun.
    pub fn new(places: Places) -> (Self, Handle) {
        let (asks, inbox) = mpsc::channel(ASKS_BOUND);
        let (outbox, answers) = mpsc::channel(ASKS_BOUND);
        let keeper = Self {
            places,
            asks: inbox,
            answers: outbox,
        };
        (keeper, Handle { asks, answers })
    }

    /// Keeps house until nobody can ask any more.
    pub async fn run(mut self) {
        let mut due = Instant::now();
        loop {
            let asked = tokio::select! {
                asked = self.asks.recv() => match asked {
                    Some(ask) => Some(ask),
                    None => return,
                },
                () = sleep_until(due) => None,
            };
            let dry_run = asked.is_some_and(|ask| ask.dry_run);
            let collected = self.collect(dry_run).await;
            if !dry_run {
                due = Instant::now() + EVERY;
            }
            if let Some(Ask { request, .. }) = asked {
                let (garbage, error) = match collected {
                    Ok(garbage) => (Some(garbage), String::new()),
                    Err(error) => (None, format!("housekeeping failed: {error}")),
                };
                let answer = v1::GarbageCollected {
                    request,
                    garbage,
                    error,
                };
                // Who asked may be gone.
                self.answers.send(answer).await.unwrap_or_default();
            }
        }
    }

    async fn collect(&self, dry_run: bool) -> Result<v1::Garbage, JoinError> {
        let places = self.places.clone();
        let collected = spawn_blocking(move || gc::collect(&places, dry_run)).await;
        match &collected {
            Ok(garbage) if dry_run || garbage.removals.is_empty() => {}
            Ok(garbage) => tracing::info!(bytes = garbage.bytes, "housekeeping is done"),
            Err(error) => tracing::error!(%error, "housekeeping failed"),
        }
        collected
    }
}
