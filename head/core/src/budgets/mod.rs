//! All budgets: of tasks with their subtasks, and of projects for a day.
//!
//! What an attempt uses counts for its task, for every task above it, and for its project today.
//! Where one of these has reached a limit, the attempt is stopped and its work is collected. A task
//! asks a person then; a project's tasks wait for the next day. Nothing starts under a budget that
//! is used up: such tasks are held, apart from the queue.
//!
//! What was used before a budget came counts as well. A project has a ledger from the first attempt
//! of a day on. A task has one only while it has a budget or a relation; what its attempts used
//! stands in its row, and what running ones have used so far in `readings`.

mod finding;
mod holding;
mod projects;
mod raising;
mod running;
mod tasks;
mod unheard;

use std::collections::{BTreeMap, BTreeSet};

use orchestra_types::{AttemptId, Failure, ProjectId, Spent, TaskId, limits};

pub use self::{finding::ProjectCandidate, projects::ProjectView};
use self::{projects::ProjectLedger, tasks::TaskLedger};
use crate::{
    Core,
    change::Change,
    ledger::Ledger,
    row::{LedgerRow, ProjectRow, Reading, TaskRow},
};

/// A task and all above it, at most.
const LINE_MAX: usize = limits::PARENTS_MAX + 1;

/// All budgets.
#[derive(Debug, Default)]
pub(crate) struct Budgets {
    tasks: BTreeMap<TaskId, TaskLedger>,
    projects: BTreeMap<ProjectId, ProjectLedger>,
    /// Queued tasks under a budget that is used up, and why.
    held: BTreeMap<TaskId, Failure>,
    /// How many of them wait for the next day.
    until_midnight: usize,
    /// Whose budget has wall time and has something running.
    timed: BTreeSet<Owner>,
    /// What attempts that run have used so far, as far as their workers said it.
    readings: BTreeMap<AttemptId, Known>,
    /// Whose budget is another one since a task has come, with this input or before a start.
    configured_anew: BTreeSet<Owner>,
    /// The day that the projects' ledgers are of.
    day: u64,
}

/// What is known of an attempt that runs.
#[derive(Debug, Default)]
struct Known {
    /// What of it counts for budgets.
    spent: Spent,
    reading: Reading,
}

/// Whose budget it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Task(TaskId),
    Project(ProjectId),
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
        let above = |id: &TaskId| {
            let parent = self.tasks.get(id)?.parent;
            parent.filter(|_| !mutated!(BudgetOfParentIgnored))
        };
        let own = self.tasks.contains_key(&id).then_some(id);
        let chain = std::iter::successors(own, above).take(LINE_MAX);
        let known = chain.filter(|id| self.tasks.contains_key(id));
        let project = project.filter(|id| self.projects.contains_key(*id));
        let project = project.filter(|_| !mutated!(ProjectUseIgnored));
        known
            .map(Owner::Task)
            .chain(project.cloned().map(Owner::Project))
            .collect()
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
}

impl Core {
    /// A task has come: it has a ledger when it has a budget or a task above it.
    pub(crate) fn enter_budgets(&mut self, row: &TaskRow) {
        if let Some((id, name)) = &row.facts.project {
            self.enter_project(id, name);
        }
        let Some(terms) = row.facts.terms.as_deref() else {
            return;
        };
        if terms.parent.is_none() && terms.budget.is_unlimited() {
            return;
        }
        let new = || TaskLedger::new(terms.budget, row.used());
        let entry = self.budgets.tasks.entry(row.id).or_insert_with(new);
        entry.parent = terms.parent;
        if let Some(parent) = terms.parent {
            self.open_task(parent).children.insert(row.id);
        }
    }

    /// A task of a project has come. Clones and work trees of one project may have several names: what is
    /// configured for any of them counts for all.
    fn enter_project(&mut self, id: &ProjectId, name: &str) {
        let Some(known) = self.budgets.projects.get_mut(id) else {
            let configured = self.config.daily_budget(id, name);
            if !configured.is_unlimited() {
                self.budgets.open_project(id, name, configured);
            }
            return;
        };
        if known.name == name || self.config.own_budget(id, &known.name).is_some() {
            return;
        }
        if let Some(own) = self.config.own_budget(id, name) {
            known.configure(name, own);
            let owner = Owner::Project(id.clone());
            self.budgets.note_time(&owner);
            self.budgets.configured_anew.insert(owner);
        }
    }

    fn owners(&self, id: TaskId) -> Vec<Owner> {
        let task = self.tasks.get(&id);
        let project = task.and_then(|task| task.row.facts.project.as_ref());
        self.budgets.owners(id, project.map(|(id, _)| id))
    }
}
