//! The engine's time: it never goes back, whatever becomes of the machine's clock.

use std::time::{Instant, SystemTime};

use orchestra_types::Timestamp;

/// The wall clock of the start, carried on by the monotonic one: a step of the wall clock ends no
/// lease and no delay. The next start takes the wall clock anew.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    wall: Timestamp,
    since: Instant,
}

impl Clock {
    /// A clock that starts at the wall clock's present time.
    #[must_use]
    pub fn start() -> Self {
        let wall = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Self {
            wall: Timestamp(0).plus(wall),
            since: Instant::now(),
        }
    }

    /// The present time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.wall.plus(self.since.elapsed())
    }
}
