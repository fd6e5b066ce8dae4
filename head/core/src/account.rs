//! One account at a provider: how much it bears, and until when nothing is started on it.
//!
//! ```text
//! free ──limit met──► parked until the reset, or for a growing while ──► free again
//!        met again ─► also slowed: half as many at once, then one more each minute
//! ```
//!
//! Additive increase, multiplicative decrease: what TCP does with a link that it does not know.
//! One burst of answers counts once: an attempt that was there before the limit was met says
//! nothing new when it meets it too.

use std::time::Duration;

use orchestra_types::{FailureCode, Limited, Timestamp};

use crate::{
    calendar::SetBack,
    row::{AccountRow, Slow},
};

/// How long a limit without a reset time parks an account at first; each later one twice as long.
const PARK_FIRST: Duration = Duration::from_secs(15);
/// The longest of these.
const PARK_MAX: Duration = Duration::from_secs(15 * 60);
/// How long an empty account without a reset time is parked before it is tried again.
const PARK_EMPTY: Duration = Duration::from_secs(3600);
/// No account is parked longer than this, whatever its provider says: a month's quota.
const PARK_TRUSTED: Duration = Duration::from_secs(31 * 24 * 3600);
/// How long a slowed account waits before it bears one more.
const STEP: Duration = Duration::from_secs(60);
/// Limits further apart than this are not repeated ones.
const QUIET: Duration = Duration::from_secs(10 * 60);

/// What a limit that was met says, and of whom.
#[derive(Clone, Debug)]
pub(crate) struct Met<'a> {
    /// `RateLimited` or `QuotaExhausted`.
    pub code: FailureCode,
    /// What the CLI says.
    pub limited: &'a Limited,
    /// When the attempt was given to its worker.
    pub since: Timestamp,
    /// Whether the attempt ended by it; else its CLI waits and tries again by itself.
    pub ended: bool,
    /// How many attempts were on the account, this one included.
    pub in_use: u32,
}

impl Met<'_> {
    /// Until when the provider says that it is of no use, as far as that is believed.
    pub(crate) fn told(&self, now: Timestamp) -> Option<Timestamp> {
        let told = self.limited.resets_at.filter(|at| *at > now);
        let trusted = if mutated!(ParkTooShort) {
            Duration::from_secs(1)
        } else {
            PARK_TRUSTED
        };
        told.map(|at| at.min(now.plus(trusted)))
    }
}

impl AccountRow {
    /// Whether nothing is to be started on it.
    pub(crate) fn is_parked(&self) -> bool {
        self.parked_until.is_some()
    }

    /// How many attempts it bears at once; none is no limit.
    pub(crate) fn limit(&self, configured: Option<u32>) -> Option<u32> {
        let max = self.max.or(configured);
        let slow = self.slow.map(|slow| slow.window);
        match (max, slow) {
            (Some(max), Some(slow)) => Some(max.min(slow)),
            (max, slow) => max.or(slow),
        }
    }

    /// Whether there is nothing to keep of it.
    pub(crate) fn is_plain(&self) -> bool {
        self.max.is_none() && self.parked_until.is_none() && self.slow.is_none()
    }

    /// A limit was met.
    pub(crate) fn on_met(&mut self, now: Timestamp, met: &Met<'_>) {
        let told = met.told(now);
        let is_news = self.limited_at.is_none_or(|at| met.since >= at || now.since(at) > QUIET)
            // A CLI that waits says so again each time, from one and the same attempt.
            || (!met.ended && self.parked_until.is_none() && self.is_past(now, STEP));
        if is_news {
            self.strike(now, met);
        }
        // A CLI that waited and gave up has told nothing new, but the limit still holds.
        let parks = met.ended && (is_news || self.parked_until.is_none());
        let until = match (told, parks) {
            (Some(told), _) => Some(told),
            (None, true) => Some(now.plus(self.untold(met.code))),
            (None, false) => None,
        };
        if let Some(until) = until {
            // A limit of the rate that ends sooner says nothing of the quota.
            let holds = self.is_empty && self.parked_until >= Some(until);
            if !holds || met.code == FailureCode::QuotaExhausted {
                self.why = met.limited.message.clone();
            }
            self.is_empty = holds || met.code == FailureCode::QuotaExhausted;
            self.parked_until = self.parked_until.max(Some(until));
        }
        if let (Some(slow), Some(until)) = (&mut self.slow, self.parked_until) {
            slow.next = slow.next.max(until.plus(STEP));
        }
    }

