//! What can be read of the core is what the rows say.

use orchestra_core::{Core, Link, Message, Step};
use orchestra_types::{AttemptId, OnDependencyFailure, Priority, TaskId, TaskStatus};

use super::Judge;
use crate::{
    cast::{Cast, bits},
    event::Event,
    rule::{Checked, hold},
    shadow::{At, Shade},
};

impl Judge {
    /// After each step: the counts, the workers, and the tasks that changed.
    pub(super) fn memory(&self, event: &Event, step: &Step, core: &Core, cast: &Cast) -> Checked {
        let quiet = step.changes.is_empty() && matches!(event, Event::Tick);
        if quiet && self.expired == 0 {
            return Ok(());
        }
        for id in bits(self.changed) {
            self.one(TaskId(id), core, cast)?;
        }
        self.counts(core)?;
        self.workers(core, cast)
    }

    /// All of it.
    pub fn everything(&self, core: &Core, cast: &Cast) -> Checked {
        for (id, _) in self.shadow.tasks() {
            self.one(id, core, cast)?;
        }
        self.counts(core)?;
        self.workers(core, cast)
    }

    fn one(&self, id: TaskId, core: &Core, cast: &Cast) -> Checked {
        let shade = self.shadow.task(id);
        let view = core.task(id);
        if shade.at == At::Nowhere {
            hold!(Memory, view.is_none(), "{id} is there");
            return Ok(());
        }
        let Some(view) = view else {
            hold!(Durable, false, "{id} is gone");
            return Ok(());
        };
        let mut seen = Shade::of(view.row, cast);
        seen.cancelled = shade.cancelled;
        hold!(Memory, seen == shade, "{id}: {seen:?}, the row: {shade:?}");
        let status = Some(view.status) == shade.status();
        hold!(Memory, status, "{id} is shown as {}", view.status);
        self.waits(id, &shade, &view.waits_for)?;
        let latest = AttemptId {
            task: id,
            number: shade.attempts,
        };
        let holder = core.holder(latest).and_then(|id| cast.worker(id));
        let right = holder == shade.holder().map(|(worker, _)| worker);
        hold!(OneHolder, right, "{latest} is held by {holder:?}");
        Ok(())
    }

    /// A blocked task waits for exactly those that have not succeeded.
    fn waits(&self, id: TaskId, shade: &Shade, waits_for: &[TaskId]) -> Checked {
        let waits = waits_for
            .iter()
            .fold(0, |set, id| set | crate::shadow::bit(*id));
        let open = bits(shade.after)
            .filter(|id| !self.shadow.is_settled(TaskId(*id)))
            .fold(0, |set: u64, id| set | 1 << id);
        // Who runs anyway waits no more for one that has ended, also when it is tried again.
        let least = match shade.policy {
            OnDependencyFailure::Run => open & !self.shadow.ended,
            OnDependencyFailure::Block | OnDependencyFailure::Cancel => open,
        };
        let doomed = self.shadow.is_doomed(shade);
        hold!(
            Dependencies,
            !doomed || shade.at != At::Blocked,
            "{id} is to be cancelled"
        );
        let right = match shade.at {
            At::Blocked => waits & !open == 0 && waits & least == least && waits != 0,
            At::Queued { .. } | At::Assigned { .. } | At::Running { .. } | At::Closing { .. } => {
                waits == 0
            }
            At::Nowhere | At::Ended(_) => true,
        };
        hold!(Dependencies, right, "{id} waits for {waits_for:?}");
        Ok(())
    }

    fn counts(&self, core: &Core) -> Checked {
        let mut by_status = [0_u64; TaskStatus::ALL.len()];
        let mut open = [0_u64; Priority::ALL.len()];
        for (_, shade) in self.shadow.tasks() {
            if let Some(status) = shade.status() {
                by_status[status as usize] += 1;
                open[shade.priority as usize] += u64::from(!status.is_ended());
            }
        }
        let counts = core.counts();
        let closing = |(_, shade): &(_, &Shade)| matches!(shade.at, At::Closing { .. });
        let (counted, there) = (
            counts.finishing(),
            self.shadow.tasks().filter(closing).count(),
        );
        hold!(
            Counts,
            counted == there as u64,
            "{counted} finishing, not {there}"
        );
        for status in TaskStatus::ALL {
            let (counted, there) = (counts.with_status(status), by_status[status as usize]);
            hold!(Counts, counted == there, "{counted} {status}, not {there}");
        }
        for priority in Priority::ALL {
            let (counted, there) = (counts.open_with_priority(priority), open[priority as usize]);
            hold!(
                Counts,
                counted == there,
                "{counted} open {priority}, not {there}"
            );
        }
        Ok(())
    }

    fn workers(&self, core: &Core, cast: &Cast) -> Checked {
        for view in core.workers() {
            let Some(n) = cast.worker(&view.info.id) else {
                continue;
            };
            let seen = &self.seen[usize::from(n)];
            let right = match view.link {
                Link::Connected(connection) => seen.connection == Some(connection.0),
                Link::Disconnected => seen.connection.is_none() && !seen.lost,
                Link::Lost => seen.connection.is_none() && seen.lost,
            };
            hold!(Leases, right, "worker {n} is {:?}: {seen:?}", view.link);
            let held = |attempt: &AttemptId| {
                let shade = self.shadow.task(attempt.task);
                shade.attempts == attempt.number && shade.holder().is_some_and(|(h, _)| h == n)
            };
            let theirs = self.shadow.tasks().filter(|(_, shade)| {
                let holder = shade.holder();
                holder.is_some_and(|(holder, _)| holder == n)
            });
            let right = view.attempts.iter().all(held) && theirs.count() == view.attempts.len();
            hold!(OneHolder, right, "worker {n} has {:?}", view.attempts);
        }
        Ok(())
    }

    /// After a start every result that was not yet in place is put there again.
    pub(super) fn closes_again(&self, step: &Step) -> Checked {
        for (id, shade) in self.shadow.tasks() {
            let closing = matches!(shade.at, At::Closing { .. });
            let mut messages = step.messages.iter();
            let ordered = messages.any(
                |message| matches!(message, Message::Close { attempt, .. } if attempt.task == id),
            );
            hold!(Restore, closing == ordered, "{id} is {:?}", shade.at);
        }
        Ok(())
    }
}
