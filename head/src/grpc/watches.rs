//! How many streams may be followed at once: each costs memory, and a slow reader keeps it.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::status::{self, Result};

/// Streams of tasks and events that may be open at once.
pub(super) const WATCHES_MAX: usize = 4096;

/// Counts the streams that are watched.
#[derive(Clone, Debug)]
pub struct Watches {
    free: Arc<Semaphore>,
}

/// The right to one stream, as long as it lives.
#[derive(Debug)]
pub(super) struct Permit {
    _permit: OwnedSemaphorePermit,
}

impl Default for Watches {
    fn default() -> Self {
        Self {
            free: Arc::new(Semaphore::new(WATCHES_MAX)),
        }
    }
}

impl Watches {
    /// Takes a place, or refuses when there are too many.
    pub(super) fn begin(&self) -> Result<Permit> {
        let permit = Arc::clone(&self.free).try_acquire_owned();
        let permit = permit.map_err(|_| status::too_many_watches(WATCHES_MAX))?;
        Ok(Permit { _permit: permit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_watch_too_many_is_refused_until_another_ends() {
        let watches = Watches::default();
        let all: Vec<_> = (0..WATCHES_MAX).map(|_| watches.begin().unwrap()).collect();
        let refused = watches.begin().unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        drop(all);
        assert!(watches.begin().is_ok());
    }
}