    /// A person says that it works again.
    pub(crate) fn on_resume(&mut self) {
        self.parked_until = None;
        self.slow = None;
        self.strikes = 0;
        self.limited_at = None;
        self.is_empty = false;
        self.why.clear();
    }

    /// The wall clock was set back; the provider has said that it is of no use until `told`.
    pub(crate) fn set_back(&mut self, back: SetBack, told: Timestamp) {
        let shifted = |until| back.shift(until).max(told.min(until));
        self.limited_at = self.limited_at.map(|at| back.shift(at));
        self.parked_until = self.parked_until.map(shifted);
        let parked_until = self.parked_until.unwrap_or_default();
        if let Some(slow) = &mut self.slow {
            let next = back.shift(slow.next);
            slow.next = next.max(parked_until.plus(STEP).min(slow.next));
        }
    }

    /// Time has passed; whether anything changed.
    pub(crate) fn on_tick(&mut self, now: Timestamp) -> bool {
        let unpark = self.parked_until.is_some_and(|until| until <= now);
        if unpark {
            self.parked_until = None;
            self.is_empty = false;
        }
        let step = self.slow.is_some_and(|slow| slow.next <= now);
        if let Some(slow) = self.slow.filter(|_| step) {
            let window = slow.window + 1;
            self.slow = (window < slow.full).then_some(Slow {
                window,
                next: now.plus(STEP),
                ..slow
            });
        }
        unpark || step
    }

