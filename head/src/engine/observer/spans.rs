//! What was committed, as spans of its tasks' traces: each is sent when what it is about is over.
//!
//! What ends a second time, as a task that a person tries again, or an attempt that was taken back, is sent
//! again by the same id: the later one is the whole.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use opentelemetry::{KeyValue, trace::Status};
use orchestra_core::{AttemptRow, Calendar, Change, Core, EndStatus, OutcomeRow, State, TaskRow};
use orchestra_telemetry::Finished;
use orchestra_types::{AttemptId, FailureCode, Outcome, TaskId, Timestamp};

use super::{is_given_up, task_of};
use crate::{
    store::Store,
    traces::{Part, Trace, Traces},
};

/// The result of what has no failure.
const SUCCEEDED: &str = "succeeded";
/// That of an attempt that was called back before it began.
const CALLED_BACK: &str = "called_back";

/// How an attempt came to its end.
#[derive(Clone, Copy)]
enum Way<'a> {
    /// Its result came.
    Ended(&'a Outcome),
    /// Its result came after it was given up.
    Late(&'a Outcome),
    /// Nobody waits for its result.
    GivenUp(FailureCode),
    /// It was called back before it began.
    CalledBack,
}

/// Makes spans; there is none where nothing is sent.
pub(super) struct Spans {
    traces: Traces,
    /// Attempts that were given up, and whose results may still come.
    owed: BTreeSet<AttemptId>,
}

/// What changes are seen with.
pub(super) struct Seen<'a> {
    pub core: &'a Core,
    pub store: &'a Store,
    /// Since when queued tasks can run, before the change.
    pub runnable: &'a BTreeMap<TaskId, Timestamp>,
}

impl Spans {
    pub fn new(traces: Traces, rows: &[TaskRow]) -> Self {
        let owed = rows.iter().flat_map(owed_of).collect();
        Self { traces, owed }
    }

    /// Sends what a change ends. `rest` is the step from it on; `ends` says that it is its task's end.
    pub fn note(&mut self, change: &Change, rest: &[Change], ends: bool, seen: &Seen<'_>) {
        for finished in self.of(change, rest, ends, seen) {
            self.traces.record(finished);
        }
    }

    fn of(
        &mut self,
        change: &Change,
        rest: &[Change],
        ends: bool,
        seen: &Seen<'_>,
    ) -> Vec<Finished> {
        match change {
            Change::Task(row) if ends => self.task(row, seen),
            Change::Attempt(row) if row.started_at.is_none() => self.assigned(row, seen),
            Change::Outcome(row) => {
                let task = rest.iter().find_map(|change| task_of(change, row.id.task));
                self.outcome(row, task, seen).into_iter().collect()
            }
            Change::ForgetOutcome { id } => {
                self.owed.remove(id);
                Vec::new()
            }
            Change::ForgetTask { id, attempts } => {
                let of = |number| AttemptId { task: *id, number };
                let known = self.owed.range(of(0)..=of(*attempts));
                for attempt in known.copied().collect::<Vec<_>>() {
                    self.owed.remove(&attempt);
                }
                Vec::new()
            }
            Change::Task(_)
            | Change::Attempt(_)
            | Change::Spec { .. }
            | Change::Worker(_)
            | Change::Acked { .. }
            | Change::Account(_)
            | Change::Ledger(_)
            | Change::Project(_)
            | Change::Key(_)
            | Change::Schedule(_)
            | Change::ForgetSchedule { .. }
            | Change::ScheduleIds { .. }
            | Change::ForgetKey { .. }
            | Change::ForgetWorker { .. } => Vec::new(),
        }
    }

    /// A task's end, and that of its wait if it still waited.
    fn task(&self, row: &TaskRow, seen: &Seen<'_>) -> Vec<Finished> {
        let State::Ended { status, at } = &row.state else {
            return Vec::new();
        };
        let Some(trace) = self.trace(row.id, row.created_at, seen.store) else {
            return Vec::new();
        };
        let calendar = seen.core.calendar();
        let mut spans = Vec::new();
        if let Some(since) = seen.runnable.get(&row.id) {
            spans.push(wait(&trace, row, *since, *at, calendar));
        }
        let links = row.after.iter();
        let links = links.filter_map(|before| self.root(*before, seen));
        let mut whole = whole(&trace, row, *status, *at, calendar);
        whole.links = links.collect();
        spans.push(whole);
        spans
    }

    /// The wait for an attempt is over.
    fn assigned(&self, row: &AttemptRow, seen: &Seen<'_>) -> Vec<Finished> {
        let task = row.id.task;
        let (Some(since), Some(view)) = (seen.runnable.get(&task), seen.core.task(task)) else {
            return Vec::new();
        };
        let trace = self.trace(task, view.row.created_at, seen.store);
        let calendar = seen.core.calendar();
        let span = trace.map(|trace| {
            let (start, end) = (clock(*since, calendar), clock(row.assigned_at, calendar));
            let part = Part::Queue(row.id.number);
            let mut span = trace.finished(part, start, end);
            span.attributes.push(priority(view.row));
            span
        });
        span.into_iter().collect()
    }

