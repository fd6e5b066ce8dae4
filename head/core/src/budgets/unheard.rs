//! The time between the loss of an attempt and its end, or its return. Nobody heard of it while it ran, so
//! it counts when its worker says how long it ran.

use std::time::Duration;

use orchestra_types::{AttemptId, Timestamp};

use super::{Owner, projects::DAY_MS};
use crate::{Core, Step, row::Counted, run_time::RunTime};

impl Counted {
    /// What it ran beyond what is counted, if it ran for so long in all and ended, or was heard of again,
    /// at `until`.
    pub(super) fn unheard(&self, ran: Duration, until: Timestamp) -> Duration {
        let Some(up_to) = self.up_to else {
            return Duration::ZERO;
        };
        let more = ran.saturating_sub(self.used.time);
        more.min(until.since(up_to))
    }
}

/// What of a time that began at `since` counts for an owner: that of this day, where it counts by the day.
fn counts_for(owner: &Owner, since: Timestamp, time: Duration, day_began: Timestamp) -> Duration {
    match owner {
        Owner::Task(_) => time,
        Owner::Project(_) => time.min(since.plus(time).since(day_began)),
    }
}

impl Core {
    /// An attempt that was given up has run for so long in all, as its worker says, and ended, or was
    /// heard of again, at `until`. What of it nobody counted yet counts now, in the row of its task and in
    /// every budget; both are to be written.
    pub(super) fn count_unheard(&mut self, attempt: AttemptId, ran: Duration, until: Timestamp) {
        let task = self.tasks.get_mut(&attempt.task);
        let Some(last) = task.and_then(|task| task.row.last.as_mut()) else {
            return;
        };
        let Some(counted) = last.counted_mut(attempt.number) else {
            return;
        };
        let more = counted.unheard(ran, until);
        let since = counted.up_to.replace(until).unwrap_or(until);
        counted.used.time += more;
        last.used.time += more;
        let day_began = self.day_began();
        for owner in self.owners(attempt.task) {
            let here = counts_for(&owner, since, more, day_began);
            if let Some(ledger) = self.budgets.ledger_mut(&owner) {
                ledger.count_unheard(attempt, more, here);
                self.budgets.note_time(&owner);
            }
        }
    }

    fn day_began(&self) -> Timestamp {
        let day_began = Timestamp(self.budgets.day.saturating_mul(DAY_MS));
        self.calendar.steady(day_began)
    }

    /// More is known of the time of a running attempt, which counts for an owner from some moment on.
    pub(crate) fn change_ledgers(
        &mut self,
        attempt: AttemptId,
        change: impl Fn(&mut RunTime, Timestamp),
    ) {
        let day_began = self.day_began();
        for owner in self.owners(attempt.task) {
            let earliest = match owner {
                Owner::Task(_) => Timestamp::default(),
                Owner::Project(_) => day_began,
            };
            if let Some(ledger) = self.budgets.ledger_mut(&owner) {
                ledger.change_run_time(attempt, |time| change(time, earliest));
                self.budgets.note_time(&owner);
            }
        }
    }

    /// An attempt is taken back whose agent has run for so long, and goes on.
    pub(crate) fn count_return(
        &mut self,
        now: Timestamp,
        attempt: AttemptId,
        ran: Duration,
        step: &mut Step,
    ) {
        self.count_unheard(attempt, ran, now);
        self.write(attempt.task, step);
        for owner in self.owners(attempt.task) {
            step.changes.extend(self.budgets.change(&owner));
        }
    }
}

#[cfg(test)]
mod tests {
    use orchestra_types::TaskId;

    use super::*;

    #[test]
    fn a_project_counts_what_was_of_its_day() {
        let (task, project) = (
            Owner::Task(TaskId(1)),
            Owner::Project("git-1".parse().unwrap()),
        );
        let (hour, midnight) = (Duration::from_secs(3600), Timestamp(DAY_MS));
        let since = |hours: u32| Timestamp(DAY_MS - 2 * 3_600_000).plus(hour * hours);
        // From 22:00 to 1:00, to 23:00, and from 1:00 to 2:00.
        let counted = [(0, 3, 1), (0, 1, 0), (3, 1, 1)];
        for (from, hours, today) in counted {
            let time = hour * hours;
            assert_eq!(counts_for(&task, since(from), time, midnight), time);
            let here = counts_for(&project, since(from), time, midnight);
            assert_eq!(here, hour * today, "{hours} h from {from}");
        }
    }
}
