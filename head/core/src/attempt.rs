//! What workers report of attempts, and what follows from it.

use std::time::Duration;

use orchestra_types::{
    ApplyResult, AttemptId, Exit, Failure, FailureCode, Outcome, TaskStatus, Timestamp, WorkerId,
};

use crate::{
    Config, ConnectionId, Core, Step,
    accounts::is_limit,
    cancel::cancelled,
    change::Change,
    input::{Report, ReportBody},
    message::Message,
    row::{AttemptRow, EndStatus, Ending, OutcomeRow, State, TaskRow},
};

/// A task whose attempts meet limits this often, one after the other, waits for a person.
const LIMITED_MAX: u32 = 50;

/// Who reports.
pub(crate) struct Reporter<'a> {
    pub connection: ConnectionId,
    pub worker: &'a WorkerId,
    /// Whether the row of the attempt names it.
    pub is_named: bool,
}

/// How an attempt is lost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loss<'a> {
    /// In words.
    pub why: &'a str,
    /// It had been ordered ahead, and waited for a slot as far as is known.
    pub ahead: bool,
}

impl<'a> Loss<'a> {
    /// Of one that may have begun.
    pub fn of(why: &'a str) -> Self {
        Self { why, ahead: false }
    }
}

/// Why an attempt is lost that has a result and no bytes of it.
const UNSTORED: &str = "bytes of its result are not stored here: a head that was restored from a backup lacks what came later";

/// Why an attempt is lost whose worker was revoked.
const SHUT_OUT: &str = "its worker was shut out while it ran (`ctl workers revoke`)";

impl Core {
    pub(crate) fn on_reported(
        &mut self,
        now: Timestamp,
        from: &Reporter<'_>,
        report: Report,
        step: &mut Step,
    ) {
        let (connection, id) = (from.connection, from.worker);
        let Some(worker) = self.workers.get_mut(id).filter(|w| w.is_on(connection)) else {
            return; // A stream that was replaced: its worker sends the report again on the new one.
        };
        if report.seq > worker.acked + 1 && !mutated!(GapTaken) {
            // A gap would lose a report for ever. The worker resends from our acknowledgement.
            step.messages.push(Message::Disconnect { connection });
            return;
        }
        let new = report.seq == worker.acked + 1
            || (mutated!(ReportTakenTwice) && report.seq == worker.acked)
            || (mutated!(GapTaken) && report.seq > worker.acked);
        if new {
            worker.acked = report.seq;
            if !mutated!(AckedNotWritten) {
                step.changes.push(Change::Acked {
                    worker: id.clone(),
                    up_to: report.seq,
                });
            }
        }
        step.messages.push(Message::AckReports {
            connection,
            up_to: worker.acked,
        });
        self.see(now, id);
        if new {
            self.on_report_body(now, from, report.attempt, report.body, step);
        }
    }

    fn on_report_body(
        &mut self,
        now: Timestamp,
        from: &Reporter<'_>,
        attempt: AttemptId,
        body: ReportBody,
        step: &mut Step,
    ) {
        let worker = from.worker;
        let held = self.holder(attempt) == Some(worker);
        if held && matches!(body, ReportBody::Started | ReportBody::Finished(_)) {
            self.note_begun(attempt, worker);
        }
        match body {
            ReportBody::Accepted => {}
            ReportBody::Started if held => self.on_started(now, attempt, step),
            ReportBody::Started => {}
            ReportBody::GivenBack if held => self.on_given_back(now, attempt, step),
            ReportBody::GivenBack => {}
            ReportBody::Finished(outcome) if held && is_shut_out(&outcome) => {
                // Nobody has told the task to end: it is tried again, and what the agent did is kept.
                self.lose(now, attempt, Loss::of(SHUT_OUT), step);
                self.keep_late(now, from, attempt, outcome, step);
            }
            ReportBody::Finished(outcome) if held => self.on_finished(now, attempt, outcome, step),
            // Stale: it changes no state, but the agent's work is kept.
            ReportBody::Finished(outcome) => self.keep_late(now, from, attempt, outcome, step),
            ReportBody::Unstored if held => {
                self.lose(now, attempt, Loss::of(UNSTORED), step);
            }
            ReportBody::Unstored => {}
        }
    }

    fn on_started(&mut self, now: Timestamp, attempt: AttemptId, step: &mut Step) {
        let task = self
            .tasks
            .get_mut(&attempt.task)
            .expect("the attempt is held");
        let State::Assigned {
            worker, runner, at, ..
        } = &task.row.state
        else {
            return; // It runs already: the worker was restarted and says so again.
        };
        let row = AttemptRow {
            id: attempt,
            worker: worker.clone(),
            runner: runner.clone(),
            assigned_at: *at,
            started_at: Some(now),
        };
        let running = State::Running {
            attempt: attempt.number,
            worker: row.worker.clone(),
            runner: row.runner.clone(),
            at: now,
        };
        task.row.started_at.get_or_insert(now);
        task.row.end_first_wait();
        step.changes.push(Change::Attempt(Box::new(row)));
        self.set_state(now, attempt.task, running, step);
    }

