//! All budgets: of tasks with their subtasks, and of projects for a day.
//!
//! What an attempt uses counts for its task, for every task above it, and for its project today.
//! Where one of these has reached a limit, the attempt is stopped and its work is collected. A task
//! asks a person then; a project's tasks wait for the next day. Nothing starts under a budget that
//! is used up: such tasks are held, apart from the queue.

use std::collections::{BTreeMap, BTreeSet};

use orchestra_types::{
    AttemptId, Budget, Failure, FailureCode, ProjectId, Spent, TaskId, Timestamp, Usage,
};

use crate::{
    Config, Core, Step,
    change::Change,
    ledger::Ledger,
    message::StopReason,
    row::{EndStatus, Ending, LedgerRow, ProjectRow, State, TaskRow},
};

const DAY_MS: u64 = 24 * 3600 * 1000;

/// All budgets.
#[derive(Debug, Default)]
pub(crate) struct Budgets {
    tasks: BTreeMap<TaskId, TaskLedger>,
    projects: BTreeMap<ProjectId, ProjectLedger>,
    /// Queued tasks under a budget that is used up, and why.
    held: BTreeMap<TaskId, Failure>,
    /// How many of them wait for the next day.
    until_midnight: usize,
    /// Tasks whose budget has wall time and that run, or a task below them.
    timed: BTreeSet<TaskId>,
    /// The day that the projects' ledgers are of.
    day: u64,
}

#[derive(Debug, Default)]
struct TaskLedger {
    ledger: Ledger,
    parent: Option<TaskId>,
    children: BTreeSet<TaskId>,
}

#[derive(Debug)]
struct ProjectLedger {
    ledger: Ledger,
    name: String,
    /// Per day, as a person has set it.
    set: Option<Budget>,
    /// Per day, as configured.
    configured: Budget,
    /// For today only.
    added: Budget,
}

/// Whose budget it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Task(TaskId),
    Project(ProjectId),
}

/// A project's budget, to be read.
#[derive(Clone, Debug)]
pub struct ProjectView<'a> {
    /// Which.
    pub id: &'a ProjectId,
    /// Its name.
    pub name: &'a str,
    /// Per day.
    pub budget: Budget,
    /// With what was added for today.
    pub today: Budget,
    /// Today.
    pub spent: Spent,
    /// It is used up; tasks wait until then.
    pub until: Option<Timestamp>,
}

impl ProjectLedger {
    fn daily(&self) -> Budget {
        self.set.unwrap_or(self.configured)
    }

    fn renew(&mut self) {
        self.ledger.budget = self.daily().raised(self.added, &Spent::default());
    }
}

impl Budgets {
    fn ledger(&self, owner: &Owner) -> Option<&Ledger> {
        match owner {
            Owner::Task(id) => self.tasks.get(id).map(|t| &t.ledger),
            Owner::Project(id) => self.projects.get(id).map(|p| &p.ledger),
        }
    }

    fn ledger_mut(&mut self, owner: &Owner) -> Option<&mut Ledger> {
        match owner {
            Owner::Task(id) => self.tasks.get_mut(id).map(|t| &mut t.ledger),
            Owner::Project(id) => self.projects.get_mut(id).map(|p| &mut p.ledger),
        }
    }

    /// Whose budgets a task's use counts for: its own, those above it, its project's.
    fn owners(&self, id: TaskId, project: Option<&ProjectId>) -> Vec<Owner> {
        if self.tasks.is_empty() && self.projects.is_empty() {
            return Vec::new();
        }
        let above = |id: &TaskId| self.tasks.get(id)?.parent;
        let own = self.tasks.contains_key(&id).then_some(id);
        let chain = std::iter::successors(own, above);
        let known = chain.filter(|id| self.tasks.contains_key(id));
        let project = project.filter(|id| self.projects.contains_key(*id));
        known
            .map(Owner::Task)
            .chain(project.cloned().map(Owner::Project))
            .collect()
    }

    /// Why a task of these owners may not be started now.
    fn hold(&self, now: Timestamp, owners: &[Owner]) -> Option<Failure> {
        owners.iter().find_map(|owner| {
            let ledger = self.ledger(owner)?;
            let limit = ledger.budget.forbids_start(&ledger.total(now))?;
            Some(self.why(owner, &limit, now))
        })
    }

