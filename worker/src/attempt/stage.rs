//! How far an attempt is.

use std::time::Duration;

/// How far an attempt is, as others need to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Its CLI does not run yet.
    Preparing,
    /// Its CLI runs.
    Running {
        /// From when on, in time since the machine's start.
        since: Duration,
    },
    /// Its CLI has ended; the result is on its way to the head.
    Delivering,
}

impl Stage {
    /// From when on its CLI has run, in time since the machine's start; none unless it runs.
    pub fn running_since(self) -> Option<Duration> {
        match self {
            Self::Running { since } => Some(since),
            Self::Preparing | Self::Delivering => None,
        }
    }
}
