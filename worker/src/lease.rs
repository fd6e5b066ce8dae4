//! Until when the head counts on this worker.
//!
//! A head that hears nothing of a worker for a lease, and half as long again, gives up what the worker holds,
//! and others may begin that. So nothing is begun here when the lease is over: not what waits for a slot, and
//! not what was being prepared. Agents that run go on. The lease counts from the moment at which that was sent
//! which the head has answered: it ends here before it ends there.
//!
//! ```text
//! here:   beat ├───── lease ─────┤ begins nothing
//! head:     heard ├───── lease ─────┼─ grace ─┤ gives up
//! ```

use std::time::Duration;

use tokio::sync::watch;

use crate::clock;

/// The lease as it is; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct WorkerLease {
    /// In time since the machine's start, in which it is asleep too. None before the first answer.
    ends: watch::Sender<Option<Duration>>,
}

impl WorkerLease {
    /// It lasts until then, as a welcome says: also where a lease of before would last longer.
    pub fn set(&self, ends: Duration) {
        self.ends.send_replace(Some(ends));
    }

    /// It lasts until then, if not longer.
    pub fn renew(&self, ends: Duration) {
        self.ends.send_if_modified(|known| {
            let later = known.is_none_or(|known| known < ends);
            if later {
                *known = Some(ends);
            }
            later
        });
    }

    /// Whether it lasts now.
    #[must_use]
    pub fn lasts(&self) -> bool {
        lasts(*self.ends.borrow(), clock::since_boot())
    }

    /// Waits until it lasts.
    pub async fn until_it_lasts(&self) {
        let mut ends = self.ends.subscribe();
        let lasts = ends.wait_for(|ends| lasts(*ends, clock::since_boot()));
        // Its sender is held here, so this cannot fail.
        let _ = lasts.await;
    }
}

fn lasts(ends: Option<Duration>, now: Duration) -> bool {
    ends.is_some_and(|ends| now < ends)
}

/// What was sent and not answered yet.
#[derive(Debug, Default)]
pub struct Beats(Vec<Beat>);

/// One heartbeat.
#[derive(Clone, Copy, Debug)]
struct Beat {
    /// What it says, and its answer repeats.
    time_ms: u64,
    /// When it was sent, in time since the machine's start.
    sent: Duration,
}

/// Of more that are not answered the first ones are forgotten. A stream ends long before.
const BEATS_MAX: usize = 16;

impl Beats {
    /// A heartbeat is sent.
    pub fn sent(&mut self, time_ms: u64, sent: Duration) {
        if self.0.len() >= BEATS_MAX {
            self.0.remove(0);
        }
        self.0.push(Beat { time_ms, sent });
    }

    /// It is answered: when it was sent. Of several that say the same time, the first one: somebody may have set
    /// the clock.
    pub fn answered(&mut self, time_ms: u64) -> Option<Duration> {
        let place = self.0.iter().position(|beat| beat.time_ms == time_ms)?;
        let sent = self.0[place].sent;
        self.0.drain(..=place);
        Some(sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn there_is_none_before_the_head_answers_and_none_after_its_end() {
        assert!(!lasts(None, S));
        assert!(lasts(Some(3 * S), 2 * S));
        assert!(!lasts(Some(3 * S), 3 * S));
        assert!(!WorkerLease::default().lasts());
    }

    #[test]
    fn an_answer_that_comes_late_makes_it_no_shorter() {
        let lease = WorkerLease::default();
        lease.renew(5 * S);
        lease.renew(3 * S);
        assert_eq!(*lease.ends.borrow(), Some(5 * S));
        lease.set(4 * S);
        assert_eq!(
            *lease.ends.borrow(),
            Some(4 * S),
            "the head grants less now"
        );
    }

    #[tokio::test]
    async fn who_waits_for_it_goes_on_when_it_is_renewed() {
        let lease = WorkerLease::default();
        let renew = async {
            tokio::task::yield_now().await;
            assert!(!lease.lasts(), "the other one waits");
            lease.renew(clock::since_boot() + 3600 * S);
        };
        tokio::join!(lease.until_it_lasts(), renew);
        assert!(lease.lasts());
    }

    #[test]
    fn it_counts_from_when_that_was_sent_which_is_answered() {
        let mut beats = Beats::default();
        beats.sent(100, S);
        beats.sent(105, 6 * S);
        assert_eq!(beats.answered(105), Some(6 * S));
        assert_eq!(beats.answered(100), None, "it comes too late");
        // The clock was set back.
        beats.sent(105, 11 * S);
        beats.sent(105, 16 * S);
        assert_eq!(beats.answered(105), Some(11 * S));
        assert_eq!(beats.answered(7), None, "nobody has sent that");
    }

    #[test]
    fn what_is_never_answered_takes_no_room() {
        let mut beats = Beats::default();
        (0..100).for_each(|n| beats.sent(n, S));
        assert_eq!(beats.0.len(), BEATS_MAX);
        assert_eq!(beats.answered(99), Some(S));
    }
}
