//! The ledgers of projects, which begin anew each day.

use orchestra_types::{Budget, ProjectId, Spent, Timestamp};

use super::{Budgets, Owner};
use crate::{Config, Core, ledger::Ledger, row::ProjectRow};

pub(super) const DAY_MS: u64 = 24 * 3600 * 1000;

#[derive(Debug)]
pub(super) struct ProjectLedger {
    pub ledger: Ledger,
    pub name: String,
    /// Per day, as a person has set it.
    pub set: Option<Budget>,
    /// Per day, as configured.
    configured: Budget,
    /// For today only.
    pub added: Budget,
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
    pub fn daily(&self) -> Budget {
        self.set.unwrap_or(self.configured)
    }

    /// Whether somebody wanted a budget; else it only counts.
    pub fn is_wanted(&self) -> bool {
        self.set.is_some() || !self.ledger.budget.is_unlimited()
    }

    /// What is configured for it is found by this name.
    pub fn configure(&mut self, name: &str, budget: Budget) {
        name.clone_into(&mut self.name);
        self.configured = budget;
        self.renew();
        self.ledger.unstop();
    }

    pub fn renew(&mut self) {
        self.ledger.budget = self.daily().raised(self.added);
    }
}

impl Budgets {
    pub(super) fn midnight(&self) -> Timestamp {
        Timestamp(self.day.saturating_add(1).saturating_mul(DAY_MS))
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
        if today || project.is_wanted() {
            self.projects.insert(row.id, project);
        }
    }

    pub(super) fn open_project(&mut self, id: &ProjectId, name: &str, configured: Budget) {
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

    /// The day of a start. A clock that was set back over midnight begins no day anew; one that
    /// was days ahead is not believed.
    pub fn begin_at_start(&mut self, now: Timestamp, rows: &[ProjectRow]) {
        self.begin_day(now, now);
        let next = self.day + 1;
        if rows.iter().any(|row| row.day == next) && !mutated!(DayAgain) {
            self.day = next;
        }
    }

    /// A new day by the wall clock; whether it is one. A clock that was set back over midnight begins
    /// no day anew; one that was days ahead was not right.
    pub fn begin_day(&mut self, now: Timestamp, wall: Timestamp) -> bool {
        let today = wall.0 / DAY_MS;
        if today == self.day || today.saturating_add(1) == self.day {
            return false;
        }
        self.day = today;
        for project in self
            .projects
            .values_mut()
            .filter(|_| !mutated!(DayNeverEnds))
        {
            if !mutated!(RaiseForEver) {
                project.added = Budget::default();
            }
            project.ledger.begin_day(now);
            project.renew();
        }
        self.projects
            .retain(|_, project| project.is_wanted() || project.ledger.has_runs());
        self.note_times();
        true
    }

    fn note_times(&mut self) {
        let projects: Vec<Owner> = self.projects.keys().cloned().map(Owner::Project).collect();
        let gone =
            |owner: &Owner| matches!(owner, Owner::Project(id) if !self.projects.contains_key(id));
        self.timed.retain(|owner| !gone(owner));
        for owner in projects {
            self.note_time(&owner);
        }
    }
}

impl Core {
    /// A project's ledger; what is configured is its budget where there is none yet.
    pub(super) fn opened_project(&mut self, id: &ProjectId, name: &str) -> &mut ProjectLedger {
        if !self.budgets.projects.contains_key(id) {
            let configured = self.config.daily_budget(id, name);
            self.budgets.open_project(id, name, configured);
        }
        let opened = self.budgets.projects.get_mut(id);
        opened.expect("it was opened above")
    }

    /// What a project may use in a day that has no budget of its own.
    #[must_use]
    pub fn default_budget(&self) -> Budget {
        self.config.budget_default
    }

    /// Reads the projects that have a daily budget, and those that used something today.
    #[must_use]
    pub fn project_budgets(&self, now: Timestamp) -> Vec<ProjectView<'_>> {
        let all = self.budgets.projects.iter();
        let views = all.map(|(id, project)| {
            let spent = project.ledger.total(now);
            let used_up = project.ledger.budget.forbids_start(&spent).is_some();
            let view = ProjectView {
                id,
                name: &project.name,
                budget: project.daily(),
                today: project.ledger.budget,
                spent,
                until: used_up.then(|| self.budgets.midnight()),
            };
            (project.is_wanted() || spent != Spent::default()).then_some(view)
        });
        views.flatten().collect()
    }
}
