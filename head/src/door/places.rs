//! How many connections there may be.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use futures::FutureExt;
use rustix::process::{Resource, getrlimit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Open files that are counted with where there is no limit.
const OPEN_FILES_MAX: u64 = 1024 * 1024;
/// Most strangers: each costs some 50 KiB of memory.
const STRANGERS_MAX: usize = 4096;

/// The places for connections. Each is an open file.
#[derive(Clone, Debug)]
pub struct Places {
    all: Arc<Semaphore>,
    strangers: Arc<Strangers>,
}

#[derive(Debug)]
struct Strangers {
    most: usize,
    waiting: Mutex<Waiting>,
}

/// The strangers that are there, the oldest first.
#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    tickets: BTreeMap<u64, oneshot::Sender<()>>,
}

/// A connection's place, as long as it lives.
#[derive(Debug)]
pub(super) struct Place {
    _one: OwnedSemaphorePermit,
    stranger: Option<Stranger>,
}

#[derive(Debug)]
struct Stranger {
    all: Arc<Strangers>,
    ticket: u64,
    gives_way: oneshot::Receiver<()>,
}

impl Places {
    /// Half of the files that this process may open, and of these a half for strangers.
    #[must_use]
    pub fn of_this_process() -> Self {
        let files = getrlimit(Resource::Nofile).current;
        let places = files.unwrap_or(OPEN_FILES_MAX).min(OPEN_FILES_MAX) / 2;
        Self::of(usize::try_from(places).unwrap_or(STRANGERS_MAX))
    }

    /// So many.
    #[must_use]
    pub fn of(places: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(places)),
            strangers: Arc::new(Strangers {
                most: (places / 2).min(STRANGERS_MAX),
                waiting: Mutex::default(),
            }),
        }
    }

    /// A place for a stranger, if there is one. When there are too many strangers, the oldest gives
    /// way: who belongs here is one for a moment only.
    pub(super) fn take(&self) -> Option<Place> {
        let one = Arc::clone(&self.all).try_acquire_owned().ok()?;
        Some(Place {
            _one: one,
            stranger: Some(self.strangers.enter()),
        })
    }
}

impl Strangers {
    fn enter(self: &Arc<Self>) -> Stranger {
        let (sender, gives_way) = oneshot::channel();
        let mut waiting = self.waiting();
        if waiting.tickets.len() >= self.most
            && let Some((_, oldest)) = waiting.tickets.pop_first()
        {
            // One that is gone has given way.
            let _ = oldest.send(());
        }
        let ticket = waiting.next;
        waiting.next += 1;
        waiting.tickets.insert(ticket, sender);
        Stranger {
            all: Arc::clone(self),
            ticket,
            gives_way,
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.all.waiting().tickets.remove(&self.ticket);
    }
}

impl Place {
    /// It is no stranger's any more.
    pub(super) fn is_known(&mut self) {
        self.stranger = None;
    }

    /// Whether it is a stranger's that has to give way, for a task that is woken when it has to.
    pub(super) fn must_go(&mut self, context: &mut Context<'_>) -> bool {
        let stranger = self.stranger.as_mut();
        stranger.is_some_and(|stranger| {
            matches!(stranger.gives_way.poll_unpin(context), Poll::Ready(_))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn the_oldest_stranger_gives_way_and_who_belongs_here_does_not() {
        let places = Places::of(8);
        let mut context = Context::from_waker(Waker::noop());
        let mut known = places.take().unwrap();
        known.is_known();
        let mut strangers: Vec<_> = (0..6).map(|_| places.take().unwrap()).collect();
        let go: Vec<bool> = strangers
            .iter_mut()
            .map(|place| place.must_go(&mut context))
            .collect();
        assert_eq!(go, [true, true, false, false, false, false]);
        assert!(!known.must_go(&mut context));
        drop(strangers);
        assert!(places.strangers.waiting().tickets.is_empty());
    }

    #[test]
    fn there_are_as_many_places_as_there_are() {
        let places = Places::of(8);
        let mut all: Vec<_> = std::iter::from_fn(|| places.take()).collect();
        assert_eq!(all.len(), 8);
        all.pop();
        assert!(places.take().is_some());
    }
}
