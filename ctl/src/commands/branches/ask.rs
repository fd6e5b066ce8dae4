//! What the head knows of the tasks whose branches are in a repository.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use orchestra_repo::{Checkout, TaskBranch, project_ref, project_ref_without_commit};
use orchestra_types::TaskId;

use super::fate::Known;
use crate::{
    app::App,
    blocking::blocking,
    calls::each_of,
    error::{OrFailed, Result},
    exit::Exit,
    json::task::Task,
};

/// What the head said.
pub struct Asked {
    /// Which one it is the head of; none where it did not say.
    cluster: Option<String>,
    tasks: BTreeMap<TaskId, Found>,
}

/// A task that the head knows.
enum Found {
    /// Of the project here.
    Here(Box<Task>),
    /// Of another one: ids are a cluster's, and the repository may have worked with several.
    Elsewhere,
}

impl Asked {
    /// What is known of a branch's task.
    pub fn of<'a>(asked: Option<&'a Self>, branch: &TaskBranch) -> Known<'a> {
        let Some(asked) = asked else {
            return Known::Unasked;
        };
        match asked.tasks.get(&branch.task) {
            None => Known::Nothing,
            Some(Found::Elsewhere) => Known::Elsewhere,
            Some(Found::Here(task)) => Known::Task(task),
        }
    }

    /// The cluster that was asked.
    pub fn cluster(&self) -> Option<&str> {
        self.cluster.as_deref()
    }
}

/// Asks the head; none where it cannot be asked, which is said.
pub async fn ask(app: &App, checkout: &Arc<Checkout>, branches: &[TaskBranch]) -> Option<Asked> {
    match try_ask(app, checkout, branches).await {
        Ok(asked) => Some(asked),
        Err(error) => {
            if !branches.is_empty() {
                app.ui.warn(format!(
                    "{}: nobody knows which tasks were applied, and only commits that other branches have count",
                    error.chain()
                ));
            }
            None
        }
    }
}

async fn try_ask(app: &App, checkout: &Arc<Checkout>, branches: &[TaskBranch]) -> Result<Asked> {
    let client = app.connect().await?;
    let machine = app.machine()?;
    let of = Arc::clone(checkout);
    let projects = blocking(move || {
        let failed = || "failed to find the project".to_owned();
        let now = project_ref(of.top(), &machine).or_failed(failed)?;
        // Of tasks that were queued before the first commit.
        let then = project_ref_without_commit(of.top(), &machine).or_failed(failed)?;
        Ok([now.id.to_string(), then.id.to_string()])
    });
    let projects = projects.await?;
    let ids: BTreeSet<TaskId> = branches.iter().map(|branch| branch.task).collect();
    let ids: Vec<TaskId> = ids.into_iter().collect();
    let found = each_of(&ids, async |id| match client.task(id).await {
        Ok(task) => Ok(Some(task)),
        Err(error) if error.exit() == Exit::NotFound => Ok(None),
        Err(error) => Err(error),
    });
    let place = |task: Task| {
        let project = task.project.as_ref();
        let is_here = project.is_some_and(|project| projects.contains(&project.id));
        let id = task.id;
        let found = match is_here {
            true => Found::Here(Box::new(task)),
            false => Found::Elsewhere,
        };
        (id, found)
    };
    let tasks = found.await?.into_iter().flatten().map(place).collect();
    let cluster = match ids.is_empty() {
        true => None,
        false => client.cluster().await,
    };
    Ok(Asked { cluster, tasks })
}
