//! What is over is forgotten: when its time is over and nothing needs it.

use orchestra_core::{Core, EndStatus, Message, Step};
use orchestra_types::{OnDependencyFailure, TaskId};

use super::Judge;
use crate::{
    cover::Point,
    rule::{Checked, hold},
    shadow::{At, Shade, bit},
};

/// How long after something was forgotten the next thing may be.
const PAUSE_MS: u64 = 5;

impl Judge {
    /// A task is forgotten.
    pub(super) fn forgets(&mut self, id: TaskId) -> Checked {
        let shade = self.shadow.task(id);
        let over = matches!(shade.at, At::Ended(_));
        hold!(Retention, over, "{id} is forgotten and {:?}", shade.at);
        let needed_by = self.needed_by(id, &shade);
        hold!(Retention, needed_by.is_none(), "{needed_by:?} needs {id}");
        let runs = self.runs_need(id);
        hold!(Retention, !runs, "the runs of a schedule need {id}");
        let unbegun = |shade: &Shade| shade.attempts == 0;
        // Of too many, those that hold nothing go first.
        let only_unbegun = self.is_full() && self.may_go().any(|(_, other)| unbegun(other));
        hold!(
            Retention,
            !only_unbegun || unbegun(&shade),
            "{id} goes before others that never began"
        );
        let alike = |other: &Shade| !only_unbegun || unbegun(other);
        let alike = self.may_go().filter(|(_, other)| alike(other));
        let first = alike.map(|(_, other)| other.ended_at).min();
        let first = first.is_some_and(|at| shade.ended_at <= at);
        hold!(
            Retention,
            first,
            "{id} goes before others that ended earlier"
        );
        let late = self.goes_at(&shade) <= self.now;
        hold!(
            Retention,
            late || self.is_full(),
            "{id} is forgotten too early"
        );
        self.cover.hit(if late {
            Point::Forgotten
        } else {
            Point::ForgottenEarly
        });
        self.money.forget(id);
        Ok(())
    }

    /// Who still needs a task that is over: one that has not ended and comes after it, one that is a
    /// part of it, or one that would wait for it after a retry.
    fn needed_by(&self, id: TaskId, shade: &Shade) -> Option<TaskId> {
        let needs = |other: &Shade| {
            let after = other.after & bit(id) != 0;
            let open = !matches!(other.at, At::Ended(_));
            let again = other.at != At::Ended(EndStatus::Succeeded)
                && other.policy != OnDependencyFailure::Run
                && shade.at != At::Ended(EndStatus::Succeeded);
            (after && (open || again)) || other.parent == Some(id)
        };
        let mut others = self.shadow.tasks();
        others
            .find(|(_, other)| needs(other))
            .map(|(other, _)| other)
    }

    /// What is over and needed by nothing.
    fn may_go(&self) -> impl Iterator<Item = (TaskId, &Shade)> {
        self.shadow.tasks().filter(|(id, shade)| {
            matches!(shade.at, At::Ended(_))
                && self.needed_by(*id, shade).is_none()
                && !self.runs_need(*id)
        })
    }

    fn goes_at(&self, shade: &Shade) -> u64 {
        let kept = self.config.retention.finished_for.as_millis();
        let kept = u64::try_from(kept).unwrap_or(u64::MAX);
        shade.ended_at.saturating_add(kept)
    }

    /// Whether there is more of what is over than is kept.
    fn is_full(&self) -> bool {
        let over = |(_, shade): &(TaskId, &Shade)| matches!(shade.at, At::Ended(_));
        let count = self.shadow.tasks().filter(over).count() as u64;
        count > self.config.retention.finished_max
    }

    /// A key is forgotten, when all its tasks are and nobody repeats it any more.
    pub(super) fn forgets_key(&mut self, key: &str) -> Checked {
        self.cover.hit(Point::KeyForgotten);
        let Some(known) = key.parse().ok().and_then(|key| self.shadow.key(key)) else {
            return Ok(());
        };
        let mut ids = (known.first..known.first + known.count).map(TaskId);
        let there = ids.find(|id| self.shadow.task(*id).at != At::Nowhere);
        hold!(
            Retention,
            there.is_none(),
            "key {key} goes before {there:?}"
        );
        let kept = self.config.retention.keys_for.as_millis();
        let kept = u64::try_from(kept).unwrap_or(u64::MAX);
        let late = known.at.saturating_add(kept) <= self.now;
        hold!(Retention, late, "key {key} of {} goes too early", known.at);
        Ok(())
    }

    /// After each step what is to go is gone, or goes in a moment; and who watches is told.
    pub(super) fn retention(&mut self, step: &Step, core: &Core) -> Checked {
        let gone = |m: &&Message| matches!(m, Message::Forgotten { .. });
        let told = step.messages.iter().filter(gone).count();
        let gone = step
            .changes
            .iter()
            .filter(|change| matches!(change, orchestra_core::Change::ForgetTask { .. }));
        hold!(
            Watchers,
            told == gone.count(),
            "{told} are told to be forgotten"
        );
        let full = self.is_full();
        let due = self
            .may_go()
            .map(|(_, shade)| if full { 0 } else { self.goes_at(shade) });
        let due = due.min();
        let asked = core.next_deadline().map(|at| at.0);
        let soon = |due: u64| due.max(self.now + PAUSE_MS);
        let in_time = due.is_none_or(|due| asked.is_some_and(|asked| asked <= soon(due)));
        hold!(
            Deadlines,
            in_time,
            "to go at {due:?}, it asks for {asked:?}"
        );
        Ok(())
    }
}
