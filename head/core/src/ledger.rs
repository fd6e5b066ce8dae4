//! What has been used of one budget: by attempts that ended, and by those that run.
//!
//! Readings of running attempts are totals that come now and then; wall time runs by itself, so the
//! moment at which it is used up is known beforehand.

use std::{collections::BTreeMap, time::Duration};

use orchestra_types::{AttemptId, Budget, Spent, Timestamp};

use crate::run_time::RunTime;

/// A budget and what has been used of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    /// The limits, with every raise.
    pub budget: Budget,
    /// By attempts that ended.
    pub spent: Spent,
    runs: BTreeMap<AttemptId, Run>,
}

/// An attempt that runs.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// Its time, as far as it counts here; none before its agent was started.
    time: Option<RunTime>,
    /// Its tokens and cost so far.
    reading: Spent,
    /// What is not counted here: of these it was used on an earlier day, or counted already when the
    /// attempt was given up; its time was counted then.
    base: Spent,
    /// Whether it was counted as an attempt before, when it was given up.
    counted: bool,
    /// Whether it was ordered to stop because of this budget.
    stopped: bool,
}

/// What is known of the end of an attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    /// When it was heard of last. Nobody knows whether it ran any longer than until then.
    pub heard: Timestamp,
    /// Whether it counts as an attempt.
    pub charged: bool,
    /// It ran no longer than this in all, where that is known: its end may be heard of late, by a head
    /// that was away.
    pub ran: Option<Duration>,
}

/// What comes of the end of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed {
    /// Whether it had been ordered to stop because of this budget, and rightly.
    pub stopped: bool,
    /// Whether the budget seemed to be used up, and is not.
    pub freed: bool,
}

impl Run {
    fn used(&self, now: Timestamp) -> Spent {
        Spent {
            tokens: self.reading.tokens.saturating_sub(self.base.tokens),
            cost_microusd: self
                .reading
                .cost_microusd
                .saturating_sub(self.base.cost_microusd),
            time: self.ran(now),
            attempts: u32::from(!self.counted),
        }
    }

    fn ran(&self, now: Timestamp) -> Duration {
        self.time.map_or(Duration::ZERO, |time| time.so_far(now))
    }

    /// Whether its agent has ended, and nothing of it is to be stopped.
    fn has_ended(&self) -> bool {
        self.time.is_some_and(|time| time.until.is_some())
    }
}

impl Ledger {
    pub fn new(budget: Budget, spent: Spent) -> Self {
        Self {
            budget,
            spent,
            runs: BTreeMap::new(),
        }
    }

    /// An attempt is ordered, or its agent was started. One that was given up and is taken back has
    /// been `counted` so far.
    pub fn open(&mut self, attempt: AttemptId, time: Option<RunTime>, counted: Option<Spent>) {
        let before = counted.filter(|_| !mutated!(TakenBackCountsTwice));
        let base = before.unwrap_or_default();
        let run = self.runs.entry(attempt).or_insert(Run {
            time,
            reading: base,
            base,
            counted: base.attempts > 0,
            stopped: false,
        });
        run.time = time;
    }

    /// A running attempt has used so much in all.
    pub fn read(&mut self, attempt: AttemptId, reading: Spent) {
        if let Some(run) = self.runs.get_mut(&attempt) {
            run.reading.tokens = run.reading.tokens.max(reading.tokens);
            run.reading.cost_microusd = run.reading.cost_microusd.max(reading.cost_microusd);
        }
    }

    /// More is known of the time of an attempt that runs.
    pub fn change_run_time(&mut self, attempt: AttemptId, change: impl FnOnce(&mut RunTime)) {
        let run = self.runs.get_mut(&attempt);
        if let Some(time) = run.and_then(|run| run.time.as_mut()) {
            change(time);
        }
    }