    fn outcome(
        &mut self,
        row: &OutcomeRow,
        task: Option<&TaskRow>,
        seen: &Seen<'_>,
    ) -> Option<Finished> {
        let owed = self.owed.remove(&row.id);
        let given_up = task.is_some_and(|task| is_given_up(task, row.id));
        let way = match &row.result {
            Ok(outcome) if owed => Way::Late(outcome),
            Ok(outcome) => Way::Ended(outcome),
            Err(failure) if given_up => Way::GivenUp(failure.code),
            Err(_) => Way::CalledBack,
        };
        if given_up && row.result.is_err() {
            self.owed.insert(row.id);
        }
        let view = seen.core.task(row.id.task)?;
        let trace = self.trace(row.id.task, view.row.created_at, seen.store)?;
        let attempt = seen.store.attempt(row.id).unwrap_or_else(|error| {
            tracing::warn!(attempt = %row.id, %error, "it cannot be read: its trace lacks it");
            None
        })?;
        Some(attempt_span(
            &trace,
            &attempt,
            way,
            row.at,
            seen.core.calendar(),
        ))
    }

    /// The span of all of a task.
    fn root(&self, task: TaskId, seen: &Seen<'_>) -> Option<opentelemetry::trace::SpanContext> {
        let view = seen.core.task(task)?;
        let trace = self.trace(task, view.row.created_at, seen.store)?;
        Some(trace.context(Part::Task))
    }

    fn trace(&self, task: TaskId, created_at: Timestamp, store: &Store) -> Option<Trace> {
        let spec = store.spec(task).unwrap_or_else(|error| {
            tracing::warn!(%task, %error, "it cannot be read: its trace is not sent");
            None
        })?;
        Some(self.traces.of(task, created_at, &spec.traceparent))
    }
}

/// The attempts of a task that were given up.
fn owed_of(row: &TaskRow) -> impl Iterator<Item = AttemptId> + use<> {
    let (task, latest, given_up) = (row.id, row.attempts, row.given_up);
    let bits = (0..u32::BITS).filter(move |bit| given_up & (1 << bit) != 0);
    let numbers = bits.filter_map(move |bit| latest.checked_sub(bit));
    numbers.map(move |number| AttemptId { task, number })
}

/// A wait that no attempt has ended.
fn wait(
    trace: &Trace,
    row: &TaskRow,
    since: Timestamp,
    at: Timestamp,
    calendar: Calendar,
) -> Finished {
    let part = Part::Queue(row.attempts + 1);
    let mut span = trace.finished(part, clock(since, calendar), clock(at, calendar));
    span.attributes.push(priority(row));
    span
}

/// All of a task's life.
fn whole(
    trace: &Trace,
    row: &TaskRow,
    status: EndStatus,
    at: Timestamp,
    calendar: Calendar,
) -> Finished {
    let failure = match status {
        EndStatus::Succeeded => None,
        EndStatus::Failed | EndStatus::Cancelled | EndStatus::NeedsReview => {
            let reason = row.reason.as_ref();
            Some(reason.map_or(FailureCode::Internal, |reason| reason.code))
        }
    };
    let created = clock(row.created_at, calendar);
    let mut span = trace.finished(Part::Task, created, clock(at, calendar));
    span.attributes.extend([
        priority(row),
        KeyValue::new("status", status.status().as_str()),
        KeyValue::new("result", failure.map_or(SUCCEEDED, FailureCode::as_str)),
        KeyValue::new("attempts", i64::from(row.attempts)),
    ]);
    span.status = match status {
        EndStatus::Succeeded => Status::Ok,
        // A person wanted that.
        EndStatus::Cancelled => Status::Unset,
        EndStatus::Failed | EndStatus::NeedsReview => failed(failure),
    };
    span
}

/// An attempt that has ended or was given up, or its late result.
fn attempt_span(
    trace: &Trace,
    attempt: &AttemptRow,
    way: Way<'_>,
    at: Timestamp,
    calendar: Calendar,
) -> Finished {
    let (number, end) = (attempt.id.number, clock(at, calendar));
    let mut span = match way {
        // The worker's clock may be ahead.
        Way::Late(outcome) => {
            let start = clock_of(outcome).min(end);
            trace.finished(Part::LateResult(number), start, end)
        }
        Way::Ended(_) | Way::GivenUp(_) | Way::CalledBack => {
            let start = clock(attempt.assigned_at, calendar);
            let mut span = trace.finished(Part::Attempt(number), start, end);
            let started = attempt.started_at;
            let started = started.map(|at| ("started", clock(at, calendar)));
            span.events.extend(started);
            span
        }
    };
    let code = match way {
        Way::Ended(outcome) | Way::Late(outcome) => outcome.failure.as_ref().map(|f| f.code),
        Way::GivenUp(code) => Some(code),
        Way::CalledBack => None,
    };
    let (result, status) = match (way, code) {
        (Way::CalledBack, _) => (CALLED_BACK, Status::Unset),
        (_, None) => (SUCCEEDED, Status::Ok),
        (_, Some(code)) => (code.as_str(), failed(Some(code))),
    };
    span.attributes.extend([
        KeyValue::new("worker", attempt.worker.to_string()),
        KeyValue::new("runner", attempt.runner.to_string()),
        KeyValue::new("result", result),
    ]);
    span.status = status;
    span
}

fn failed(code: Option<FailureCode>) -> Status {
    Status::error(code.map_or("", FailureCode::as_str))
}

fn priority(row: &TaskRow) -> KeyValue {
    KeyValue::new("priority", row.facts.priority.as_str())
}

/// A moment of the core's time, as clocks show it.
fn clock(at: Timestamp, calendar: Calendar) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(calendar.wall(at).0)
}

/// When an agent ended, by its worker's clock.
fn clock_of(outcome: &Outcome) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(outcome.finished_at.0)
}