    fn on_finished(
        &mut self,
        now: Timestamp,
        attempt: AttemptId,
        outcome: Box<Outcome>,
        step: &mut Step,
    ) {
        let met_limit = self.meet_at_end(now, attempt, outcome.failure.as_ref(), step);
        let moves = self.moves_on(attempt, &outcome);
        let charged = !met_limit && (!moves || mutated!(MoveCharged));
        let stopped = self.close_run(now, attempt, Some(&outcome), charged, step);
        let task = self
            .tasks
            .get_mut(&attempt.task)
            .expect("the attempt is held");
        let is_over = stopped.is_some() || is_budget(outcome.failure.as_ref());
        task.row.end_first_wait();
        task.row.failures += u32::from(mutated!(OverBudgetCharged) && is_over);
        let ending = if is_over && outcome.failure.is_some() && !task.row.cancel_requested {
            stopped.unwrap_or_else(|| self.over_budget_of(now, attempt.task))
        } else if let (true, Some(failure)) = (moves, &outcome.failure) {
            self.elsewhere(attempt.task, failure)
        } else {
            ending(&mut task.row, &outcome, met_limit, self.config.losses_max)
        };
        let ending = self.unless_forbidden(now, attempt.task, ending);
        let row = OutcomeRow {
            id: attempt,
            at: now,
            result: Ok(outcome),
            reading: None,
        };
        if !mutated!(ResultNotWritten) {
            step.changes.push(Change::Outcome(Box::new(row)));
        }
        let task = self.tasks.get(&attempt.task).expect("the attempt is held");
        if task.row.facts.project.is_none() {
            // No shared context, no checkout: there is no place to put a result in.
            return self.settle(now, attempt, ending, ApplyResult::NotRequested, step);
        }
        let closing = State::Closing {
            attempt: attempt.number,
            ending,
        };
        self.set_state(now, attempt.task, closing, step);
        self.order_close(attempt.task, step);
    }

    /// Tells the shell to put a closing task's result in place.
    pub(crate) fn order_close(&self, id: orchestra_types::TaskId, step: &mut Step) {
        let Some(task) = self.tasks.get(&id) else {
            return;
        };
        match &task.row.state {
            State::Closing { ending, .. } => {
                let status = planned_status(ending);
                step.messages.push(Message::Close {
                    attempt: task.attempt(),
                    status,
                });
            }
            State::Blocked
            | State::Queued { .. }
            | State::Assigned { .. }
            | State::Running { .. }
            | State::Ended { .. } => {}
        }
    }

    pub(crate) fn on_closed(
        &mut self,
        now: Timestamp,
        attempt: AttemptId,
        apply: ApplyResult,
        step: &mut Step,
    ) {
        let Some(task) = self.tasks.get(&attempt.task) else {
            return;
        };
        let ending = match &task.row.state {
            State::Closing {
                attempt: number,
                ending,
            } if *number == attempt.number => ending.clone(),
            State::Blocked
            | State::Queued { .. }
            | State::Assigned { .. }
            | State::Running { .. }
            | State::Closing { .. }
            | State::Ended { .. } => return,
        };
        self.settle(now, attempt, ending, apply, step);
    }

    /// Takes a task on from an attempt whose result is in place.
    fn settle(
        &mut self,
        now: Timestamp,
        attempt: AttemptId,
        ending: Ending,
        apply: ApplyResult,
        step: &mut Step,
    ) {
        let task = self
            .tasks
            .get_mut(&attempt.task)
            .expect("the caller looked the task up");
        task.row.apply = Some(Box::new(apply.clone()));
        match ending {
            Ending::Retry { reason } => self.requeue(now, attempt, *reason, step),
            Ending::Elsewhere { reason } => self.move_on(now, attempt.task, *reason, step),
            Ending::End { status, reason } => {
                let (status, reason) = after_apply(status, reason.map(|r| *r), apply);
                self.end(now, attempt.task, status, reason, step);
            }
        }
    }