    /// The owner whose limit has been reached, and which limit.
    fn reached(&self, now: Timestamp, owners: &[Owner]) -> Option<(Owner, String)> {
        owners.iter().find_map(|owner| {
            let ledger = self.ledger(owner)?;
            let limit = ledger.budget.reached(&ledger.total(now))?;
            Some((owner.clone(), limit))
        })
    }

    fn why(&self, owner: &Owner, limit: &str, now: Timestamp) -> Failure {
        let used = self.ledger(owner).map(|l| l.total(now)).unwrap_or_default();
        match owner {
            Owner::Task(id) => {
                let text = format!(
                    "the budget of {id} is used up at {limit} (used: {used}); its work so far is \
                     kept. Shall it go on with more?"
                );
                Failure::new(FailureCode::BudgetExceeded, text)
            }
            Owner::Project(id) => {
                let name = self.projects.get(id).map_or("", |p| p.name.as_str());
                let text = format!(
                    "project {name} has used up its budget of the day at {limit} (used: {used}); \
                     its tasks go on tomorrow (UTC), or with `ctl budget --project {name}`"
                );
                Failure {
                    resets_at: Some(self.midnight()),
                    ..Failure::new(FailureCode::BudgetExceeded, text)
                }
            }
        }
    }

    fn midnight(&self) -> Timestamp {
        Timestamp(self.day.saturating_add(1).saturating_mul(DAY_MS))
    }

    /// Whether an attempt was ordered to stop because of a budget.
    fn is_stopped(&self, attempt: AttemptId, owners: &[Owner]) -> bool {
        let mut ledgers = owners.iter().filter_map(|owner| self.ledger(owner));
        ledgers.any(|ledger| ledger.is_stopped(attempt))
    }

    /// The row that is to be kept of a ledger.
    fn change(&self, owner: &Owner) -> Option<Change> {
        Some(match owner {
            Owner::Task(id) => {
                let ledger = &self.tasks.get(id)?.ledger;
                Change::Ledger(Box::new(LedgerRow {
                    task: *id,
                    budget: ledger.budget,
                    spent: ledger.spent,
                }))
            }
            Owner::Project(id) => {
                let project = self.projects.get(id)?;
                Change::Project(Box::new(ProjectRow {
                    id: id.clone(),
                    name: project.name.clone(),
                    budget: project.set,
                    day: self.day,
                    spent: project.ledger.spent,
                    added: project.added,
                }))
            }
        })
    }

    /// Whether a queued task is held. It stands nowhere in the queue then.
    #[cfg(test)]
    pub fn is_held(&self, id: TaskId) -> bool {
        self.held.contains_key(&id)
    }

    /// Why a queued task is held.
    pub fn held_reason(&self, id: TaskId) -> Option<&Failure> {
        self.held.get(&id)
    }

    /// A task is no longer held.
    pub fn let_go(&mut self, id: TaskId) -> bool {
        let Some(why) = self.held.remove(&id) else {
            return false;
        };
        self.until_midnight -= usize::from(why.resets_at.is_some());
        true
    }

    fn keep_back(&mut self, id: TaskId, why: Failure) {
        self.let_go(id);
        self.until_midnight += usize::from(why.resets_at.is_some());
        self.held.insert(id, why);
    }

    fn open(&mut self, owner: &Owner, attempt: AttemptId, since: Timestamp) {
        let Some(ledger) = self.ledger_mut(owner) else {
            return;
        };
        ledger.open(attempt, since);
        self.note_time(owner);
    }

