//! How fast a session dials and beats, so that a worker that was away for less than the head's lease
//! is back in time. Pure.

use std::time::Duration;

use orchestra_types::limits;

/// A head that has left so many heartbeats without an answer is not there, whatever TCP believes:
/// half of a lease at most, so that the other half is left for another stream.
pub const UNANSWERED_MAX: u32 = 3;

/// How long a session waits for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How long the head counts on a worker of which it hears nothing, at least.
    pub lease: Duration,
    /// From one heartbeat to the next.
    pub heartbeat_every: Duration,
    /// For a connection.
    pub dial_within: Duration,
    /// For the head's Welcome.
    pub welcome_within: Duration,
    /// Between two dials, at most.
    pub dial_again_within: Duration,
}

impl Pace {
    /// For a head that grants this lease; zero where it does not say.
    #[must_use]
    pub fn of(lease: Duration) -> Self {
        let lease = if lease.is_zero() {
            limits::LEASE
        } else {
            lease
        };
        Self {
            lease,
            heartbeat_every: (lease / 6).min(limits::HEARTBEAT_EVERY),
            dial_within: (lease / 3).min(Duration::from_secs(10)),
            welcome_within: lease.min(Duration::from_secs(30)),
            dial_again_within: (lease / 6).min(Duration::from_secs(10)),
        }
    }

    /// How long a head may answer nothing.
    #[must_use]
    pub fn unanswered(self) -> Duration {
        self.heartbeat_every * UNANSWERED_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_stream_is_given_up_and_another_dialled_within_a_lease() {
        for lease in [2, 6, 30, 3600].map(Duration::from_secs) {
            let pace = Pace::of(lease);
            let noticed = pace.heartbeat_every * (UNANSWERED_MAX + 1);
            assert!(noticed < lease, "{lease:?}");
            // One more dial that fails, the wait behind it, and one that does not.
            let back = pace.dial_within + pace.dial_again_within;
            assert!(back <= lease / 2, "{lease:?}");
        }
    }

    #[test]
    fn a_head_that_does_not_say_its_lease_has_the_usual_one() {
        assert_eq!(Pace::of(Duration::ZERO), Pace::of(limits::LEASE));
        assert_eq!(
            Pace::of(Duration::ZERO).heartbeat_every,
            limits::HEARTBEAT_EVERY
        );
    }
}