    /// Puts a task back into the queue after a failed attempt.
    fn requeue(&mut self, now: Timestamp, attempt: AttemptId, reason: Failure, step: &mut Step) {
        let task = self
            .tasks
            .get_mut(&attempt.task)
            .expect("the caller looked the task up");
        let waits_anyway = reason.code == FailureCode::BudgetExceeded
            || (is_limit(reason.code) && task.row.limited > 0)
            || mutated!(RetryNotDelayed);
        let delay = if waits_anyway {
            // Its account or budget holds it as long as it must; others may take it at once.
            Duration::ZERO
        } else {
            retry_delay(
                task.row.failures + task.row.losses,
                self.config.retry_delay,
                self.config.retry_delay_max,
                attempt,
            )
        };
        task.row.reason = Some(Box::new(reason));
        let queued = State::queued(
            self.calendar,
            now.plus(delay),
            task.row.created_at,
            &task.row.facts,
        );
        if !waits_anyway || mutated!(LimitAvoids) {
            self.avoid_worker(attempt.task, &queued, delay);
        }
        self.set_state(now, attempt.task, queued, step);
    }

    /// An attempt whose worker is gone.
    pub(crate) fn lose(
        &mut self,
        now: Timestamp,
        attempt: AttemptId,
        loss: Loss<'_>,
        step: &mut Step,
    ) {
        let reason = Failure::new(FailureCode::WorkerLost, loss.why);
        let charged = self.is_charged(attempt, loss);
        let reading = self.last_reading(attempt);
        // The budget that may have stopped it holds the task from now on.
        self.close_run(now, attempt, None, charged, step);
        let row = OutcomeRow {
            id: attempt,
            at: now,
            result: Err(reason.clone()),
            reading,
        };
        step.changes.push(Change::Outcome(Box::new(row)));
        let task = self
            .tasks
            .get_mut(&attempt.task)
            .expect("the attempt is held");
        task.row.given_up |= 1;
        task.row.end_first_wait();
        if charged {
            task.row.losses += u32::from(!mutated!(LossNotCharged));
            task.row.failures += u32::from(mutated!(LossChargedAsFailure));
        } else if let Some(last) = &mut task.row.last {
            last.moved += 1;
        }
        let (losses, max) = (task.row.losses, self.config.losses_max);
        if task.row.cancel_requested {
            let reason = cancelled("cancelled; its worker was lost before it could confirm");
            self.end(now, attempt.task, EndStatus::Cancelled, Some(reason), step);
        } else if losses >= max {
            let reason = quarantined(losses, loss.why);
            self.end(
                now,
                attempt.task,
                EndStatus::NeedsReview,
                Some(reason),
                step,
            );
        } else if charged {
            self.requeue(now, attempt, reason, step);
        } else {
            task.row.reason = Some(Box::new(reason));
            self.wait_on(now, attempt.task, step);
        }
    }

    /// Whether a loss may be the task's doing. An attempt that had no slot yet cannot have taken its worker
    /// down; but that is not believed for ever.
    fn is_charged(&self, attempt: AttemptId, loss: Loss<'_>) -> bool {
        let task = self.tasks.get(&attempt.task);
        let moved = task.map_or(0, |task| task.row.moved());
        let believed = moved < self.config.moved_max || mutated!(AheadLostForEver);
        !(loss.ahead && believed) || mutated!(AheadCharged)
    }

    fn keep_late(
        &mut self,
        now: Timestamp,
        from: &Reporter<'_>,
        attempt: AttemptId,
        outcome: Box<Outcome>,
        step: &mut Step,
    ) {
        let Some(task) = self.tasks.get_mut(&attempt.task) else {
            return;
        };
        // Only an attempt that was given up, and only of the worker that had it: a recorded result
        // never changes.
        let row = &mut task.row;
        let before = row.attempts.checked_sub(attempt.number);
        let bit = before.and_then(|before| 1_u32.checked_shl(before));
        let mut owed = bit.unwrap_or(0) & row.given_up;
        if mutated!(ResultOverwritten) {
            owed = bit.unwrap_or(0);
        }
        let its_own = match attempt.number == row.attempts {
            true => row
                .last
                .as_ref()
                .is_some_and(|last| last.worker == *from.worker),
            false => from.is_named,
        };
        if owed != 0 && !mutated!(LateResultDropped) && its_own {
            row.given_up &= !owed;
            self.count_late(now, attempt, &outcome, step);
            let late = OutcomeRow {
                id: attempt,
                at: now,
                result: Ok(outcome),
                reading: None,
            };
            step.changes.push(Change::Outcome(Box::new(late)));
            self.write(attempt.task, step);
        }
    }
}

fn is_shut_out(outcome: &Outcome) -> bool {
    let failure = outcome.failure.as_ref();
    failure.is_some_and(|failure| failure.code == FailureCode::WorkerRevoked)
}

fn is_budget(failure: Option<&Failure>) -> bool {
    failure.is_some_and(|failure| failure.code == FailureCode::BudgetExceeded)
}

