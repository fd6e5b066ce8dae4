//! Counts what was committed. It reads the same changes that the store writes, so that nothing is
//! counted that is not durable.

mod lines;
mod open;
mod spans;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use orchestra_core::{
    AttemptRow, Calendar, Change, Core, EndStatus, Link, OutcomeRow, Rows, State, TaskRow,
    WorkerView,
};
use orchestra_types::{AttemptId, FailureCode, RunnerName, TaskId, TaskStatus, Timestamp};

use super::Observed;
use crate::{metrics::Metrics, store::Store};
use lines::{Line, Parked};
use open::OpenTasks;
use spans::{Seen, Spans};

pub(super) struct Observer {
    metrics: Arc<Metrics>,
    /// Since when queued tasks could run.
    runnable: BTreeMap<TaskId, Timestamp>,
    /// The row of an ended task is written again now and then; its end counts once.
    open: OpenTasks,
    parked: Parked,
    /// None where no span is sent.
    spans: Option<Spans>,
}

impl Observer {
    /// At a start, before the core does anything with these rows.
    pub fn new(observed: Observed, rows: &Rows) -> Self {
        let Observed { metrics, traces } = observed;
        let spans = traces.map(|traces| Spans::new(traces, &rows.tasks));
        let parked = Parked::new(rows.accounts.iter());
        let rows = &rows.tasks;
        // Both times are the same at a start.
        let calendar = Calendar::default();
        // What runs since an earlier start is not given to its runner again.
        let given = rows.iter().filter(|row| !is_ended(row));
        for last in given.filter_map(|row| row.last.as_ref()) {
            metrics.runner_seen(last.runner.as_str());
        }
        let runnable = rows.iter();
        let runnable = runnable.filter_map(|row| Some((row.id, runnable_since(row, calendar)?)));
        let mut open = OpenTasks::default();
        let not_ended = rows.iter().filter(|row| !is_ended(row));
        not_ended.for_each(|row| open.insert(row.id));
        Self {
            metrics,
            runnable: runnable.collect(),
            open,
            parked,
            spans,
        }
    }

    /// Notes a commit that began at `began` and is durable.
    pub fn committed(&mut self, began: Instant, steps: &[Vec<Change>], core: &Core, store: &Store) {
        self.metrics.committed(began.elapsed());
        let calendar = core.calendar();
        for line in self.observe(steps, core, store) {
            lines::say(&line, |at| calendar.wall(at));
        }
    }

    /// Counts what was committed; what is to be said of it.
    fn observe(&mut self, steps: &[Vec<Change>], core: &Core, store: &Store) -> Vec<Line> {
        let mut lines = Vec::new();
        for step in steps {
            lines.extend(lost(step, core));
            for (place, change) in step.iter().enumerate() {
                self.trace(change, &step[place..], core, store);
                lines.extend(self.change(change, &step[place..], core, store));
            }
        }
        lines
    }

    /// IMPORTANT: before the change is counted, which forgets since when its task waited.
    fn trace(&mut self, change: &Change, rest: &[Change], core: &Core, store: &Store) {
        let Some(spans) = &mut self.spans else {
            return;
        };
        let open = |row: &TaskRow| self.open.contains(row.id);
        let ends = matches!(change, Change::Task(row) if is_ended(row) && open(row));
        let seen = Seen {
            core,
            store,
            runnable: &self.runnable,
        };
        spans.note(change, rest, ends, &seen);
    }

    /// Sets the levels as they are.
    pub fn levels(&self, core: &Core) {
        let levels = self.metrics.levels();
        let counts = core.counts();
        for status in TaskStatus::ALL {
            levels.set_tasks(status, counts.with_status(status));
        }
        let (mut connected, mut busy) = (0, 0);
        for worker in core.workers() {
            if matches!(worker.link, Link::Connected(_)) {
                connected += 1;
                busy += (worker.attempts.len() as u64).saturating_sub(worker.waiting.into());
            }
        }
        levels.set_workers_connected(connected);
        levels.set_agents_busy(busy);
        levels.set_accounts_parked(core.parked_accounts().len() as u64);
    }

    /// `rest` is the step from this change on.
    fn change(
        &mut self,
        change: &Change,
        rest: &[Change],
        core: &Core,
        store: &Store,
    ) -> Option<Line> {
        match change {
            Change::Spec { id, spec } => {
                // It may end in the same step.
                self.open.insert(*id);
                self.metrics.task_submitted(spec.priority);
            }
            Change::Task(row) => return self.task(row, core),
            Change::Attempt(row) => self.attempt(row, rest, core),
            Change::Outcome(row) => return self.outcome(row, rest, core, store),
            Change::Account(row) => return self.parked.line(row),
            Change::ForgetTask { id, .. } => {
                self.runnable.remove(id);
                self.open.remove(*id);
            }
            Change::Worker(_)
            | Change::ForgetOutcome { .. }
            | Change::Acked { .. }
            | Change::Ledger(_)
            | Change::Project(_)
            | Change::Key(_)
            | Change::Schedule(_)
            | Change::ForgetSchedule { .. }
            | Change::ScheduleIds { .. }
            | Change::ForgetKey { .. }
            | Change::ForgetWorker { .. } => {}
        }
        None
    }

