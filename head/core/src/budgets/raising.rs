//! A person sets, raises or takes away a budget, and what had stopped under it goes on.
//!
//! A raise is of limits that are there. Without one, nothing stood in the way: a limit that began
//! with a raise would stop what nobody wanted to stop. So such a raise is refused as a whole, and
//! the refusal names the budget that does stand in the way, if one does.

use orchestra_types::{Budget, BudgetChange, FailureCode, Measure, ProjectId, TaskId, Timestamp};

use super::{Owner, finding::Found};
use crate::{
    Core, Step,
    message::{NotFound, RaiseRefused, Reply},
    row::{EndStatus, State},
};

impl Core {
    /// A person sets, raises or takes away the budget of a task; what had stopped under it goes on.
    pub(crate) fn set_task_budget(
        &mut self,
        now: Timestamp,
        id: TaskId,
        change: &BudgetChange,
        step: &mut Step,
    ) -> Reply {
        if !self.tasks.contains_key(&id) {
            return Reply::NotFound(NotFound(id));
        }
        let known = self.budgets.tasks.get(&id);
        let known = known.map_or(Budget::default(), |entry| entry.ledger.budget);
        let wanted = match budget_after(known, change) {
            Ok(wanted) => wanted,
            Err(lacks) => return Reply::RaiseRefused(self.no_limit(now, id, lacks)),
        };
        self.open_task(id).ledger.budget = wanted;
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
        Reply::Done(id)
    }

    /// Why a limit that a task does not have is not raised: another one may be meant.
    fn no_limit(&self, now: Timestamp, id: TaskId, lacks: Measure) -> RaiseRefused {
        let used_up = self.budgets.hold(now, &self.owners(id));
        RaiseRefused::Task {
            id,
            lacks,
            used_up: used_up.map(Box::new),
        }
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
            let state = State::queued(self.calendar, now, now, &task.row.facts);
            self.set_state(now, id, state, step);
        }
    }

    /// The project that a person means by `wanted`; `new` where none is known by that, for a budget may be
    /// there before the first task.
    pub(crate) fn find_project_or(
        &self,
        wanted: &str,
        new: Option<(ProjectId, String)>,
    ) -> Result<(ProjectId, String), Reply> {
        match self.find_project(wanted) {
            Found::One(project) => Ok((project.id, project.name)),
            Found::None => new
                .filter(|_| !mutated!(NewProjectRefused))
                .ok_or_else(|| Reply::NoProject(wanted.to_owned())),
            Found::Several(projects) => Err(Reply::SeveralProjects(projects)),
        }
    }

    /// A person sets the daily budget of a project, or adds to today's.
    pub(crate) fn set_project_budget(
        &mut self,
        now: Timestamp,
        found: Result<(ProjectId, String), Reply>,
        change: &BudgetChange,
        step: &mut Step,
    ) -> Reply {
        let (id, name) = match found {
            Ok(project) => project,
            Err(reply) => return reply,
        };
        let known = self.budgets.projects.get(&id);
        let today = known.map_or_else(
            || self.config.daily_budget(&id, &name),
            |project| project.ledger.budget,
        );
        let wanted = match budget_after(today, change) {
            Ok(wanted) => wanted,
            Err(lacks) => return Reply::RaiseRefused(RaiseRefused::Project { name, lacks }),
        };
        let project = self.opened_project(&id, &name);
        match change {
            BudgetChange::Add(_) => project.added = difference(wanted, project.daily()),
            BudgetChange::Set { limits, none } => {
                project.set = Some(limits.or(project.daily()).without(none));
                // What was added for today is not to begin a limit of its own.
                project.added = project.added.without(none);
            }
        }
        project.renew();
        project.ledger.unstop();
        let owner = Owner::Project(id.clone());
        self.budgets.note_time(&owner);
        step.changes.extend(self.budgets.change(&owner));
        self.enforce(now, &owner, step);
        self.release_held(now, step);
        Reply::ProjectDone(id)
    }
}

/// A budget once it is changed; which limit a raise lacks.
fn budget_after(known: Budget, change: &BudgetChange) -> Result<Budget, Measure> {
    match change {
        BudgetChange::Set { limits, none } => Ok(limits.or(known).without(none)),
        BudgetChange::Add(more) => {
            let lacks = known.lacks(more).filter(|_| !mutated!(RaiseLimits));
            lacks.map_or(Ok(known.raised(*more)), Err)
        }
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