    /// An attempt has ended. It counts as one unless it is not charged. None when it did not run here.
    pub fn close(&mut self, now: Timestamp, attempt: AttemptId, end: End) -> Option<Closed> {
        let seemed = self.budget.reached(&self.total(now)).is_some();
        let run = self.runs.remove(&attempt)?;
        let mut used = run.used(end.heard);
        used.attempts = u32::from(end.charged && !run.counted);
        let more = end.ran.map(|ran| ran.saturating_sub(run.base.time));
        used.time = more.map_or(used.time, |more| used.time.min(more));
        self.spent = self.spent.plus(used);
        let freed = seemed && self.budget.reached(&self.total(now)).is_none();
        Some(Closed {
            stopped: run.stopped && !freed,
            freed,
        })
    }

    /// An attempt ran for longer than was counted when it was given up: for so much in all, and so much of
    /// that counts here.
    pub fn count_unheard(&mut self, attempt: AttemptId, more: Duration, here: Duration) {
        self.spent.time += here;
        if let Some(run) = self.runs.get_mut(&attempt) {
            run.base.time += more;
            run.reading.time += more;
        }
    }

    /// Whether attempts run.
    pub fn has_runs(&self) -> bool {
        !self.runs.is_empty()
    }

    /// An attempt never was.
    pub fn forget(&mut self, attempt: AttemptId) {
        self.runs.remove(&attempt);
    }

    /// What has been used, by running attempts too.
    pub fn total(&self, now: Timestamp) -> Spent {
        let running = self.runs.values().map(|run| run.used(now));
        running.fold(self.spent, Spent::plus)
    }

    /// Of the attempts that run, those that are to be stopped and have not been told yet.
    pub fn stop_all(&mut self) -> Vec<AttemptId> {
        let running = self.runs.iter_mut();
        running
            .filter(|(_, run)| !run.stopped && !run.has_ended())
            .map(|(attempt, run)| {
                run.stopped = true;
                *attempt
            })
            .collect()
    }

    /// They may go on after all.
    pub fn unstop(&mut self) {
        self.runs.values_mut().for_each(|run| run.stopped = false);
    }

    pub fn is_stopped(&self, attempt: AttemptId) -> bool {
        self.runs.get(&attempt).is_some_and(|run| run.stopped)
    }

    /// A new day: what was used until now does not count any more.
    pub fn begin_day(&mut self, now: Timestamp) {
        self.spent = Spent::default();
        for run in self.runs.values_mut() {
            run.time = run.time.map(|time| RunTime { since: now, ..time });
            (run.base, run.stopped) = (run.reading, false);
        }
    }