    /// Keeps `timed` true.
    fn note_time(&mut self, owner: &Owner) {
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

    /// Takes a task's row as it was kept.
    pub fn insert_task(&mut self, row: &LedgerRow) {
        let entry = self.tasks.entry(row.task).or_default();
        entry.ledger = Ledger::new(row.budget, row.spent);
    }

    /// Takes a project's row as it was kept.
    pub fn insert_project(&mut self, config: &Config, row: ProjectRow) {
        let today = self.day == row.day;
        let mut project = ProjectLedger {
            ledger: Ledger::new(
                Budget::default(),
                if today { row.spent } else { Spent::default() },
            ),
            configured: config.daily_budget(&row.id, &row.name),
            name: row.name,
            set: row.budget,
            added: if today { row.added } else { Budget::default() },
        };
        project.renew();
        self.projects.insert(row.id, project);
    }

    /// A task has come: it has a ledger when it has a budget or a task above it.
    pub fn enter(&mut self, config: &Config, row: &TaskRow) {
        if let Some((id, name)) = &row.facts.project
            && !self.projects.contains_key(id)
        {
            let configured = config.daily_budget(id, name);
            if !configured.is_unlimited() {
                self.open_project(id, name, configured);
            }
        }
        let Some(terms) = row.facts.terms.as_deref() else {
            return;
        };
        if terms.parent.is_none() && terms.budget.is_unlimited() {
            return;
        }
        let entry = self.tasks.entry(row.id).or_insert_with(|| TaskLedger {
            ledger: Ledger::new(terms.budget, Spent::default()),
            ..TaskLedger::default()
        });
        entry.parent = terms.parent;
        if let Some(parent) = terms.parent {
            self.tasks
                .entry(parent)
                .or_default()
                .children
                .insert(row.id);
        }
    }

    fn open_project(&mut self, id: &ProjectId, name: &str, configured: Budget) {
        let mut project = ProjectLedger {
            ledger: Ledger::default(),
            name: name.to_owned(),
            set: None,
            configured,
            added: Budget::default(),
        };
        project.renew();
        self.projects.insert(id.clone(), project);
    }

    /// A task is forgotten.
    pub fn forget(&mut self, id: TaskId) {
        let parent = self.tasks.remove(&id).and_then(|entry| entry.parent);
        if let Some(parent) = parent.and_then(|id| self.tasks.get_mut(&id)) {
            parent.children.remove(&id);
        }
    }

    /// How many tasks stand above a new one with this parent.
    pub fn depth(&self, parent: TaskId) -> usize {
        let above = |id: &TaskId| self.tasks.get(id)?.parent;
        std::iter::successors(Some(parent), above).count()
    }

    /// A task and all below it.
    fn tree(&self, id: TaskId) -> Vec<TaskId> {
        let mut tree = vec![id];
        let mut next = 0;
        while let Some(at) = tree.get(next) {
            let children = self.tasks.get(at).map(|entry| entry.children.clone());
            tree.extend(children.into_iter().flatten());
            next += 1;
        }
        tree
    }

    /// A new day; whether it is one.
    pub fn begin_day(&mut self, now: Timestamp) -> bool {
        let today = now.0 / DAY_MS;
        if today <= self.day {
            return false;
        }
        self.day = today;
        for project in self.projects.values_mut() {
            project.added = Budget::default();
            project.ledger.begin_day(now);
            project.renew();
        }
        true
    }
}

impl Core {
    fn owners(&self, id: TaskId) -> Vec<Owner> {
        let task = self.tasks.get(&id);
        let project = task.and_then(|task| task.row.facts.project.as_ref());
        self.budgets.owners(id, project.map(|(id, _)| id))
    }

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
    fn enforce(&mut self, now: Timestamp, owner: &Owner, step: &mut Step) {
        let Some(ledger) = self.budgets.ledger_mut(owner) else {
            return;
        };
        if ledger.budget.reached(&ledger.total(now)).is_none() {
            return;
        }
        for attempt in ledger.stop_all() {
            self.order_stop(attempt.task, StopReason::Budget, step);
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
                step.changes.extend(self.budgets.change(owner));
            }
        }
        stopped.then(|| self.over_budget(now, &owners))
    }

    /// What follows for a task whose attempt a budget has stopped.
    pub(crate) fn over_budget_of(&self, now: Timestamp, id: TaskId) -> Ending {
        self.over_budget(now, &self.owners(id))
    }

