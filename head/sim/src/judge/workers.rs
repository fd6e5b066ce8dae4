//! Rows of workers, their reports, attempts and results, and of submissions.

use orchestra_core::{AccountRow, AttemptRow, KeyRow, OutcomeRow, WorkerRow};
use orchestra_types::{FailureCode, WorkerId};

use super::{Judge, Seen};
use crate::{
    cast::{Cast, LIMIT_RESETS_AFTER, Said, account as account_of},
    cover::Point,
    event::{Ask, Event},
    rule::{Checked, hold},
    shadow::{At, bit},
};

impl Judge {
    pub(super) fn worker(&mut self, event: &Event, row: &WorkerRow) -> Checked {
        match event {
            Event::Attached { worker, .. } => {
                let before = self.shadow.epochs[usize::from(*worker)];
                let grows = row.epoch > before;
                hold!(Welcome, grows, "epoch {} follows {before}", row.epoch);
                if before == 0 && self.shadow.once_acked[usize::from(*worker)] > 0 {
                    self.cover.hit(Point::BackAgain);
                }
                let stays = row.availability == self.shadow.availability[usize::from(*worker)];
                hold!(Durable, stays, "{worker} is {:?}", row.availability);
            }
            Event::Capacity {
                connection, worker, ..
            } => {
                let current = self.seen[usize::from(*worker)].connection == Some(*connection);
                // Its lease may end with the same input, after that.
                let over = self.expired & (1 << *worker) != 0;
                hold!(
                    Fencing,
                    current || over,
                    "a replaced stream describes its worker"
                );
            }
            Event::Asked {
                ask: Ask::Cordon(worker, wanted),
                ..
            } => {
                let known = self.shadow.epochs[usize::from(*worker)] == row.epoch;
                let right = known && row.availability == *wanted;
                hold!(Transitions, right, "{worker} is {:?}", row.availability);
            }
            other => hold!(Transitions, false, "a worker's row follows from {other:?}"),
        }
        Ok(())
    }

    /// A worker is forgotten because somebody says so, not while it is there or could go on with anything.
    pub(super) fn removed(&mut self, event: &Event, id: &WorkerId, cast: &Cast) -> Checked {
        let Event::Asked {
            ask: Ask::Remove(worker),
            ..
        } = event
        else {
            hold!(Transitions, false, "a worker is forgotten after {event:?}");
            return Ok(());
        };
        let same = cast.worker(id) == Some(*worker);
        hold!(Transitions, same, "another worker is forgotten");
        let connected = self.seen[usize::from(*worker)].connection.is_some();
        hold!(Transitions, !connected, "a connected worker is forgotten");
        let holds = self.shadow.holds_any(*worker);
        hold!(Durable, !holds, "{worker} is forgotten and holds attempts");
        self.seen[usize::from(*worker)] = Seen::default();
        Ok(())
    }

    pub(super) fn acked(
        &self,
        event: &Event,
        worker: &WorkerId,
        up_to: u64,
        cast: &Cast,
    ) -> Checked {
        if let Event::Attached {
            worker: comer,
            first_unacked,
            ..
        } = event
        {
            let n = usize::from(*comer);
            let says_so = up_to + 1 == *first_unacked && cast.worker(worker) == Some(*comer);
            // It was removed since.
            let more = self.shadow.acked[n] + 1..=self.shadow.once_acked[n];
            hold!(
                Reports,
                says_so && more.contains(&up_to),
                "{up_to} noted for one that says {first_unacked}"
            );
            return Ok(());
        }
        let Event::Reported {
            connection,
            worker: reporter,
            seq,
            ..
        } = event
        else {
            hold!(Reports, false, "a report is noted after {event:?}");
            return Ok(());
        };
        let n = usize::from(*reporter);
        let same = cast.worker(worker) == Some(*reporter);
        hold!(Reports, same, "a report of another worker is noted");
        let current = self.seen[n].connection == Some(*connection);
        hold!(Fencing, current, "a replaced stream reports");
        let next = self.shadow.acked[n] + 1;
        let right = up_to == *seq && up_to == next;
        hold!(Reports, right, "{up_to} noted for {seq}; next is {next}");
        Ok(())
    }

