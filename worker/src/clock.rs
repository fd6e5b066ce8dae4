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

/// Waits for the next of the moments that lie `every` apart. They are the same for all that wait, so
/// that who looks for something now and then does it in one wake-up with the others.
pub async fn beat(every: Duration) {
    tokio::time::sleep(until_beat(since_boot(), every)).await;
}

fn until_beat(now: Duration, every: Duration) -> Duration {
    let past = now.as_nanos() % every.as_nanos().max(1);
    every.saturating_sub(Duration::from_nanos(u64::try_from(past).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_beats_of_one_length_fall_together() {
        let beat = |ms| until_beat(Duration::from_millis(ms), Duration::from_secs(5));
        assert_eq!(beat(20_000), Duration::from_secs(5));
        assert_eq!(beat(20_001), Duration::from_millis(4999));
        assert_eq!(beat(24_999), Duration::from_millis(1));
    }
}
