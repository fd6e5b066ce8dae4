//! Which project a person means: by its name, its id, or the beginning of that.

use std::collections::BTreeMap;

use orchestra_proto::v1;
use orchestra_types::limits;

use crate::{
    client::{Client, patiently},
    error::{Error, Result},
    exit::Exit,
    ui::escape::line,
};

/// A project by its names.
#[derive(Clone, Debug)]
pub struct Known {
    pub name: String,
    id: String,
    /// Where its directory is; empty where that is not known.
    dir: String,
}

impl Known {
    /// Whether a person means it who says `wanted`.
    pub fn is(&self, wanted: &str) -> bool {
        let begins = wanted.len() >= limits::PROJECT_PREFIX_MIN && self.id.starts_with(wanted);
        self.name == wanted || self.id == wanted || begins
    }
}

impl From<v1::ProjectRef> for Known {
    fn from(project: v1::ProjectRef) -> Self {
        Self {
            name: project.name,
            id: project.id,
            dir: project.dir,
        }
    }
}

/// The projects of tasks that were asked for by the name of one.
#[derive(Debug, Default)]
pub struct Found(BTreeMap<String, Known>);

impl Found {
    /// Takes what a page of them says.
    pub fn note(&mut self, tasks: &[v1::Task]) {
        let specs = tasks.iter().filter_map(|task| task.spec.as_ref());
        for project in specs.filter_map(|spec| spec.project.as_ref()) {
            if !self.0.contains_key(&project.id) {
                self.0.insert(project.id.clone(), project.clone().into());
            }
        }
    }

    /// Refuses a name that several of them have.
    pub fn require_one(self, wanted: &str) -> Result<()> {
        meant(wanted, self.0.into_values()).map(drop)
    }
}

/// The projects of the latest tasks, of schedules and of budgets.
pub async fn known(client: &Client) -> Result<Vec<Known>> {
    let request = v1::ListBudgetsRequest {};
    let budgets = patiently(async || client.admin().list_budgets(request).await).await?;
    let schedules = client.schedules().await?;
    let request = v1::ListTasksRequest {
        newest_first: true,
        ..Default::default()
    };
    let tasks = patiently(async || client.admin().list_tasks(request.clone()).await).await?;
    let of_tasks = tasks.tasks.into_iter().filter_map(|task| task.spec);
    let of_schedules = schedules.into_iter().filter_map(|known| known.spec);
    let specs = of_tasks.chain(of_schedules);
    let of_specs = specs.filter_map(|spec| spec.project).map(Known::from);
    let of_budgets = budgets.projects.into_iter().map(|known| Known {
        name: known.name,
        id: known.project,
        dir: String::new(),
    });
    Ok(of_specs.chain(of_budgets).collect())
}

/// The id of the project that is meant, if it is one of these; what several of them are called is refused.
pub fn meant(wanted: &str, known: impl IntoIterator<Item = Known>) -> Result<Option<String>> {
    let mut meant: BTreeMap<String, String> = BTreeMap::new();
    for project in known.into_iter().filter(|known| known.is(wanted)) {
        let dir = meant.entry(project.id).or_default();
        if dir.is_empty() {
            *dir = project.dir;
        }
    }
    if meant.contains_key(wanted) {
        return Ok(Some(wanted.to_owned()));
    }
    if meant.len() <= 1 {
        return Ok(meant.into_keys().next());
    }
    let each = meant.iter().map(|(id, dir)| match dir.as_str() {
        "" => id.clone(),
        dir => format!("{id} ({})", line(dir)),
    });
    let each: Vec<String> = each.collect();
    let text = format!(
        "`{}` may be any of {} projects: {}",
        line(wanted),
        meant.len(),
        each.join(", ")
    );
    Err(Error::new(Exit::Refused, text)
        .hint("name one by its id, or by the first 8 characters or more of that"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_of_two_projects_of_one_name_are_seen_on_whatever_page_they_are() {
        let task = |id: &str| {
            let project = v1::ProjectRef {
                id: id.to_owned(),
                name: "app".to_owned(),
                ..v1::ProjectRef::default()
            };
            let spec = v1::TaskSpec {
                project: Some(project),
                ..v1::TaskSpec::default()
            };
            v1::Task {
                spec: Some(spec),
                ..v1::Task::default()
            }
        };
        let found = |pages: &[&str]| {
            let mut found = Found::default();
            pages
                .iter()
                .for_each(|id| found.note(&[task(id), task(id)]));
            found.require_one("app")
        };
        assert!(found(&["git-aaaaaaaa1", "git-aaaaaaaa1"]).is_ok());
        assert!(found(&["git-aaaaaaaa1", "git-bbbbbbbb2"]).is_err());
    }

    #[test]
    fn a_name_of_several_projects_means_none_and_an_id_means_one() {
        let project = |id: &str, dir: &str| Known {
            name: "app".to_owned(),
            id: id.to_owned(),
            dir: dir.to_owned(),
        };
        let both = || {
            [
                project("git-aaaaaaaa1", "/a/app"),
                project("git-bbbbbbbb2", ""),
                project("git-aaaaaaaa1", "/b/app"),
            ]
        };
        let one = |wanted: &str| meant(wanted, both()).unwrap();
        let first = Some("git-aaaaaaaa1".to_owned());
        assert_eq!(meant("app", both().into_iter().take(1)).unwrap(), first);
        assert_eq!(one("other"), None);
        assert_eq!(one("git-aaaaaaaa1"), first);
        assert_eq!(one("git-bbbb"), Some("git-bbbbbbbb2".to_owned()));
        let refused = meant("app", both()).unwrap_err().to_string();
        assert_eq!(
            refused,
            "`app` may be any of 2 projects: git-aaaaaaaa1 (/a/app), git-bbbbbbbb2"
        );
    }
}
