//! The clocks: the wall's, for people, and the machine's, for timeouts; and waits of a worker that has
//! nothing to do.

use std::{
    io,
    os::fd::OwnedFd,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use orchestra_types::Timestamp;
pub use orchestra_types::time::millis as ms;
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use tokio::io::{Interest, unix::AsyncFd};

/// Now, by the wall clock.
#[must_use]
pub fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(ms(since))
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
    let now = since_boot();
    wait_until(now + until_beat(now, every)).await;
}

/// Waits so long, in one wake-up. Time in which the machine is suspended counts.
pub async fn wait(time: Duration) {
    wait_until(since_boot() + time).await;
}

/// Waits until so long after the machine was started. The runtime's own timers lie in a wheel, which
/// wakes its thread up to three times for one wait of some seconds; a timer of the kernel's does it
/// once. Where there is none, for want of descriptors, the wheel must do.
async fn wait_until(moment: Duration) {
    let rung = async { Alarm::at(moment)?.rings().await };
    if rung.await.is_err() {
        tokio::time::sleep(moment.saturating_sub(since_boot())).await;
    }
}

/// A timer of the kernel's that rings once.
struct Alarm(AsyncFd<OwnedFd>);

impl Alarm {
    #[expect(
        deprecated,
        reason = "what is not sound with every type is so with an owned descriptor"
    )]
    fn at(since_boot: Duration) -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Boottime, flags)?;
        let once = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec {
                tv_sec: i64::try_from(since_boot.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: since_boot.subsec_nanos().into(),
            },
        };
        timerfd_settime(&timer, TimerfdTimerFlags::ABSTIME, &once)?;
        Ok(Self(AsyncFd::with_interest(timer, Interest::READABLE)?))
    }

    async fn rings(self) -> io::Result<()> {
        self.0.readable().await.map(drop)
    }
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

    #[tokio::test]
    async fn an_alarm_rings_at_its_moment_and_at_once_when_that_is_past() {
        let moment = since_boot() + Duration::from_millis(20);
        Alarm::at(moment).unwrap().rings().await.unwrap();
        assert!(since_boot() >= moment);
        wait_until(Duration::from_nanos(1)).await;
        wait(Duration::ZERO).await;
    }
}
