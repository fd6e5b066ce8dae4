//! A worker that was away for longer than its lease comes back, and its task still waits: the
//! attempt is taken back, as if it had never been given up.
//!
//! Nobody else has had the task since, so its worker is its one holder again, with the same number.
//! An agent that runs goes on, and the result of one that has ended is the task's. Slots and accounts
//! are not asked: they keep attempts from being started, and this one was.

use orchestra_types::{AttemptId, FailureCode, TaskId, Timestamp, WorkerId};

use crate::{
    Core, Step,
    change::Change,
    input::Held,
    row::{AttemptRow, Counted, State, TaskRow},
};

impl Core {
    /// Takes back what a worker names that was given up and that nobody else has had since. Its
    /// machine is the same as before: after another start of it no agent is left to go on.
    pub(crate) fn take_back(
        &mut self,
        now: Timestamp,
        id: &WorkerId,
        held: &[Held],
        step: &mut Step,
    ) {
        for held in held {
            // What never began costs nothing to begin anew.
            let begun = held.started || mutated!(TakenBackUnbegun);
            if begun && self.may_take_back(now, id, held.attempt) && !mutated!(NeverTakenBack) {
                self.take_one_back(now, id, held.attempt, step);
                if let Some(ran) = held.running {
                    self.count_return(now, held.attempt, ran, step);
                }
            }
        }
    }

    fn may_take_back(&self, now: Timestamp, id: &WorkerId, attempt: AttemptId) -> bool {
        let Some(task) = self.tasks.get(&attempt.task) else {
            return false;
        };
        let row = &task.row;
        let waits = match row.state {
            State::Queued { .. } => true,
            State::Ended { .. } => mutated!(TakenBackThoughCancelled),
            State::Blocked
            | State::Assigned { .. }
            | State::Running { .. }
            | State::Closing { .. } => false,
        };
        let lost = is_lost(row) || mutated!(TakenBackThoughCancelled);
        let latest = row.attempts == attempt.number;
        let last = row.last.as_ref();
        let counted = last
            .filter(|last| last.worker == *id)
            .and_then(|last| last.counted(attempt.number));
        let its_own =
            counted.is_some_and(|known| !known.told_to_end || mutated!(TakenBackThoughTold));
        let nobody_since = (latest && its_own) || mutated!(TakenBackFromOthers);
        waits
            && lost
            && nobody_since
            && !row.cancel_requested
            && (!self.is_used_up(now, attempt.task) || mutated!(TakenBackOverBudget))
    }

    /// What a worker is told to end is not taken back when it comes again, before its report of that end is
    /// known: that end would be the one of the task.
    pub(crate) fn never_take_back(&mut self, id: &WorkerId, told: &[AttemptId], step: &mut Step) {
        for attempt in told {
            let Some(task) = self.tasks.get_mut(&attempt.task) else {
                continue;
            };
            let row = &mut task.row;
            let latest = row.attempts == attempt.number;
            let last = row
                .last
                .as_mut()
                .filter(|last| last.worker == *id && latest);
            let Some(known) = last.and_then(|last| last.counted_mut(attempt.number)) else {
                continue;
            };
            if !std::mem::replace(&mut known.told_to_end, true) && !mutated!(ToldNotWritten) {
                self.write(attempt.task, step);
            }
        }
    }

    fn take_one_back(
        &mut self,
        now: Timestamp,
        id: &WorkerId,
        attempt: AttemptId,
        step: &mut Step,
    ) {
        let Some(runner) = self.uncharge_loss(now, attempt.task) else {
            return;
        };
        let task = self.tasks.get_mut(&attempt.task);
        let last = task.and_then(|task| task.row.last.as_mut());
        let counted = last.and_then(|last| last.counted_mut(attempt.number));
        // That its agent was started may be told by nobody again.
        if let Some(assigned_at) = counted.and_then(|known| known.unstarted.take()) {
            let row = AttemptRow {
                id: attempt,
                worker: id.clone(),
                runner: runner.clone(),
                assigned_at,
                started_at: Some(now),
            };
            step.changes.push(Change::Attempt(Box::new(row)));
        }
        let running = State::Running {
            attempt: attempt.number,
            worker: id.clone(),
            runner,
            at: now,
        };
        self.set_state(now, attempt.task, running, step);
        if !mutated!(TakenBackStaysLost) {
            step.changes.push(Change::ForgetOutcome { id: attempt });
        }
    }

    /// A loss that was none. The runner of the attempt.
    fn uncharge_loss(&mut self, now: Timestamp, id: TaskId) -> Option<orchestra_types::RunnerName> {
        let row = &mut self.tasks.get_mut(&id)?.row;
        let number = row.attempts;
        match row.last.as_mut() {
            Some(last) if last.counted(number).is_some_and(Counted::was_ahead) => {
                last.moved = last.moved.saturating_sub(1);
            }
            _ => row.losses -= u32::from(row.losses > 0 && !mutated!(TakenBackCharged)),
        }
        // Its one result is the one that its holder reports.
        row.given_up &= !1;
        row.reason = None;
        row.started_at.get_or_insert(now);
        Some(row.last.as_ref()?.runner.clone())
    }
}

/// Whether a task waits because the worker of its latest attempt was lost, and for nothing else: a
/// person who tries again takes the reason away.
fn is_lost(row: &TaskRow) -> bool {
    let reason = row.reason.as_ref();
    row.given_up & 1 != 0 && reason.is_some_and(|reason| reason.code == FailureCode::WorkerLost)
}