    fn task(&mut self, row: &TaskRow, core: &Core) -> Option<Line> {
        match &row.state {
            State::Queued { .. } => {
                let since = runnable_since(row, core.calendar());
                self.runnable.extend(since.map(|since| (row.id, since)));
            }
            // An assigned task is taken out when its attempt is counted.
            State::Assigned { .. } => {}
            State::Blocked
            | State::Running { .. }
            | State::Closing { .. }
            | State::Ended { .. } => {
                self.runnable.remove(&row.id);
            }
        }
        match &row.state {
            State::Ended { status, .. } => self.ended(row, *status),
            State::Blocked
            | State::Queued { .. }
            | State::Assigned { .. }
            | State::Running { .. }
            | State::Closing { .. } => {
                self.open.insert(row.id);
                None
            }
        }
    }

    fn ended(&mut self, row: &TaskRow, status: EndStatus) -> Option<Line> {
        if !self.open.remove(row.id) {
            return None; // Counted when it ended.
        }
        let failure = match status {
            EndStatus::Succeeded => None,
            EndStatus::Failed | EndStatus::Cancelled | EndStatus::NeedsReview => {
                let reason = row.reason.as_ref();
                Some(reason.map_or(FailureCode::Internal, |reason| reason.code))
            }
        };
        self.metrics.task_ended(status.status(), failure);
        lines::of_end(row, status)
    }

    fn attempt(&mut self, row: &AttemptRow, rest: &[Change], core: &Core) {
        let task = row.id.task;
        let runner = row.runner.as_str();
        if let Some(started) = row.started_at {
            // When the agent of one that is taken back was started, nobody has told.
            if !is_taken_back(rest, row.id) {
                let waited = started.since(row.assigned_at);
                self.metrics.attempt_started(runner, waited);
            }
            return;
        }
        self.metrics.runner_seen(runner);
        let (Some(since), Some(view)) = (self.runnable.remove(&task), core.task(task)) else {
            return;
        };
        let waited = row.assigned_at.since(since);
        self.metrics.task_assigned(view.row.facts.priority, waited);
    }

    /// A result counts as an end, be it late: there is one of each attempt at most. That an attempt was
    /// given up is none, for it may go on and have a result.
    fn outcome(
        &self,
        row: &OutcomeRow,
        rest: &[Change],
        core: &Core,
        store: &Store,
    ) -> Option<Line> {
        let task = rest.iter().find_map(|change| task_of(change, row.id.task));
        match &row.result {
            Ok(outcome) => {
                let runner = runner_of(row.id, task, store);
                let runner = runner.as_ref().map_or("", RunnerName::as_str);
                let failure = outcome.failure.as_ref().map(|failure| failure.code);
                let took = outcome.finished_at.since(outcome.started_at);
                self.metrics.attempt_ended(runner, failure, took);
                let cost = core.spent_of(outcome).cost_microusd;
                self.metrics.attempt_used(runner, &outcome.usage, cost);
            }
            Err(failure) if task.is_some_and(|task| is_given_up(task, row.id)) => {
                self.metrics.attempt_given_up(failure.code);
            }
            // It was given back before it began.
            Err(_) => {}
        }
        lines::of_outcome(row, task)
    }
}

/// Whether what is left of a step takes an attempt back that was lost.
fn is_taken_back(rest: &[Change], attempt: AttemptId) -> bool {
    rest.iter()
        .any(|change| matches!(change, Change::ForgetOutcome { id } if *id == attempt))
}

/// The workers that a step has lost. One that came back without its attempts is there.
fn lost(step: &[Change], core: &Core) -> Vec<Line> {
    let mut lost = lines::lost(step);
    if !lost.is_empty() {
        let gone = |worker: &WorkerView<'_>| worker.link == Link::Lost;
        let gone: BTreeSet<_> = core.workers().filter(gone).map(|w| &w.info.id).collect();
        lost.retain(|worker, _| gone.contains(worker));
    }
    let lost = lost.into_iter();
    lost.map(|(worker, attempts)| Line::Lost { worker, attempts })
        .collect()
}

/// Since when a queued task can run.
fn runnable_since(row: &TaskRow, calendar: Calendar) -> Option<Timestamp> {
    match &row.state {
        State::Queued { since, not_before } => Some(calendar.steady(*not_before).max(*since)),
        State::Blocked
        | State::Assigned { .. }
        | State::Running { .. }
        | State::Closing { .. }
        | State::Ended { .. } => None,
    }
}

fn is_ended(row: &TaskRow) -> bool {
    matches!(row.state, State::Ended { .. })
}

fn is_given_up(task: &TaskRow, attempt: AttemptId) -> bool {
    task.attempts == attempt.number && task.given_up & 1 != 0
}

fn task_of(change: &Change, id: TaskId) -> Option<&TaskRow> {
    if let Change::Task(row) = change
        && row.id == id
    {
        return Some(row);
    }
    None
}

/// With which runner an attempt was made: its task's row names that of the latest one alone.
fn runner_of(id: AttemptId, task: Option<&TaskRow>, store: &Store) -> Option<RunnerName> {
    let latest = task.filter(|task| task.attempts == id.number);
    if let Some(last) = latest.and_then(|task| task.last.as_ref()) {
        return Some(last.runner.clone());
    }
    let row = store.attempt(id).unwrap_or_else(|error| {
        tracing::warn!(attempt = %id, %error, "its runner cannot be read: it is counted without");
        None
    });
    row.map(|row| row.runner)
}
