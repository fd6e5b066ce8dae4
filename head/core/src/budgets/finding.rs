//! Which project a person means: by its id, by its name, or by the beginning of its id.

use std::collections::BTreeMap;

use orchestra_types::{ProjectId, TaskId, limits};

use crate::Core;

/// Most projects that are named to a person who has to choose.
const CANDIDATES_MAX: usize = 16;

/// A project that may be meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectCandidate {
    /// Which.
    pub id: ProjectId,
    /// Its name.
    pub name: String,
    /// A task of it, whose specification says its directory; none when all are forgotten.
    pub task: Option<TaskId>,
}

/// What a text means.
pub(super) enum Found {
    /// No project.
    None,
    /// This one.
    One(ProjectCandidate),
    /// Any of these.
    Several(Vec<ProjectCandidate>),
}

impl Core {
    pub(super) fn find_project(&self, wanted: &str) -> Found {
        let is_id = |project: &Known<'_>| project.id.as_str() == wanted;
        let is_named = |project: &Known<'_>| project.name == wanted;
        let begins = |project: &Known<'_>| {
            wanted.len() >= limits::PROJECT_PREFIX_MIN && project.id.as_str().starts_with(wanted)
        };
        let mut found = self.projects_that(is_id);
        if found.is_empty() {
            found = self.projects_that(is_named);
        }
        if found.is_empty() {
            found = self.projects_that(begins);
        }
        match (found.len(), found.pop()) {
            (1, Some(one)) => Found::One(one),
            (_, Some(last)) => {
                found.push(last);
                Found::Several(found)
            }
            (_, None) => Found::None,
        }
    }

    /// The projects of which this is true, each once, with the latest of its tasks.
    fn projects_that(&self, is: impl Fn(&Known<'_>) -> bool) -> Vec<ProjectCandidate> {
        let mut found: BTreeMap<&ProjectId, Known<'_>> = BTreeMap::new();
        for project in self.known_projects().filter(is) {
            if found.len() < CANDIDATES_MAX || found.contains_key(project.id) {
                found.insert(project.id, project);
            }
        }
        found.into_values().map(Known::candidate).collect()
    }

    /// Of each budget and of each task, in this order.
    fn known_projects(&self) -> impl Iterator<Item = Known<'_>> {
        let known = self.budgets.projects.iter();
        let known = known.filter(|(_, project)| project.is_wanted());
        let known = known.map(|(id, project)| Known {
            id,
            name: &project.name,
            task: None,
        });
        let tasks = self.tasks.values().filter_map(|task| {
            let (id, name) = task.row.facts.project.as_ref()?;
            let task = Some(task.row.id);
            Some(Known { id, name, task })
        });
        known.chain(tasks)
    }
}

struct Known<'a> {
    id: &'a ProjectId,
    name: &'a str,
    task: Option<TaskId>,
}

impl Known<'_> {
    fn candidate(self) -> ProjectCandidate {
        ProjectCandidate {
            id: self.id.clone(),
            name: self.name.to_owned(),
            task: self.task,
        }
    }
}
