//! Counts what was committed. It reads the same changes that the store writes, so that nothing is
//! counted that is not durable.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use orchestra_core::{AttemptRow, Change, Core, Link, OutcomeRow, State, TaskRow};
use orchestra_types::{TaskId, TaskStatus, Timestamp};

use crate::metrics::Metrics;

pub(super) struct Observer {
    metrics: Arc<Metrics>,
    /// Since when queued tasks could run. Empty after a start: what was queued then is not timed.
    runnable: BTreeMap<TaskId, Timestamp>,
}

impl Observer {
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            runnable: BTreeMap::new(),
        }
    }

    /// Notes a commit that began at `began` and is durable.
    pub fn committed(&mut self, began: Instant, steps: &[Vec<Change>], core: &Core) {
        self.metrics.committed(began.elapsed());
        for change in steps.iter().flatten() {
            self.change(change, core);
        }
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
                busy += worker.attempts.len() as u64;
            }
        }
        levels.set_workers_connected(connected);
        levels.set_agents_busy(busy);
        levels.set_accounts_parked(core.parked_accounts().len() as u64);
    }

    fn change(&mut self, change: &Change, core: &Core) {
        match change {
            Change::Spec { spec, .. } => self.metrics.task_submitted(spec.priority),
            Change::Task(row) => self.task(row, core),
            Change::Attempt(row) => self.attempt(row, core),
            Change::Outcome(row) => self.outcome(row, core),
            Change::ForgetTask { id, .. } => {
                self.runnable.remove(id);
            }
            Change::Worker(_)
            | Change::ForgetOutcome { .. }
            | Change::Acked { .. }
            | Change::Account(_)
            | Change::Ledger(_)
            | Change::Project(_)
            | Change::Key(_)
            | Change::Schedule(_)
            | Change::ForgetSchedule { .. }
            | Change::ScheduleIds { .. }
            | Change::ForgetKey { .. }
            | Change::ForgetWorker { .. } => {}
        }
    }

    fn task(&mut self, row: &TaskRow, core: &Core) {
        match &row.state {
            State::Queued { since, not_before } => {
                let not_before = core.calendar().steady(*not_before);
                self.runnable.insert(row.id, not_before.max(*since));
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
    }

    fn attempt(&mut self, row: &AttemptRow, core: &Core) {
        let task = row.id.task;
        if row.started_at.is_some() {
            return; // Counted when it was ordered.
        }
        let (Some(since), Some(view)) = (self.runnable.remove(&task), core.task(task)) else {
            return;
        };
        let waited = row.assigned_at.since(since);
        self.metrics.task_assigned(view.row.facts.priority, waited);
    }

    fn outcome(&self, row: &OutcomeRow, core: &Core) {
        let view = core.task(row.id.task);
        let last = view.and_then(|view| view.row.last.as_ref());
        let runner = last.map_or("", |last| last.runner.as_str());
        let (result, took) = match &row.result {
            Ok(outcome) => {
                let failure = outcome.failure.as_ref();
                let result = failure.map_or("succeeded", |failure| failure.code.as_str());
                (result, outcome.finished_at.since(outcome.started_at))
            }
            Err(failure) => (failure.code.as_str(), std::time::Duration::ZERO),
        };
        self.metrics.attempt_ended(runner, result, took);
    }
}