    fn over_budget(&self, now: Timestamp, owners: &[Owner]) -> Ending {
        let goes_on = "its budget was raised while it was stopped; it goes on from its kept work";
        match self.budgets.reached(now, owners) {
            Some((owner @ Owner::Task(_), limit)) => Ending::End {
                status: EndStatus::NeedsReview,
                reason: Some(Box::new(self.budgets.why(&owner, &limit, now))),
            },
            Some((owner @ Owner::Project(_), limit)) => Ending::Retry {
                reason: Box::new(self.budgets.why(&owner, &limit, now)),
            },
            None => Ending::Retry {
                reason: Box::new(Failure::new(FailureCode::BudgetExceeded, goes_on)),
            },
        }
    }

    /// What becomes of a retry that a budget of the task's own does not allow: a person is asked.
    pub(crate) fn unless_forbidden(&self, now: Timestamp, id: TaskId, ending: Ending) -> Ending {
        let Ending::Retry { reason } = ending else {
            return ending;
        };
        let owners = self.owners(id);
        let tasks: Vec<Owner> = owners
            .into_iter()
            .filter(|owner| matches!(owner, Owner::Task(_)))
            .collect();
        match self.budgets.hold(now, &tasks) {
            None => Ending::Retry { reason },
            Some(mut why) => {
                why.message = format!("{}; the last attempt ended by {reason}", why.message);
                Ending::End {
                    status: EndStatus::NeedsReview,
                    reason: Some(Box::new(why)),
                }
            }
        }
    }

    /// Holds a queued task whose budget is used up; whether it is held.
    pub(crate) fn hold(&mut self, now: Timestamp, id: TaskId) -> bool {
        let owners = self.owners(id);
        let why = self.budgets.hold(now, &owners);
        let held = why.is_some();
        if let Some(why) = why {
            self.budgets.keep_back(id, why);
        }
        held
    }

    /// Takes a task out of the queue when its budget is used up; whether it did.
    pub(crate) fn pull_back(&mut self, now: Timestamp, id: TaskId, step: &mut Step) -> bool {
        if !self.hold(now, id) {
            return false;
        }
        if let Some(task) = self.tasks.get(&id) {
            self.queue.remove(id, task.place, task.wait());
        }
        step.messages.push(crate::Message::Changed { task: id });
        true
    }

    /// Lets those into the queue whose budget allows it again.
    fn release_held(&mut self, now: Timestamp, step: &mut Step) {
        let held: Vec<TaskId> = self.budgets.held.keys().copied().collect();
        for id in held {
            self.budgets.let_go(id);
            if self.hold(now, id) {
                continue;
            }
            self.enqueue(now, id);
            step.messages.push(crate::Message::Changed { task: id });
        }
    }

    /// Time has passed: wall time may be over, or a day.
    pub(crate) fn tick_budgets(&mut self, now: Timestamp, step: &mut Step) {
        if self.budgets.begin_day(now) {
            self.release_held(now, step);
        }
        let over = |ledger: &Ledger| ledger.time_is_over_at().is_some_and(|at| at <= now);
        let running = self.budgets.running().filter(|(_, ledger)| over(ledger));
        let owners: Vec<Owner> = running.map(|(owner, _)| owner).collect();
        for owner in owners {
            self.enforce(now, &owner, step);
            self.budgets.note_time(&owner);
        }
    }

    /// A person sets or raises the budget of a task; what had stopped under it goes on.
    pub(crate) fn set_task_budget(
        &mut self,
        now: Timestamp,
        id: TaskId,
        budget: Budget,
        add: bool,
        step: &mut Step,
    ) {
        let task = self.tasks.get(&id).expect("the caller looked the task up");
        let running = task.held_since().map(|since| (task.attempt(), since));
        let is_new = !self.budgets.tasks.contains_key(&id);
        let ledger = &mut self.budgets.tasks.entry(id).or_default().ledger;
        if let Some((attempt, since)) = running.filter(|_| is_new) {
            ledger.open(attempt, since);
        }
        let total = ledger.total(now);
        ledger.budget = if add {
            ledger.budget.raised(budget, &total)
        } else {
            budget.or(ledger.budget)
        };
        let owner = Owner::Task(id);
        self.budgets.note_time(&owner);
        step.changes.extend(self.budgets.change(&owner));
        self.enforce(now, &owner, step);
        for id in self.budgets.tree(id) {
            self.go_on(now, id, step);
            // What is shown of it has changed.
            step.messages.push(crate::Message::Changed { task: id });
        }
        self.release_held(now, step);
    }

