//! Whether and when a failed model call is tried again.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::problem::{Problem, Retry};
use crate::failure::Failure;

/// Longest pause before another try. When a service names a longer one, the run fails and says
/// when the service works again, so that whoever schedules agents can use the time.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// How failed model calls are tried again.
#[derive(Clone, Copy, Debug)]
pub struct Retries {
    /// How often at most.
    pub most: u32,
    /// The first pause.
    pub delay: Duration,
}

impl Retries {
    /// The pause before the next try, or the failure when there is none.
    pub fn pause(&self, tried: u32, problem: &Problem) -> Result<Duration, Failure> {
        let pause = match problem.retry {
            Retry::No => return Err(problem.failure.clone()),
            Retry::Yes => self.growing(tried),
            Retry::After(after) => after,
        };
        if tried < self.most && pause <= PAUSE_MAX {
            return Ok(pause);
        }
        let mut failure = problem.failure.clone();
        if let Retry::After(after) = problem.retry {
            failure.resets_at = u64::try_from((since_epoch() + after).as_millis()).ok();
        }
        Err(failure)
    }

    /// Doubles with each try, and adds up to a quarter so that many agents do not come back at once.
    fn growing(&self, tried: u32) -> Duration {
        let pause = self
            .delay
            .saturating_mul(1 << tried.min(16))
            .min(PAUSE_MAX / 2);
        pause + pause.mul_f64(f64::from(since_epoch().subsec_nanos() % 1000) / 4000.0)
    }
}

fn since_epoch() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Code;

    const RETRIES: Retries = Retries {
        most: 2,
        delay: Duration::from_secs(1),
    };

    #[test]
    fn pauses_grow_and_end() {
        let problem = Problem::passing("down");
        let first = RETRIES.pause(0, &problem).expect("a try is left");
        let second = RETRIES.pause(1, &problem).expect("a try is left");
        assert!(first >= Duration::from_secs(1) && first < Duration::from_millis(1260));
        assert!(second >= Duration::from_secs(2));
        assert!(RETRIES.pause(2, &problem).is_err());
    }

    #[test]
    fn a_long_wait_that_the_service_names_fails_with_its_end() {
        let problem = Problem::of_status(429, Some(Duration::from_secs(3600)), "slow down");
        let failure = RETRIES.pause(0, &problem).expect_err("too long to wait");
        assert_eq!(failure.code, Code::RateLimited);
        assert!(failure.resets_at.is_some());
        let short = Problem::of_status(429, Some(Duration::from_secs(2)), "slow down");
        assert_eq!(RETRIES.pause(0, &short), Ok(Duration::from_secs(2)));
    }
}
