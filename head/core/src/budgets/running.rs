//! What runs under budgets: what it uses counts, and it is stopped where that reaches a limit.

use orchestra_types::{AttemptId, Timestamp, Usage};

use super::{Budgets, Owner};
use crate::{Core, Step, ledger::Ledger, message::StopReason, row::Ending};

impl Budgets {
    /// Whether an attempt was ordered to stop because of a budget.
    fn is_stopped(&self, attempt: AttemptId, owners: &[Owner]) -> bool {
        let mut ledgers = owners.iter().filter_map(|owner| self.ledger(owner));
        ledgers.any(|ledger| ledger.is_stopped(attempt))
    }

    pub(super) fn open(&mut self, owner: &Owner, attempt: AttemptId, since: Timestamp) {
        let Some(ledger) = self.ledger_mut(owner) else {
            return;
        };
        ledger.open(attempt, since);
        self.note_time(owner);
    }

    /// Keeps `timed` true.
    pub(super) fn note_time(&mut self, owner: &Owner) {
        if let Owner::Task(id) = owner {
            let ledger = self.tasks.get(id).map(|entry| &entry.ledger);
            if ledger.and_then(Ledger::time_is_over_at).is_some() {
                self.timed.insert(*id);
            } else {
                self.timed.remove(id);
            }
        }
    }

    /// The ledgers whose wall time may be over.
    fn running(&self) -> impl Iterator<Item = (Owner, &Ledger)> {
        let tasks = self.timed.iter();
        let tasks = tasks.filter_map(|id| Some((Owner::Task(*id), &self.tasks.get(id)?.ledger)));
        let projects = self.projects.iter();
        tasks.chain(projects.map(|(id, p)| (Owner::Project(id.clone()), &p.ledger)))
    }

    /// When something is to be done although nothing happens.
    pub fn next_due(&self) -> Option<Timestamp> {
        let over = self
            .running()
            .filter_map(|(_, l)| l.time_is_over_at())
            .min();
        let midnight = (self.until_midnight > 0).then(|| self.midnight());
        [over, midnight].into_iter().flatten().min()
    }
}

impl Core {
    /// An attempt is ordered, or its agent was started.
    pub(crate) fn open_run(&mut self, attempt: AttemptId, since: Timestamp) {
        for owner in self.owners(attempt.task) {
            self.budgets.open(&owner, attempt, since);
        }
    }

    /// An attempt that never ran is taken back.
    pub(crate) fn drop_run(&mut self, attempt: AttemptId) {
        for owner in self.owners(attempt.task) {
            if let Some(ledger) = self.budgets.ledger_mut(&owner) {
                ledger.forget(attempt);
                self.budgets.note_time(&owner);
            }
        }
    }

    /// A running attempt has used so much so far.
    pub(crate) fn read_usage(
        &mut self,
        now: Timestamp,
        attempt: AttemptId,
        usage: &Usage,
        model: &str,
        step: &mut Step,
    ) {
        let reading = self.config.spent(usage, model);
        for owner in self.owners(attempt.task) {
            if let Some(ledger) = self.budgets.ledger_mut(&owner) {
                ledger.read(attempt, reading);
            }
            self.enforce(now, &owner, step);
        }
    }

    /// Stops what runs under a budget that is used up.
    pub(super) fn enforce(&mut self, now: Timestamp, owner: &Owner, step: &mut Step) {
        let Some(ledger) = self.budgets.ledger_mut(owner) else {
            return;
        };
        if ledger.budget.reached(&ledger.total(now)).is_none() || mutated!(BudgetNotEnforced) {
            return;
        }
        for attempt in ledger.stop_all() {
            self.order_stop(attempt.task, StopReason::Budget, step);
        }
    }

    /// After a start: what runs under a budget that is used up is to be stopped. Workers are told
    /// when they come back.
    pub(crate) fn enforce_all(&mut self, now: Timestamp, step: &mut Step) {
        let tasks = self.budgets.tasks.keys().copied().map(Owner::Task);
        let projects = self.budgets.projects.keys().cloned().map(Owner::Project);
        let owners: Vec<Owner> = tasks.chain(projects).collect();
        for owner in owners {
            self.enforce(now, &owner, step);
        }
    }

    /// Whether a running attempt was ordered to stop because of a budget.
    pub(crate) fn is_over_budget(&self, attempt: AttemptId) -> bool {
        self.budgets.is_stopped(attempt, &self.owners(attempt.task))
    }

    /// An attempt has ended: what it used is written down everywhere it counts. What follows, when
    /// a budget stopped it.
    pub(crate) fn close_run(
        &mut self,
        now: Timestamp,
        attempt: AttemptId,
        end: Option<(&Usage, &str)>,
        charged: bool,
        step: &mut Step,
    ) -> Option<Ending> {
        let owners = self.owners(attempt.task);
        if owners.is_empty() {
            return None;
        }
        let reading = end.map(|(usage, model)| self.config.spent(usage, model));
        let mut stopped = false;
        for owner in &owners {
            let Some(ledger) = self.budgets.ledger_mut(owner) else {
                continue;
            };
            if let Some(reading) = reading {
                ledger.read(attempt, reading);
            }
            if let Some(was_stopped) = ledger.close(now, attempt, charged) {
                stopped |= was_stopped;
                self.budgets.note_time(owner);
                let of_project = matches!(owner, Owner::Project(_));
                let lost = of_project && mutated!(ProjectUseNotWritten);
                if !lost && !mutated!(UseNotWritten) {
                    step.changes.extend(self.budgets.change(owner));
                }
            }
        }
        // It may have used more than its last reading said: too much for others that still run.
        for owner in owners.iter().filter(|_| !mutated!(BudgetOfOthersIgnored)) {
            self.enforce(now, owner, step);
        }
        stopped.then(|| self.over_budget(now, &owners))
    }

    /// The first input of a day counts for that day already: use that it reports, a raise that it
    /// asks for.
    pub(crate) fn begin_day(&mut self, now: Timestamp, step: &mut Step) {
        if self.budgets.begin_day(now) {
            self.release_held(now, step);
        }
    }

    /// Time has passed: wall time may be over.
    pub(crate) fn tick_budgets(&mut self, now: Timestamp, step: &mut Step) {
        if mutated!(DayAfterInput) {
            self.begin_day(now, step);
        }
        let over = |ledger: &Ledger| ledger.time_is_over_at().is_some_and(|at| at <= now);
        let running = self.budgets.running().filter(|(_, ledger)| over(ledger));
        let owners: Vec<Owner> = running.map(|(owner, _)| owner).collect();
        for owner in owners {
            self.enforce(now, &owner, step);
            self.budgets.note_time(&owner);
        }
    }
}