    /// Queues a task again that had stopped at a budget which allows it to go on.
    fn go_on(&mut self, now: Timestamp, id: TaskId, step: &mut Step) {
        let owners = self.owners(id);
        if self.budgets.hold(now, &owners).is_some() {
            return;
        }
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        let asked = task.row.reason.as_ref();
        let asked = asked.is_some_and(|reason| reason.code == FailureCode::BudgetExceeded);
        let waits = matches!(
            task.row.state,
            State::Ended {
                status: EndStatus::NeedsReview,
                ..
            }
        );
        if asked && waits {
            task.row.cancel_requested = false;
            let state = State::queued(now, now, &task.row.facts);
            self.set_state(now, id, state, step);
        }
    }

    /// A person sets the daily budget of a project, or adds to today's. None where nobody knows such
    /// a project.
    pub(crate) fn set_project_budget(
        &mut self,
        now: Timestamp,
        wanted: &str,
        budget: Budget,
        add: bool,
        step: &mut Step,
    ) -> Option<ProjectId> {
        let (id, name) = self.find_project(wanted)?;
        if !self.budgets.projects.contains_key(&id) {
            let configured = self.config.daily_budget(&id, &name);
            self.budgets.open_project(&id, &name, configured);
        }
        let project = self.budgets.projects.get_mut(&id)?;
        if add {
            let spent = project.ledger.total(now);
            // Adding where there is no limit yet begins one at what is used.
            let raised = project.ledger.budget.raised(budget, &spent);
            project.added = difference(raised, project.daily());
        } else {
            project.set = Some(budget.or(project.daily()));
        }
        project.renew();
        project.ledger.unstop();
        let owner = Owner::Project(id.clone());
        step.changes.extend(self.budgets.change(&owner));
        self.enforce(now, &owner, step);
        self.release_held(now, step);
        Some(id)
    }

    fn find_project(&self, wanted: &str) -> Option<(ProjectId, String)> {
        let is = |id: &ProjectId, name: &str| id.as_str() == wanted || name == wanted;
        let known = self.budgets.projects.iter();
        let known = known.map(|(id, project)| (id, &project.name));
        let tasks = self
            .tasks
            .values()
            .filter_map(|t| t.row.facts.project.as_ref());
        let mut all = known.chain(tasks.map(|(id, name)| (id, name)));
        let found = all.find(|(id, name)| is(id, name))?;
        Some((found.0.clone(), found.1.clone()))
    }

    /// The budget of a task, and what it and its subtasks have used, as far as it is known; the wall
    /// time of what runs is not in it. None for a task without budget and subtasks.
    #[must_use]
    pub fn budget(&self, id: TaskId) -> Option<(Budget, Spent)> {
        let ledger = &self.budgets.tasks.get(&id)?.ledger;
        Some((ledger.budget, ledger.total(Timestamp(0))))
    }

    /// Reads the projects that have a daily budget.
    #[must_use]
    pub fn project_budgets(&self, now: Timestamp) -> Vec<ProjectView<'_>> {
        let all = self.budgets.projects.iter();
        all.map(|(id, project)| {
            let spent = project.ledger.total(now);
            let used_up = project.ledger.budget.forbids_start(&spent).is_some();
            ProjectView {
                id,
                name: &project.name,
                budget: project.daily(),
                today: project.ledger.budget,
                spent,
                until: used_up.then(|| self.budgets.midnight()),
            }
        })
        .collect()
    }
}

/// What `raised` has more than `daily`.
fn difference(raised: Budget, daily: Budget) -> Budget {
    Budget {
        tokens: raised
            .tokens
            .map(|n| n.saturating_sub(daily.tokens.unwrap_or(0))),
        cost_microusd: raised
            .cost_microusd
            .map(|n| n.saturating_sub(daily.cost_microusd.unwrap_or(0))),
        time: raised
            .time
            .map(|t| t.saturating_sub(daily.time.unwrap_or_default())),
        attempts: raised
            .attempts
            .map(|n| n.saturating_sub(daily.attempts.unwrap_or(0))),
    }
}