    /// An account is parked by a limit that an attempt on it met, and opens when its time is over.
    pub(super) fn account(&mut self, event: &Event, row: &AccountRow, cast: &Cast) -> Checked {
        let account = cast.account(&row.name);
        let Some(before) = account.map(|account| self.shadow.accounts[account]) else {
            hold!(
                Transitions,
                false,
                "an account that nobody has: {}",
                row.name
            );
            return Ok(());
        };
        let over = before.parked_until.is_none_or(|until| until <= self.wall());
        let opens = row.parked_until.is_none() && over;
        let limited = match event {
            Event::Reported {
                worker,
                attempt,
                said: Said::Finished(crate::cast::Result::Limited),
                clock,
                ..
            } => {
                // Another account may open in the same step.
                let runner = self.shadow.runner(*attempt);
                let uses = runner.map(|runner| account == account_of(*worker, runner));
                uses.unwrap_or(!opens)
                    .then_some(clock.plus(LIMIT_RESETS_AFTER))
            }
            _ => None,
        };
        if let Some(resets_at) = limited {
            self.cover.hit(Point::LimitMet);
            let past = resets_at.0 <= self.wall();
            let parked = past || row.parked_until >= Some(resets_at);
            hold!(Delays, parked, "{}: {:?}", row.name, row.parked_until);
        } else {
            let same = row.parked_until.map(|at| at.0) == before.parked_until;
            let back = before.parked_until.map(|until| self.shifted(until)..=until);
            let back = back
                .zip(row.parked_until)
                .is_some_and(|(range, at)| range.contains(&at.0));
            let back = back && self.is_set_back();
            let then = self.park_then(before);
            let over = row.parked_until.is_none() && then.is_none_or(|until| until <= self.wall());
            let taken = over || then == row.parked_until.map(|at| at.0);
            let taken = taken && self.is_taken();
            hold!(
                Delays,
                opens || same || back || taken,
                "{} opens too early",
                row.name
            );
        }
        Ok(())
    }

    pub(super) fn attempt(&self, row: &AttemptRow, cast: &Cast) -> Checked {
        let mut known = self.shadow.attempts.iter();
        let known = known.find(|(id, _)| *id == row.id).map(|(_, n)| *n);
        let worker = cast.worker(&row.worker);
        match row.started_at {
            None => hold!(OneHolder, known.is_none(), "{} is given twice", row.id),
            Some(_) => hold!(OneHolder, known == worker, "{} moved", row.id),
        }
        Ok(())
    }

    /// A loss may be replaced by the result that comes late; a result by nothing.
    pub(super) fn outcome(&mut self, event: &Event, row: &OutcomeRow, cast: &Cast) -> Checked {
        let id = row.id;
        let before = self.shadow.outcome(id);
        let had = before.is_some_and(|end| end.result);
        hold!(ResultOnce, !had, "the result of {id} is recorded again");
        let Ok(outcome) = &row.result else {
            let again = before.is_some();
            hold!(Charges, !again, "{id} is lost twice");
            return self.told_use(event, row);
        };
        let Event::Reported {
            worker,
            attempt,
            said: Said::Finished(result),
            ..
        } = event
        else {
            hold!(ResultOnce, false, "a result of {id} follows from {event:?}");
            return Ok(());
        };
        let code: Option<FailureCode> = outcome.failure.as_ref().map(|failure| failure.code);
        let same = *attempt == id && code == result.code();
        hold!(ResultOnce, same, "{id} is recorded for {attempt}");
        let whose = self.shadow.given_to(id);
        let known = whose.is_some() && cast.workers.len() > usize::from(*worker);
        hold!(Fencing, known, "a result of {id}, which nobody had");
        let own = whose == Some(*worker);
        hold!(Fencing, own, "a stranger's result of {id}");
        if before.is_some() {
            self.cover.hit(Point::LateKept);
            self.pay_late(event, id);
        }
        Ok(())
    }

    pub(super) fn key(&self, event: &Event, row: &KeyRow) -> Checked {
        let mut ids = row.ids();
        let gone = |id| self.shadow.forgotten & bit(id) != 0;
        let fresh = ids.all(|id| self.shadow.task(id).at == At::Nowhere && !gone(id));
        hold!(Keys, fresh, "key {} gets tasks of another one", row.key);
        // A run has a key of its own, so that its number is not given again.
        if row.key.starts_with("schedule") {
            hold!(Keys, row.count == 1, "{} runs at once", row.count);
            return Ok(());
        }
        let Event::Asked {
            ask: Ask::Submit { key, wants },
            ..
        } = event
        else {
            hold!(Keys, false, "a key follows from {event:?}");
            return Ok(());
        };
        let right = row.key == key.to_string() && row.count == wants.len() as u64;
        hold!(Keys, right, "key {} for submission {key}", row.key);
        let known = self.shadow.key(*key).is_some();
        hold!(Keys, !known, "key {key} gets other tasks");
        Ok(())
    }
}
