//! What runs under budgets: what it uses counts, and it is stopped where that reaches a limit.

use std::time::Duration;

use orchestra_types::{AttemptId, Outcome, Spent, TaskId, Timestamp};

use super::{Budgets, Owner};
use crate::{
    Core, Step,
    input::Meter,
    ledger::{End, Ledger},
    message::StopReason,
    row::{Counted, Ending, Reading, State},
    run_time::RunTime,
    task::Task,
};

/// What a worker says of the time of an attempt may be off by this: messages take their time.
const AS_TOLD: Duration = Duration::from_secs(1);

impl Budgets {
    /// Whether an attempt was ordered to stop because of a budget.
    fn is_stopped(&self, attempt: AttemptId, owners: &[Owner]) -> bool {
        let mut ledgers = owners.iter().filter_map(|owner| self.ledger(owner));
        ledgers.any(|ledger| ledger.is_stopped(attempt))
    }

    pub(super) fn open(
        &mut self,
        owner: &Owner,
        attempt: AttemptId,
        time: Option<RunTime>,
        counted: Option<Spent>,
    ) {
        let Some(ledger) = self.ledger_mut(owner) else {
            return;
        };
        ledger.open(attempt, time, counted);
        self.note_time(owner);
    }

    /// Keeps `timed` true.
    pub(super) fn note_time(&mut self, owner: &Owner) {
        let over_at = self.ledger(owner).and_then(Ledger::time_is_over_at);
        if over_at.is_some() {
            self.timed.insert(owner.clone());
        } else {
            self.timed.remove(owner);
        }
    }

    /// The ledgers whose wall time may be over.
    fn running(&self) -> impl Iterator<Item = (&Owner, &Ledger)> {
        let timed = self.timed.iter();
        timed.filter_map(|owner| Some((owner, self.ledger(owner)?)))
    }

    /// What a running attempt has used so far, as far as it is known.
    pub(super) fn reading(&self, attempt: AttemptId) -> Spent {
        let known = self.readings.get(&attempt);
        known.map(|known| known.spent).unwrap_or_default()
    }

    /// A running attempt has used so much in all. Readings never go back.
    fn note_reading(&mut self, attempt: AttemptId, spent: Spent, reading: Reading) {
        let known = self.readings.entry(attempt).or_default();
        if spent.tokens >= known.spent.tokens {
            known.reading = reading;
        }
        known.spent.tokens = known.spent.tokens.max(spent.tokens);
        known.spent.cost_microusd = known.spent.cost_microusd.max(spent.cost_microusd);
    }

    /// When the time of what runs is used up.
    pub fn next_over(&self) -> Option<Timestamp> {
        let running = self.running();
        running.filter_map(|(_, l)| l.time_is_over_at()).min()
    }

    /// When something that waits for the next day may go on, by the wall clock.
    pub fn next_midnight(&self) -> Option<Timestamp> {
        (self.until_midnight > 0).then(|| self.midnight())
    }
}

impl Core {
    /// An attempt is ordered, or its agent was started.
    pub(crate) fn open_run(&mut self, attempt: AttemptId, time: Option<RunTime>) {
        self.open_project_of(attempt.task);
        let task = self.tasks.get(&attempt.task);
        let counted = task.and_then(Task::counted);
        for owner in self.owners(attempt.task) {
            self.budgets.open(&owner, attempt, time, counted);
        }
    }

    /// What a project uses on a day counts from its first attempt on, also without a budget: one may
    /// come later.
    fn open_project_of(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get(&id) else {
            return;
        };
        let facts = task.row.facts.clone();
        if let Some((id, name)) = &facts.project
            && !mutated!(FirstBudgetTooLate)
        {
            self.opened_project(id, name);
        }
    }

    /// An attempt that never ran is taken back.
    pub(crate) fn drop_run(&mut self, attempt: AttemptId) {
        self.budgets.readings.remove(&attempt);
        for owner in self.owners(attempt.task) {
            if let Some(ledger) = self.budgets.ledger_mut(&owner) {
                ledger.forget(attempt);
                self.budgets.note_time(&owner);
            }
        }
    }

