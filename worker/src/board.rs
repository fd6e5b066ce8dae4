//! The newest reading of each running attempt: written by the owners of attempts, sent by the session.
//!
//! Nothing of it is kept on disk: a reading that is lost is made good by the next one, and the last
//! one by the outcome.

use std::collections::{BTreeMap, BTreeSet};

use orchestra_types::AttemptId;
use tokio::sync::watch;

/// All readings of one kind. Cheap to clone.
#[derive(Debug)]
pub struct Board<R>(watch::Sender<Readings<R>>);

impl<R> Clone for Board<R> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<R> Default for Board<R> {
    fn default() -> Self {
        Self(watch::Sender::new(Readings {
            all: BTreeMap::new(),
            fresh: BTreeSet::new(),
        }))
    }
}

#[derive(Debug)]
struct Readings<R> {
    all: BTreeMap<AttemptId, R>,
    /// Those that the head has not been told.
    fresh: BTreeSet<AttemptId>,
}

impl<R: Default> Board<R> {
    /// Changes the reading of an attempt.
    pub fn change(&self, attempt: AttemptId, change: impl FnOnce(&mut R)) {
        self.0.send_modify(|readings| {
            change(readings.all.entry(attempt).or_default());
            readings.fresh.insert(attempt);
        });
    }
}

impl<R> Board<R> {
    /// The attempt is over: its outcome says the rest.
    pub fn end(&self, attempt: AttemptId) {
        self.0.send_if_modified(|readings| {
            readings.all.remove(&attempt);
            readings.fresh.remove(&attempt);
            false
        });
    }

    /// Resolves when there is something to tell.
    pub fn changes(&self) -> watch::Receiver<impl Sized + use<R>> {
        self.0.subscribe()
    }

    /// A new stream: the head must be told everything again.
    pub fn renew(&self) {
        self.0.send_if_modified(|readings| {
            readings.fresh = readings.all.keys().copied().collect();
            !readings.fresh.is_empty()
        });
    }

    /// At most so many of what the head has not been told, each as `told` says it.
    pub fn take<T>(&self, most: usize, mut told: impl FnMut(AttemptId, &mut R) -> T) -> Vec<T> {
        let mut taken = Vec::new();
        self.0.send_if_modified(|readings| {
            while taken.len() < most {
                let Some(attempt) = readings.fresh.pop_first() else {
                    break;
                };
                if let Some(reading) = readings.all.get_mut(&attempt) {
                    taken.push(told(attempt, reading));
                }
            }
            false
        });
        taken
    }
}
