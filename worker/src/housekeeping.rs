//! Housekeeping of a running worker: at its start, every few hours, when its disk is full, and when a
//! person asks for it.

use std::time::Duration;

use orchestra_config::KeepConfig;
use orchestra_proto::v1;
use tokio::{
    sync::{mpsc, watch},
    task::{JoinError, spawn_blocking},
    time::{Instant, sleep_until},
};

use crate::{
    gc::{self, Places},
    room::Room,
};

/// How often caches are looked at.
const EVERY: Duration = Duration::from_secs(6 * 3600);
/// How often on a full disk: what an attempt needed may be needed no more.
const EVERY_WHEN_FULL: Duration = Duration::from_secs(600);
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
    keep: KeepConfig,
    room: watch::Receiver<Room>,
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
    pub fn new(places: Places, keep: KeepConfig, room: watch::Receiver<Room>) -> (Self, Handle) {
        let (asks, inbox) = mpsc::channel(ASKS_BOUND);
        let (outbox, answers) = mpsc::channel(ASKS_BOUND);
        let keeper = Self {
            places,
            keep,
            room,
            asks: inbox,
            answers: outbox,
        };
        (keeper, Handle { asks, answers })
    }

    /// Keeps house until nobody can ask any more.
    pub async fn run(mut self) {
        let (mut due, mut known_full) = (Instant::now(), false);
        loop {
            let asked = tokio::select! {
                asked = self.asks.recv() => match asked {
                    Some(ask) => Some(ask),
                    None => return,
                },
                () = sleep_until(due) => None,
                () = becomes_full(&mut self.room, &mut known_full) => None,
            };
            let dry_run = asked.is_some_and(|ask| ask.dry_run);
            let collected = self.collect(dry_run).await;
            if !dry_run {
                let is_full = self.room.borrow().lacking().is_some();
                due = Instant::now() + if is_full { EVERY_WHEN_FULL } else { EVERY };
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
        let (places, keep, told) = (self.places.clone(), self.keep, self.room.borrow().clone());
        let collected =
            spawn_blocking(move || gc::collect_for(&places, &keep, &told, dry_run)).await;
        match &collected {
            Ok(garbage) if dry_run || garbage.removals.is_empty() => {}
            Ok(garbage) => tracing::info!(bytes = garbage.bytes, "housekeeping is done"),
            Err(error) => tracing::error!(%error, "housekeeping failed"),
        }
        collected
    }
}

/// The disk has become full; `known` is whether that was so the last time. Never resolves when nobody
/// looks at the disk any more. May be dropped and called again at any time.
async fn becomes_full(room: &mut watch::Receiver<Room>, known: &mut bool) {
    loop {
        let was = *known;
        *known = room.borrow_and_update().lacking().is_some();
        if *known && !was {
            return;
        }
        if room.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Waker},
    };

    use super::*;

    #[test]
    fn a_disk_that_becomes_full_is_served_once_and_one_that_fills_again_once_more() {
        let room = |free| Room {
            total: 1 << 40,
            free,
            ..Room::default()
        };
        let (told, mut seen) = watch::channel(room(1));
        let mut known = false;
        let mut is_told = || {
            let looking = pin!(becomes_full(&mut seen, &mut known));
            looking
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_ready()
        };
        assert!(is_told(), "full from the beginning");
        assert!(!is_told());
        told.send_replace(room(2));
        assert!(!is_told(), "as full as before");
        told.send_replace(room(1 << 39));
        assert!(!is_told());
        told.send_replace(room(1));
        assert!(is_told());
        assert!(!is_told());
        drop(told);
        assert!(!is_told());
    }
}
