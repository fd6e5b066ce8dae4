//! A worker that was given up is back, and nobody else has had its attempt: it goes on.

use orchestra_types::{AttemptId, FailureCode};

use super::{Judge, moves::Move};
use crate::{
    cover::Point,
    event::Event,
    rule::{Checked, hold},
    shadow::{At, Shade},
};

impl Judge {
    /// What is to be taken back with an event: what a worker names and has begun, was the last one to
    /// have, lost only by its silence, and what has waited since.
    pub(super) fn note_back(&mut self, event: &Event) {
        self.back.clear();
        let Event::Attached {
            worker, look, held, ..
        } = event
        else {
            return;
        };
        if self.shadow.boots[usize::from(*worker)] != Some(look.boot) {
            return;
        }
        for held in held.iter().filter(|held| held.started) {
            if !self.comes_back(*worker, held.attempt) || self.back.contains(&held.attempt) {
                continue;
            }
            let shade = self.shadow.task(held.attempt.task);
            match shade.told_to_end(held.attempt.number) {
                true => self.cover.hit(Point::ToldToEndBefore),
                false => self.back.push(held.attempt),
            }
        }
    }

    /// A worker that is told to end what was given up is told nothing else of it later, whatever happens to head
    /// and worker.
    pub(super) fn told_to_end(&self, worker: u8, attempt: AttemptId) -> Checked {
        let shade = self.shadow.task(attempt.task);
        let last = shade.last.map(|(worker, _)| worker);
        let may_come = shade.attempts == attempt.number && last == Some(worker);
        let known = shade.counted(attempt.number).is_some();
        let noted = shade.told_to_end(attempt.number);
        hold!(
            Welcome,
            noted || !may_come || !known,
            "{attempt} is to be ended, and that is not written down"
        );
        Ok(())
    }

    fn comes_back(&self, worker: u8, attempt: AttemptId) -> bool {
        let shade = self.shadow.task(attempt.task);
        let mut had = self.shadow.attempts.iter();
        let had = had.any(|(id, n)| *id == attempt && *n == worker);
        let end = self.shadow.outcome(attempt);
        let lost = end.is_some_and(|end| !end.result && end.code == Some(FailureCode::WorkerLost));
        // Who tries again by hand forgives losses, and wants another attempt.
        matches!(shade.at, At::Queued { .. })
            && shade.attempts == attempt.number
            && had
            && lost
            && match shade.is_charged(attempt.number) {
                true => shade.losses > 0,
                false => shade.moved > 0,
            }
            && !shade.cancelled
            && !shade.cancel_requested
            && self.used_up(attempt.task, &shade).is_none()
    }

    /// Whether this takes an attempt back.
    pub(super) fn is_taken_back(change: &Move<'_>) -> bool {
        matches!(change.old.at, At::Queued { .. }) && matches!(change.new.at, At::Running { .. })
    }

    pub(super) fn taken_back(&mut self, change: &Move<'_>) -> Checked {
        let Move {
            event,
            id,
            old,
            new,
        } = change;
        self.cover.hit(Point::TakenBack);
        let attempt = AttemptId {
            task: *id,
            number: new.attempts,
        };
        let wanted = self.back.contains(&attempt);
        hold!(
            Transitions,
            wanted,
            "{attempt} is taken back after {event:?}"
        );
        hold!(CancelHolds, !old.cancelled, "{id} goes on after a cancel");
        let its_own = match event {
            Event::Attached { worker, .. } => {
                new.holder().map(|(holder, _)| holder) == Some(*worker)
            }
            _ => false,
        };
        let same = new.holder() == old.last && new.attempts == old.attempts;
        hold!(OneHolder, its_own && same, "{attempt} goes on elsewhere");
        let place = old
            .machine
            .is_none_or(|n| new.holder().map(|(w, _)| w) == Some(n));
        hold!(Placement, place, "{attempt} goes on at another machine");
        Ok(())
    }

    /// Only the loss of what goes on is forgotten.
    pub(super) fn loss_forgotten(&self, attempt: AttemptId) -> Checked {
        let end = self.shadow.outcome(attempt);
        let loss = end.is_some_and(|end| !end.result);
        let wanted = self.back.contains(&attempt);
        hold!(
            ResultOnce,
            loss && wanted,
            "the end of {attempt} is forgotten"
        );
        Ok(())
    }

    /// After a step, all that was to be taken back is held by its worker, and its end is open again.
    pub(super) fn all_taken_back(&self) -> Checked {
        for attempt in &self.back {
            let shade = self.shadow.task(attempt.task);
            let runs = matches!(shade.at, At::Running { .. }) && shade.attempts == attempt.number;
            hold!(Welcome, runs, "{attempt} is not taken back: {:?}", shade.at);
            let open = self.shadow.outcome(*attempt).is_none();
            hold!(ResultOnce, open, "{attempt} goes on and has ended");
        }
        Ok(())
    }

    /// What is written of attempts that were given up is what was counted of them.
    pub(super) fn counted(&mut self, change: &Move<'_>) -> Checked {
        let Move { id, old, new, .. } = change;
        let number = old.attempts;
        let before = old.counted(number);
        let over = old.holder().is_some() && new.holder().is_none();
        let written = new.counted(number);
        if new.told_to_end(number) && !old.told_to_end(number) {
            let names = match change.event {
                Event::Attached { held, .. } => held
                    .iter()
                    .any(|held| held.attempt.task == *id && held.attempt.number == number),
                _ => false,
            };
            hold!(
                Welcome,
                names,
                "{id} is never to be taken back, after {:?}",
                change.event
            );
        }
        let expected = if over && self.result(change).is_some() {
            if before.is_some() {
                self.cover.hit(Point::TakenBackEnded);
            }
            None
        } else if over && !self.is_given_back(change) {
            if before.is_some() {
                self.cover.hit(Point::TakenBackLost);
            }
            self.known_use(*id)
        } else if self.is_late(change, number) {
            None
        } else {
            before
        };
        hold!(
            Budgets,
            written == expected,
            "of {id} {written:?} is counted, not {expected:?}"
        );
        Ok(())
    }

    /// Whether the result of an attempt that was given up comes with this.
    fn is_late(&self, change: &Move<'_>, number: u32) -> bool {
        let attempt = AttemptId {
            task: change.id,
            number,
        };
        let result = self.shadow.outcome(attempt).is_some_and(|end| end.result);
        let held = |shade: &Shade| shade.holder().is_some();
        let reports = matches!(change.event, Event::Reported { attempt: a, .. } if *a == attempt);
        result && reports && !held(&change.old)
    }
}
