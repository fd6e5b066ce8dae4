//! How long to wait before the next dial. Pure: chance is passed in.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(200);

/// Doubles from one dial to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Backoff {
    /// The next wait: between half and all of the current step, as `chance` (0 to 1) says, so
    /// that workers that lost the same head do not come back at the same moment. Never longer than
    /// `longest`.
    pub fn next(&mut self, chance: f64, longest: Duration) -> Duration {
        let step = self.next.min(longest);
        self.next = (step * 2).min(longest);
        step.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit_and_stay_within_half_of_their_step() {
        const LONGEST: Duration = Duration::from_secs(10);
        let mut backoff = Backoff::default();
        assert_eq!(backoff.next(1.0, LONGEST), FIRST);
        assert_eq!(backoff.next(0.0, LONGEST), FIRST);
        for _ in 0..20 {
            backoff.next(0.5, LONGEST);
        }
        assert_eq!(backoff.next(1.0, LONGEST), LONGEST);
        assert_eq!(backoff.next(0.0, LONGEST), LONGEST / 2);
        assert_eq!(backoff.next(1.0, FIRST), FIRST);
    }
}