    /// When the attempts that run will have used up the wall time.
    pub fn time_is_over_at(&self) -> Option<Timestamp> {
        let limit = self.budget.time?;
        let (ended, running): (Vec<&Run>, Vec<&Run>) =
            self.runs.values().partition(|run| run.has_ended());
        let running = running.iter().filter(|run| !run.stopped);
        let starts = running.filter_map(|run| Some(run.time?.since));
        let (count, starts) = starts.fold((0_u128, 0_u128), |(count, starts), since| {
            (count + 1, starts + u128::from(since.0))
        });
        if count == 0 {
            return None;
        }
        let ended = ended.iter().map(|run| run.ran(Timestamp(u64::MAX)));
        let left: Duration = limit.saturating_sub(self.spent.time + ended.sum::<Duration>());
        // All of them together have run for `left` when n * t = left + the sum of their starts.
        let at = (left.as_millis() + starts).div_ceil(count);
        Some(Timestamp(u64::try_from(at).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use orchestra_types::TaskId;

    use super::*;

    const T: Timestamp = Timestamp(1_000_000);

    fn at(seconds: u64) -> Timestamp {
        T.plus(Duration::from_secs(seconds))
    }

    fn id(task: u64) -> AttemptId {
        AttemptId {
            task: TaskId(task),
            number: 1,
        }
    }

    fn began(at: Timestamp) -> Option<RunTime> {
        Some(RunTime::begins(at))
    }

    fn end(heard: Timestamp, ran: Option<Duration>) -> End {
        End {
            heard,
            charged: true,
            ran,
        }
    }

    fn tokens(tokens: u64) -> Spent {
        Spent {
            tokens,
            ..Spent::default()
        }
    }

    #[test]
    fn readings_are_totals_and_never_go_back() {
        let mut ledger = Ledger::default();
        ledger.open(id(1), began(T), None);
        for reading in [10, 30, 20] {
            ledger.read(id(1), tokens(reading));
        }
        ledger.read(id(2), tokens(500));
        assert_eq!(ledger.total(at(5)).tokens, 30);
        let closed = ledger.close(at(5), id(1), end(at(5), None)).unwrap();
        assert!(!closed.stopped && !closed.freed);
        assert_eq!(ledger.close(at(9), id(1), end(at(9), None)), None);
        let spent = Spent {
            tokens: 30,
            time: Duration::from_secs(5),
            attempts: 1,
            ..Spent::default()
        };
        assert_eq!(ledger.total(at(100)), spent);
    }

    #[test]
    fn the_end_of_the_wall_time_is_known_beforehand_for_any_number_of_runs() {
        let mut ledger = Ledger::new("10s".parse().unwrap(), Spent::default());
        assert_eq!(ledger.time_is_over_at(), None);
        ledger.open(id(1), began(T), None);
        assert_eq!(ledger.time_is_over_at(), Some(at(10)));
        ledger.open(id(2), began(at(4)), None);
        assert_eq!(ledger.time_is_over_at(), Some(at(7)));
        assert!(ledger.budget.reached(&ledger.total(at(6))).is_none());
        assert!(ledger.budget.reached(&ledger.total(at(7))).is_some());
        ledger.close(at(6), id(1), end(at(6), None));
        assert_eq!(
            ledger.time_is_over_at(),
            Some(at(8)),
            "4 s are left from second 4 on"
        );
    }

    #[test]
    fn the_time_until_a_late_report_is_not_used() {
        let ran = Some(Duration::from_secs(4));
        let mut ledger = Ledger::new("10s".parse().unwrap(), Spent::default());
        for run in [1, 2] {
            ledger.open(id(run), began(T), None);
        }
        ledger.stop_all();
        let closed = ledger.close(at(100), id(1), end(at(100), ran)).unwrap();
        assert!(closed.stopped && !closed.freed, "the other one still runs");
        let closed = ledger.close(at(100), id(2), end(at(100), ran)).unwrap();
        assert!(!closed.stopped && closed.freed);
        assert_eq!(ledger.spent.time, Duration::from_secs(8));
        ledger.open(id(3), began(at(100)), None);
        ledger.close(at(101), id(3), end(at(101), ran));
        assert_eq!(
            ledger.spent.time,
            Duration::from_secs(9),
            "never more than the head saw"
        );
    }

    #[test]
    fn each_attempt_is_told_to_stop_once() {
        let mut ledger = Ledger::default();
        ledger.open(id(1), began(T), None);
        ledger.open(id(2), began(T), None);
        assert_eq!(ledger.stop_all(), [id(1), id(2)]);
        assert_eq!(ledger.stop_all(), []);
        assert!(ledger.is_stopped(id(1)) && ledger.time_is_over_at().is_none());
    }

    #[test]
    fn what_was_counted_when_an_attempt_was_given_up_counts_once() {
        let mut ledger = Ledger::default();
        ledger.open(id(1), began(T), None);
        ledger.read(id(1), tokens(70));
        ledger.close(at(10), id(1), end(at(10), None));
        ledger.open(id(1), began(at(30)), Some(ledger.spent));
        assert_eq!(ledger.total(at(30)), ledger.spent);
        ledger.read(id(1), tokens(75));
        ledger.close(at(32), id(1), end(at(32), None));
        let spent = Spent {
            tokens: 75,
            time: Duration::from_secs(12),
            attempts: 1,
            ..Spent::default()
        };
        assert_eq!(ledger.spent, spent);
    }

    #[test]
    fn a_new_day_counts_only_what_is_used_on_it() {
        let mut ledger = Ledger::default();
        ledger.open(id(1), began(T), None);
        ledger.read(id(1), tokens(70));
        ledger.begin_day(at(10));
        ledger.read(id(1), tokens(75));
        let total = ledger.total(at(12));
        assert_eq!((total.tokens, total.time), (5, Duration::from_secs(2)));
    }
}