    /// Whether a meter of an attempt whose agent had ended says that it has used more since: it goes on.
    pub(crate) fn uses_more(&self, attempt: AttemptId, meter: &Meter) -> bool {
        let time = self.overdue.run_time(attempt.task);
        let had_ended = time.is_some_and(|time| time.until.is_some());
        let (used, known) = (
            self.config
                .spent(&meter.reading.usage, &meter.reading.model),
            self.budgets.reading(attempt),
        );
        had_ended && (used.tokens > known.tokens || used.cost_microusd > known.cost_microusd)
    }

    /// A running attempt has used so much so far.
    pub(crate) fn read_usage(
        &mut self,
        now: Timestamp,
        attempt: AttemptId,
        reading: &Reading,
        step: &mut Step,
    ) {
        let spent = self.config.spent(&reading.usage, &reading.model);
        self.budgets.note_reading(attempt, spent, reading.clone());
        for owner in self.owners(attempt.task) {
            if let Some(ledger) = self.budgets.ledger_mut(&owner) {
                ledger.read(attempt, spent);
            }
            self.enforce(now, &owner, step);
        }
    }

    /// What a running attempt has used so far, for whoever gives it up: ask before its run is closed.
    pub(crate) fn last_reading(&self, attempt: AttemptId) -> Option<Reading> {
        let known = self.budgets.readings.get(&attempt);
        known
            .filter(|_| !mutated!(LostUseForgotten))
            .map(|known| known.reading.clone())
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

    /// Budgets that are used up by some attempts end them, and what else runs under them.
    pub(crate) fn enforce_running(
        &mut self,
        now: Timestamp,
        attempts: &[AttemptId],
        step: &mut Step,
    ) {
        for attempt in attempts {
            for owner in self.owners(attempt.task) {
                self.enforce(now, &owner, step);
            }
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
        end: Option<&Outcome>,
        charged: bool,
        step: &mut Step,
    ) -> Option<Ending> {
        let reading = end.map(|end| self.config.spent(&end.usage, &end.model));
        let ran = end.and_then(Outcome::ran);
        let back_at = self.tasks.get(&attempt.task).and_then(Task::held_since);
        if let (Some(ran), Some(back_at)) = (ran, back_at) {
            self.count_unheard(attempt, ran, back_at);
        }
        match ran {
            Some(ran) => self.hear_run_ended(now, attempt, ran),
            None => self.suppose_run_time(now, attempt),
        }
        let end = End {
            heard: self.heard_last(now, attempt, end.is_some()),
            charged,
            ran,
        };
        self.note_used(now, attempt, reading, end);
        let owners = self.owners(attempt.task);
        if owners.is_empty() {
            return None;
        }
        let (mut stopped, mut freed) = (false, false);
        for owner in &owners {
            let Some(ledger) = self.budgets.ledger_mut(owner) else {
                continue;
            };
            if let Some(reading) = reading {
                ledger.read(attempt, reading);
            }
            if let Some(closed) = ledger.close(now, attempt, end) {
                stopped |= closed.stopped;
                freed |= closed.freed;
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
        if freed {
            self.release_held(now, step);
        }
        stopped.then(|| self.over_budget(now, &owners))
    }

    /// When an attempt was heard of that ends now: with its result, or when its worker was heard last.
    fn heard_last(&self, now: Timestamp, attempt: AttemptId, has_result: bool) -> Timestamp {
        let worker = self.holder(attempt).and_then(|id| self.workers.get(id));
        let heard = worker.map_or(now, |worker| worker.last_seen.min(now));
        if has_result { now } else { heard }
    }

    /// What an ended attempt has used stands in its task's row, whoever counts it now.
    fn note_used(&mut self, now: Timestamp, attempt: AttemptId, reading: Option<Spent>, end: End) {
        let time = self.overdue.run_time(attempt.task);
        let Some(task) = self.tasks.get_mut(&attempt.task) else {
            return;
        };
        let Some(since) = task.held_since() else {
            return;
        };
        let mut run = Ledger::default();
        let counted = task.counted();
        run.open(attempt, time, counted);
        let known = self.budgets.readings.remove(&attempt);
        let readings = [known.map(|known| known.spent), reading];
        for reading in readings.into_iter().flatten() {
            run.read(attempt, reading);
        }
        run.close(now, attempt, end);
        let unstarted = matches!(task.row.state, State::Assigned { .. }).then_some(since);
        let Some(last) = &mut task.row.last else {
            return;
        };
        last.used = last.used.plus(run.spent);
        if reading.is_some() {
            last.uncount(attempt.number);
        } else {
            last.count(Counted {
                number: attempt.number,
                used: counted.unwrap_or_default().plus(run.spent),
                up_to: Some(counted_up_to(since, time, end.heard)),
                unstarted,
                told_to_end: false,
            });
        }
    }

    /// The result of an attempt that was given up has come: what it used beyond what was counted then.
    pub(crate) fn count_late(
        &mut self,
        now: Timestamp,
        attempt: AttemptId,
        outcome: &Outcome,
        step: &mut Step,
    ) {
        let reading = self.config.spent(&outcome.usage, &outcome.model);
        let task = self.tasks.get(&attempt.task);
        let last = task.and_then(|task| task.row.last.as_ref());
        let Some(counted) = last.and_then(|last| last.counted(attempt.number)).copied() else {
            return;
        };
        let ran = outcome.ran().unwrap_or_default();
        let used = counted.used;
        let more = Spent {
            tokens: reading.tokens.saturating_sub(used.tokens),
            cost_microusd: reading.cost_microusd.saturating_sub(used.cost_microusd),
            ..Spent::default()
        };
        let is_more = !more.is_nothing() || !counted.unheard(ran, now).is_zero();
        if is_more && !mutated!(LateUseIgnored) {
            self.open_project_of(attempt.task);
            self.count_unheard(attempt, ran, now);
            self.count_more(now, attempt, more, step);
        }
        let task = self.tasks.get_mut(&attempt.task);
        if let Some(last) = task.and_then(|task| task.row.last.as_mut()) {
            last.uncount(attempt.number);
        }
    }

    fn count_more(&mut self, now: Timestamp, attempt: AttemptId, more: Spent, step: &mut Step) {
        let task = self.tasks.get_mut(&attempt.task);
        if let Some(last) = task.and_then(|task| task.row.last.as_mut()) {
            last.used = last.used.plus(more);
        }
        let owners = self.owners(attempt.task);
        for owner in &owners {
            if let Some(ledger) = self.budgets.ledger_mut(owner) {
                ledger.spent = ledger.spent.plus(more);
                step.changes.extend(self.budgets.change(owner));
            }
        }
        for owner in &owners {
            self.enforce(now, owner, step);
        }
    }

    /// The first input of a day counts for that day already: use that it reports, a raise that it
    /// asks for.
    pub(crate) fn begin_day(&mut self, now: Timestamp, step: &mut Step) {
        if self.budgets.begin_day(now, self.calendar.wall(now)) {
            self.release_held(now, step);
        }
    }

    /// Time has passed: wall time may be over.
    pub(crate) fn tick_budgets(&mut self, now: Timestamp, step: &mut Step) {
        if mutated!(DayAfterInput) {
            self.begin_day(now, step);
        }
        let anew = std::mem::take(&mut self.budgets.configured_anew);
        for owner in &anew {
            step.changes.extend(self.budgets.change(owner));
            self.enforce(now, owner, step);
        }
        if !anew.is_empty() {
            self.release_held(now, step);
        }
        let over = |ledger: &Ledger| ledger.time_is_over_at().is_some_and(|at| at <= now);
        let running = self.budgets.running().filter(|(_, ledger)| over(ledger));
        let owners: Vec<Owner> = running.map(|(owner, _)| owner.clone()).collect();
        for owner in owners {
            self.enforce(now, &owner, step);
            self.budgets.note_time(&owner);
        }
    }
}

/// Up to when the time of an attempt is counted that was held `since` then, and is given up: nothing
/// before its agent was started, and nothing before this head was.
fn counted_up_to(since: Timestamp, time: Option<RunTime>, heard: Timestamp) -> Timestamp {
    match time {
        Some(time) if time.since.since(since) <= AS_TOLD => heard,
        Some(_) | None => since,
    }
}
