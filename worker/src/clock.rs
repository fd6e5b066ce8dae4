//! The clocks: the wall's, for people, and the machine's, for timeouts.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use orchestra_types::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// Now, by the wall clock.
#[must_use]
pub fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Time since the machine was started, suspended time included. It goes on evenly over restarts
/// of the worker, whatever is done to the wall clock.
#[must_use]
pub fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanos)
}
