//! Rebuilds the core from what was durable.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use orchestra_types::{OnDependencyFailure, ScheduleId, TaskId, Timestamp, WorkerId};

use crate::{
    Config, Core, Step,
    accounts::name_accounts,
    doubt,
    row::{AccountRow, KeyRow, LedgerRow, ProjectRow, State, TaskRow, WorkerRow},
    schedule::ScheduleRow,
    task::Waits,
    worker::Worker,
};

/// Everything that was durable, except specifications, attempts and outcomes, which the core does
/// not keep in memory.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// Tasks, in any order.
    pub tasks: Vec<TaskRow>,
    /// Workers, each with the number up to which its reports are recorded.
    pub workers: Vec<(WorkerRow, u64)>,
    /// Accounts of which something is known.
    pub accounts: Vec<AccountRow>,
    /// What tasks may use and have used.
    pub ledgers: Vec<LedgerRow>,
    /// What projects may use and have used.
    pub projects: Vec<ProjectRow>,
    /// Keys of submissions.
    pub keys: Vec<KeyRow>,
    /// Recurring tasks.
    pub schedules: Vec<ScheduleRow>,
    /// Ids of recurring tasks up to this one were given; none when no row but theirs says so.
    pub schedule_ids: Option<ScheduleId>,
}

impl Rows {
    /// The newest id of a recurring task that was ever given.
    #[must_use]
    pub fn last_schedule(&self) -> Option<ScheduleId> {
        let kept = self.schedules.iter().map(|row| row.id);
        kept.chain(self.schedule_ids).max()
    }
}

impl Core {
    /// Rebuilds the core. Workers get a whole lease to come back; what was being put in place is
    /// put in place again.
    pub fn restore(config: Config, now: Timestamp, rows: Rows) -> (Self, Step) {
        let mut core = Self::new(config);
        core.finished.doubt = doubt(rows.newest(), now);
        core.known_until = rows.newest().unwrap_or_default();
        core.budgets.begin_at_start(now, &rows.projects);
        for row in &rows.ledgers {
            core.budgets.insert_task(row);
        }
        for row in rows.projects {
            core.budgets.insert_project(&core.config, row);
        }
        for row in rows.accounts {
            if mutated!(ParkForgottenByStart) {
                continue;
            }
            core.accounts.restore(row);
        }
        for (mut row, acked) in rows.workers {
            name_accounts(&mut row.info);
            let id = row.info.id.clone();
            let worker = Worker::new(row, acked, &mut core.accounts);
            core.workers.insert(id.clone(), worker);
            core.start_lease(now, &id);
        }
        for key in rows.keys {
            let last = TaskId(key.first.0 + key.count.saturating_sub(1));
            core.last_id = core.last_id.max(last);
            core.keys.insert(&key);
        }
        for row in rows.schedules {
            core.finished.need_for_runs(&row.spec);
            if !mutated!(ScheduleForgottenByStart) {
                core.schedules.insert(row.resumed(now));
            }
        }
        if let Some(last) = rows.schedule_ids
            && !mutated!(ScheduleIdsAgain)
        {
            core.schedules.given(last);
        }
        core.restore_tasks(now, rows.tasks);
        core.restore_order();
        core.overdue.excuse_waits(core.back_by(now));
        core.find_empty_submissions();
        if mutated!(IdsAgain) {
            core.last_id = TaskId(core.last_id.0.saturating_sub(1));
        }
        let mut step = Step::default();
        core.enforce_all(now, &mut step);
        let blocked: Vec<TaskId> = core.blocked().collect();
        for id in blocked {
            core.settle_blocked(now, id, &mut step);
        }
        let blocked: Vec<TaskId> = core.blocked().collect();
        for id in blocked {
            core.keep_back_if_stuck(id, &mut step);
        }
        let closing: Vec<TaskId> = core.closing().collect();
        for id in closing
            .into_iter()
            .filter(|_| !mutated!(CloseForgottenByStart))
        {
            core.order_close(id, &mut step);
        }
        (core, step)
    }

    fn restore_tasks(&mut self, now: Timestamp, mut rows: Vec<TaskRow>) {
        rows.sort_unstable_by_key(|row| row.id);
        // What is not there was forgotten: nothing waits for it.
        let needed: BTreeSet<TaskId> = rows.iter().flat_map(|r| r.after.iter().copied()).collect();
        let unsettled: BTreeMap<TaskId, bool> = rows
            .iter()
            .filter(|row| needed.contains(&row.id) && !row.state.is_success())
            .map(|row| (row.id, matches!(row.state, State::Ended { .. })))
            .collect();
        // Facts that rows share already are looked up once.
        let mut adopted = BTreeMap::new();
        for mut row in rows {
            let adopted = adopted.entry(Arc::as_ptr(&row.facts).addr());
            row.facts = Arc::clone(adopted.or_insert_with(|| self.facts.adopt(&row.facts)));
            self.share(&mut row);
            self.last_id = self.last_id.max(row.id);
            if mutated!(CancelForgottenByStart) {
                row.cancel_requested = false;
            }
            if mutated!(StartedTwiceByRestart) && matches!(row.state, State::Assigned { .. }) {
                row.state = State::queued(self.calendar, now, row.created_at, &row.facts);
            }
            let runs_anyway = row.facts.on_dependency_failure == OnDependencyFailure::Run;
            let open = row.after.iter().copied().filter(|id| {
                unsettled
                    .get(id)
                    .is_some_and(|ended| !ended || !runs_anyway)
            });
            let waits_for = if row.state.may_wait() {
                open.collect()
            } else {
                Waits::default()
            };
            self.insert(now, row, waits_for);
        }
    }

    /// Names that the row has in common with others are kept once.
    fn share(&mut self, row: &mut TaskRow) {
        let known = |worker: &mut WorkerId| {
            if let Some((id, _)) = self.workers.get_key_value(worker) {
                *worker = id.clone();
            }
        };
        if let Some(last) = &mut row.last {
            known(&mut last.worker);
            if let Some(avoids) = &mut last.avoids {
                known(&mut avoids.worker);
            }
        }
        match &mut row.state {
            State::Assigned { worker, .. } | State::Running { worker, .. } => known(worker),
            State::Blocked | State::Queued { .. } | State::Closing { .. } | State::Ended { .. } => {
            }
        }
    }

    fn blocked(&self) -> impl Iterator<Item = TaskId> {
        self.tasks
            .values()
            .filter(|t| t.row.state == State::Blocked)
            .map(|t| t.row.id)
    }

    fn closing(&self) -> impl Iterator<Item = TaskId> {
        let closing = |state: &State| matches!(state, State::Closing { .. });
        self.tasks
            .values()
            .filter(move |t| closing(&t.row.state))
            .map(|t| t.row.id)
    }

    /// Whether a worker has ever attached.
    #[must_use]
    pub fn knows_worker(&self, id: &WorkerId) -> bool {
        self.workers.contains_key(id)
    }
}

impl State {
    fn is_success(&self) -> bool {
        matches!(
            self,
            Self::Ended {
                status: crate::EndStatus::Succeeded,
                ..
            }
        )
    }

    /// Whether tasks before it still matter: it is blocked, or may become so by a retry.
    fn may_wait(&self) -> bool {
        match self {
            Self::Blocked | Self::Ended { .. } => !self.is_success(),
            Self::Queued { .. }
            | Self::Assigned { .. }
            | Self::Running { .. }
            | Self::Closing { .. } => false,
        }
    }
}
