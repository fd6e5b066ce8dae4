//! The engine's time, which never goes back, and how far the wall clock is from it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime},
};

use orchestra_core::Calendar;
use orchestra_types::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// A wall clock that is further than this from where it was has been set. Less is how far apart the
/// two are read.
const STEP: Duration = Duration::from_secs(1);
/// A machine that was suspended for less than this was not away.
const NAP: Duration = Duration::from_secs(1);

/// The wall clock of the start, carried on by the machine's own, which counts the time in which it
/// was suspended as the workers' clocks do: a step of the wall clock ends no lease and no timeout. How
/// far the wall clock is ahead of that is kept beside it, for what is a moment of the calendar. The
/// next start takes the wall clock anew.
#[derive(Clone, Debug)]
pub struct Clock {
    wall: Timestamp,
    since: Duration,
    /// By how many milliseconds the wall clock is ahead, as it was seen last.
    ahead_ms: Arc<AtomicI64>,
}

/// What was seen at one look at all clocks of the machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// Since the machine was started.
    boot: Duration,
    /// The same without the time in which it was suspended.
    awake: Duration,
    wall: Timestamp,
}

impl Look {
    pub fn now() -> Self {
        Self {
            boot: read(ClockId::Boottime),
            awake: read(ClockId::Monotonic),
            wall: wall(),
        }
    }

    /// Whether the machine was suspended since an earlier look.
    pub fn has_slept_since(&self, earlier: &Self) -> bool {
        let asleep = |look: &Self| look.boot.saturating_sub(look.awake);
        asleep(self).saturating_sub(asleep(earlier)) > NAP
    }
}

impl Clock {
    /// A clock that starts at the wall clock's present time.
    #[must_use]
    pub fn start() -> Self {
        Self::start_at(&Look::now())
    }

    /// A clock that was so far ahead of the machine's when it was started.
    #[cfg(test)]
    pub fn starting_ahead(by: Duration) -> Self {
        let mut look = Look::now();
        look.wall = look.wall.plus(by);
        Self::start_at(&look)
    }

    pub(super) fn start_at(look: &Look) -> Self {
        Self {
            wall: look.wall,
            since: look.boot,
            ahead_ms: Arc::new(AtomicI64::new(0)),
        }
    }

    /// The present time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.at(read(ClockId::Boottime))
    }

    /// What the wall clock shows now.
    #[must_use]
    pub fn wall_now(&self) -> Timestamp {
        self.calendar().wall(self.now())
    }

    /// How far the wall clock is ahead, as it was seen last.
    #[must_use]
    pub fn calendar(&self) -> Calendar {
        Calendar::ahead_by(self.ahead_ms.load(Ordering::Relaxed))
    }

    /// Where the wall clock was set since the last time: by how many milliseconds it was ahead, and is.
    pub(super) fn was_set(&self, look: &Look) -> Option<(i64, i64)> {
        let steady = self.at(look.boot);
        let ahead = i128::from(look.wall.0) - i128::from(steady.0);
        let ahead = i64::try_from(ahead).unwrap_or(0);
        let known = self.ahead_ms.load(Ordering::Relaxed);
        let step = Duration::from_millis(ahead.abs_diff(known));
        if step <= STEP {
            return None;
        }
        self.ahead_ms.store(ahead, Ordering::Relaxed);
        Some((known, ahead))
    }

    fn at(&self, boot: Duration) -> Timestamp {
        self.wall.plus(boot.saturating_sub(self.since))
    }
}

fn wall() -> Timestamp {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    Timestamp(0).plus(since)
}

fn read(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const HOUR_MS: i64 = 3_600_000;

    fn first() -> Look {
        Look {
            boot: HOUR,
            awake: HOUR,
            wall: Timestamp(1_000_000_000_000),
        }
    }

    fn after(look: Look, passed: Duration) -> Look {
        Look {
            boot: look.boot + passed,
            awake: look.awake + passed,
            wall: look.wall.plus(passed),
        }
    }

    #[test]
    fn the_wall_clock_is_noticed_to_be_set_forward_and_back_once() {
        let clock = Clock::start_at(&first());
        let mut look = after(first(), HOUR);
        look.wall = look.wall.plus(Duration::from_millis(900));
        assert_eq!(clock.was_set(&look), None, "that is how clocks are read");
        look.wall = look.wall.plus(HOUR);
        let ahead = HOUR_MS + 900;
        assert_eq!(clock.was_set(&look), Some((0, ahead)));
        assert_eq!(clock.was_set(&after(look, HOUR)), None);
        let steady = clock.at(look.boot);
        assert_eq!(steady, first().wall.plus(HOUR), "it goes on evenly");
        assert_eq!(clock.calendar().wall(steady), look.wall);
        look.wall = Timestamp(look.wall.0 - 3 * 3_600_000);
        let behind = ahead - 3 * HOUR_MS;
        assert_eq!(clock.was_set(&look), Some((ahead, behind)));
        assert_eq!(clock.at(look.boot), steady, "nor does it go back");
        assert_eq!(clock.calendar().steady(look.wall), steady);
    }

    #[test]
    fn the_time_in_which_the_machine_was_suspended_counts() {
        let clock = Clock::start_at(&first());
        let mut look = after(first(), HOUR);
        assert!(!look.has_slept_since(&first()));
        look.boot += 8 * HOUR;
        look.wall = look.wall.plus(8 * HOUR);
        assert!(look.has_slept_since(&first()));
        assert_eq!(clock.at(look.boot), first().wall.plus(9 * HOUR));
        assert_eq!(clock.was_set(&look), None);
        assert!(!after(look, HOUR).has_slept_since(&look));
    }

    #[test]
    fn a_clock_reads_the_machines_own() {
        let clock = Clock::start();
        assert!(clock.now() >= clock.wall);
        assert_eq!(clock.calendar(), Calendar::default());
        assert!(!Look::now().has_slept_since(&Look::now()));
    }
}