    /// When `on_tick` has something to do.
    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        let slow = self.slow.map(|slow| slow.next);
        [self.parked_until, slow].into_iter().flatten().min()
    }

    fn is_past(&self, now: Timestamp, rest: Duration) -> bool {
        self.limited_at.is_none_or(|at| now.since(at) >= rest)
    }

    fn strike(&mut self, now: Timestamp, met: &Met<'_>) {
        let rested = self.parked_until.max(self.limited_at);
        let repeated = rested.is_some_and(|at| now.since(at) <= QUIET);
        self.strikes = if repeated { self.strikes + 1 } else { 1 };
        self.limited_at = Some(now);
        // The first one may have been a burst; a CLI that waits by itself is too fast already.
        if self.strikes > 1 || !met.ended {
            let full = self
                .slow
                .map_or(met.in_use, |slow| slow.full.max(met.in_use));
            let now_in_use = self
                .slow
                .map_or(met.in_use, |slow| slow.window.min(met.in_use));
            let window = (now_in_use / 2).max(1);
            self.slow = (window < full).then_some(Slow {
                window,
                full,
                next: now.plus(STEP),
            });
        }
    }

    /// How long a limit parks it whose end nobody knows.
    fn untold(&self, code: FailureCode) -> Duration {
        if code == FailureCode::QuotaExhausted {
            return PARK_EMPTY;
        }
        let doublings = self.strikes.saturating_sub(1).min(16);
        PARK_FIRST.saturating_mul(1 << doublings).min(PARK_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Timestamp = Timestamp(1_000_000_000);

    fn at(seconds: u64) -> Timestamp {
        T.plus(Duration::from_secs(seconds))
    }

    fn row() -> AccountRow {
        AccountRow::new("a-1".parse().unwrap())
    }

    fn limited(resets_at: Option<Timestamp>) -> Limited {
        Limited {
            resets_at,
            message: "429".to_owned(),
        }
    }

    fn meet(row: &mut AccountRow, now: u64, since: u64, in_use: u32, resets_at: Option<u64>) {
        let limited = limited(resets_at.map(at));
        let met = Met {
            code: FailureCode::RateLimited,
            limited: &limited,
            since: at(since),
            ended: true,
            in_use,
        };
        row.on_met(at(now), &met);
    }

    #[test]
    fn a_limit_with_a_reset_parks_until_then_and_no_longer() {
        let mut row = row();
        meet(&mut row, 0, 0, 3, Some(100));
        assert_eq!((row.parked_until, row.slow), (Some(at(100)), None));
        assert!(!row.on_tick(at(99)) && row.is_parked());
        assert!(row.on_tick(at(100)) && !row.is_parked());
        assert_eq!(row.limit(None), None);
    }

    #[test]
    fn a_burst_of_limits_counts_once_and_the_latest_reset_holds() {
        let mut row = row();
        for reset in [50, 100, 70] {
            meet(&mut row, 10, 0, 4, Some(reset));
        }
        assert_eq!(row.strikes, 1);
        assert_eq!((row.parked_until, row.slow), (Some(at(100)), None));
    }

    #[test]
    fn repeated_limits_halve_what_it_bears_and_it_recovers_step_by_step() {
        let mut row = row();
        meet(&mut row, 0, 0, 8, None);
        assert_eq!(row.parked_until, Some(at(15)));
        row.on_tick(at(15));
        assert_eq!(row.limit(None), None, "once may have been a burst");
        meet(&mut row, 20, 15, 8, None);
        assert_eq!(row.parked_until, Some(at(50)), "twice as long");
        assert_eq!(row.limit(None), Some(4));
        row.on_tick(at(50));
        meet(&mut row, 60, 50, 4, None);
        assert_eq!((row.limit(None), row.limit(Some(1))), (Some(2), Some(1)));
        let mut windows = Vec::new();
        while let Some(due) = row.deadline() {
            assert!(!row.on_tick(Timestamp(due.0 - 1)), "nothing is due before");
            assert!(row.on_tick(due));
            windows.push(row.limit(None));
        }
        let grown = [2, 3, 4, 5, 6, 7].map(Some).into_iter().chain([None]);
        assert_eq!(windows, grown.collect::<Vec<_>>());
    }

    #[test]
    fn limits_far_apart_are_not_repeated_ones() {
        let mut row = row();
        meet(&mut row, 0, 0, 8, None);
        row.on_tick(at(15));
        meet(&mut row, 2000, 1990, 8, None);
        assert_eq!((row.strikes, row.slow), (1, None));
    }

    #[test]
    fn an_empty_account_without_a_reset_is_tried_again_after_an_hour() {
        let mut row = row();
        let limited = limited(None);
        let met = Met {
            code: FailureCode::QuotaExhausted,
            limited: &limited,
            since: T,
            ended: true,
            in_use: 1,
        };
        row.on_met(T, &met);
        assert_eq!(row.parked_until, Some(at(3600)));
        assert!(row.is_empty);
        meet(&mut row, 1, 1, 1, Some(60));
        assert!(row.is_empty, "a limit that ends sooner");
        meet(&mut row, 2, 2, 1, Some(7200));
        assert!(!row.is_empty, "one that ends later");
        row.on_met(
            T,
            &Met {
                since: at(3),
                ..met
            },
        );
        assert!(row.is_empty, "it is still used up");
        assert!(row.on_tick(at(7200)));
        assert!(!row.is_empty, "it is tried again");
    }

    #[test]
    fn a_cli_that_waits_slows_its_account_and_parks_it_only_with_a_reset() {
        let mut row = row();
        let mut waits = |now: u64, reset: Option<u64>| {
            let limited = limited(reset.map(at));
            let met = Met {
                code: FailureCode::RateLimited,
                limited: &limited,
                since: T,
                ended: false,
                in_use: 6,
            };
            row.on_met(at(now), &met);
            (row.limit(None), row.parked_until)
        };
        assert_eq!(waits(5, None), (Some(3), None));
        assert_eq!(waits(6, None), (Some(3), None), "it says so again");
        assert_eq!(waits(7, Some(90)), (Some(3), Some(at(90))));
    }

    #[test]
    fn a_cli_that_waited_and_gave_up_parks_its_account() {
        let mut row = row();
        let limited = limited(None);
        let mut meets = |now: u64, ended: bool| {
            let met = Met {
                code: FailureCode::RateLimited,
                limited: &limited,
                since: T,
                ended,
                in_use: 1,
            };
            row.on_met(at(now), &met);
            row.parked_until
        };
        assert_eq!(meets(5, false), None);
        assert_eq!(meets(30, true), Some(at(45)));
        assert_eq!(meets(31, true), Some(at(45)), "one of the same burst");
    }

    #[test]
    fn no_provider_parks_an_account_for_ever() {
        let mut row = row();
        meet(&mut row, 0, 0, 1, Some(u64::MAX / 2000));
        assert_eq!(row.parked_until, Some(T.plus(PARK_TRUSTED)));
        meet(&mut row, 0, 0, 1, Some(0));
        row.on_resume();
        assert!(row.is_plain() && row.deadline().is_none());
    }
}
