//! A person sets or raises a budget, and what had stopped under it goes on.

use orchestra_types::{Budget, FailureCode, ProjectId, TaskId, Timestamp};

use super::Owner;
use crate::{
    Core, Step,
    row::{EndStatus, State},
    task::Task,
};

impl Core {
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
        // Where only the project's day is over it goes on, and is held until the next one.
        if self.task_hold(now, id).is_some() || mutated!(RaiseForgotten) {
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
            self.open_ledger(&id, &name);
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

    /// The first budget of a project is for what runs already, too.
    fn open_ledger(&mut self, id: &ProjectId, name: &str) {
        let configured = self.config.daily_budget(id, name);
        self.budgets.open_project(id, name, configured);
        let of_it = |task: &&Task| task.row.facts.project.as_ref().is_some_and(|p| p.0 == *id);
        let tasks = self.tasks.values().filter(of_it);
        let held = tasks.filter_map(|task| Some((task.attempt(), task.held_since()?)));
        let held: Vec<_> = held.filter(|_| !mutated!(FirstBudgetTooLate)).collect();
        for (attempt, since) in held {
            let owner = Owner::Project(id.clone());
            self.budgets.open(&owner, attempt, since);
        }
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