/// What follows from an attempt's result. Counts the failure.
fn ending(row: &mut TaskRow, outcome: &Outcome, met_limit: bool, losses_max: u32) -> Ending {
    let Some(failure) = &outcome.failure else {
        return Ending::End {
            status: EndStatus::Succeeded,
            reason: None,
        };
    };
    if (row.cancel_requested && !mutated!(CancelledIsRetried))
        || failure.code == FailureCode::Cancelled
    {
        let reason = Some(Box::new(cancelled("cancelled while it ran")));
        return Ending::End {
            status: EndStatus::Cancelled,
            reason,
        };
    }
    if met_limit && row.limited < LIMITED_MAX && !mutated!(LimitCharged) {
        // The account's doing and not the task's: it waits for the account, and is not charged.
        row.limited += 1;
        return Ending::Retry {
            reason: Box::new(failure.clone()),
        };
    }
    row.limited = 0;
    row.failures += u32::from(!mutated!(FailureNotCharged));
    // Its supervisor was gone, or its machine. One that was told to stop has seen the end of its agent.
    if failure.code == FailureCode::WorkerLost && outcome.exit == Exit::Unknown {
        row.losses += u32::from(!mutated!(ReportedLossNotCounted));
        if row.losses >= losses_max && row.failures <= row.facts.retries {
            return Ending::End {
                status: EndStatus::NeedsReview,
                reason: Some(Box::new(quarantined(row.losses, &failure.message))),
            };
        }
    }
    if failure.code.is_retryable() && row.failures <= row.facts.retries {
        return Ending::Retry {
            reason: Box::new(failure.clone()),
        };
    }
    // Retries were asked for and did not help: a person must look.
    let exhausted = met_limit || (row.facts.retries > 0 && failure.code.is_retryable());
    if !exhausted {
        return Ending::End {
            status: EndStatus::Failed,
            reason: Some(Box::new(failure.clone())),
        };
    }
    let message = match row.failures {
        0 | 1 => failure.message.clone(),
        times => format!("failed {times} times; last: {}", failure.message),
    };
    Ending::End {
        status: EndStatus::NeedsReview,
        reason: Some(Box::new(Failure {
            message,
            ..failure.clone()
        })),
    }
}

/// A task is not tried again that may be what takes its workers down.
fn quarantined(losses: u32, last: &str) -> Failure {
    let why = format!(
        "{losses} times its worker, or its supervisor there, was lost while it ran; last: {last}"
    );
    Failure::new(FailureCode::Quarantined, why)
}

fn planned_status(ending: &Ending) -> Option<TaskStatus> {
    match ending {
        Ending::End { status, .. } => Some(status.status()),
        Ending::Retry { .. } | Ending::Elsewhere { .. } => None,
    }
}

/// A success whose change does not fit into the user's checkout waits for a person.
fn after_apply(
    status: EndStatus,
    reason: Option<Failure>,
    apply: ApplyResult,
) -> (EndStatus, Option<Failure>) {
    match (status, apply) {
        (EndStatus::Succeeded, ApplyResult::Conflict { message }) => {
            let reason = Failure::new(FailureCode::ApplyConflict, message);
            (EndStatus::NeedsReview, Some(reason))
        }
        (EndStatus::Succeeded, ApplyResult::NotRequested | ApplyResult::Applied { .. })
        | (EndStatus::Failed | EndStatus::Cancelled | EndStatus::NeedsReview, _) => {
            (status, reason)
        }
    }
}

/// Twice as long for each failure, with up to a quarter more that the attempt's own numbers seed,
/// so that tasks that failed together do not come back together.
fn retry_delay(failures: u32, first: Duration, max: Duration, attempt: AttemptId) -> Duration {
    let delay = backoff(failures, first, max);
    let quarter = u64::try_from(delay.as_millis() / 4).unwrap_or(u64::MAX);
    let jitter = scattered(attempt).checked_rem(quarter).unwrap_or(0);
    delay + Duration::from_millis(jitter)
}

fn backoff(failures: u32, first: Duration, max: Duration) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    first.saturating_mul(1 << doublings).min(max)
}

impl Config {
    /// What the delay of a retry is at most, after so many failures and losses.
    pub(crate) fn retry_delay_most(&self, failures: u32) -> Duration {
        backoff(failures, self.retry_delay, self.retry_delay_max) * 5 / 4
    }
}

/// A number that looks random, and is the same for the same attempt (the mixer of splitmix64).
fn scattered(attempt: AttemptId) -> u64 {
    let seed = attempt.task.0.rotate_left(32) ^ u64::from(attempt.number);
    let seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let seed = (seed ^ (seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let seed = (seed ^ (seed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    seed ^ (seed >> 31)
}
