//! Whether an empty list is empty because nothing is known of what it was asked for.

use orchestra_proto::v1;
use orchestra_types::runner::KNOWN_RUNNERS;

use crate::{
    client::{Client, patiently},
    error::{Error, Result},
    exit::Exit,
    ui::suggest::did_you_mean,
};

/// Refuses a runner or a project of which the head knows nothing.
pub async fn refuse(client: &Client, asked: &v1::ListTasksRequest) -> Result<()> {
    if !asked.runner.is_empty() {
        runner(client, &asked.runner).await?;
    }
    if !asked.project.is_empty() {
        project(client, &asked.project).await?;
    }
    Ok(())
}

async fn runner(client: &Client, name: &str) -> Result<()> {
    let workers = client.workers().await?;
    let runners = workers.iter().flat_map(|worker| &worker.runners);
    let known: Vec<&str> = runners.map(|runner| runner.name.as_str()).collect();
    let of_it = v1::ListTasksRequest {
        runner: name.to_owned(),
        ..Default::default()
    };
    if KNOWN_RUNNERS.contains(&name) || known.contains(&name) || any(client, of_it).await? {
        return Ok(());
    }
    let guess = did_you_mean(name, known.iter().copied().chain(KNOWN_RUNNERS));
    let error = Error::new(
        Exit::NotFound,
        format!("no worker and no task has a runner `{name}`{guess}"),
    );
    Err(error.hint("`ctl workers -v` lists the runners"))
}

async fn project(client: &Client, wanted: &str) -> Result<()> {
    let of_it = v1::ListTasksRequest {
        project: wanted.to_owned(),
        ..Default::default()
    };
    if any(client, of_it).await? || recurs(client, wanted).await? {
        return Ok(());
    }
    let request = v1::ListBudgetsRequest {};
    let budgets = patiently(async || client.admin().list_budgets(request).await).await?;
    let is_it = |known: &v1::ProjectBudget| known.name == wanted || known.project == wanted;
    if budgets.projects.iter().any(is_it) {
        return Ok(());
    }
    let error = Error::new(
        Exit::NotFound,
        format!("the head knows no project `{wanted}`"),
    );
    Err(error.hint("a project is called as its directory; `ctl show TASK` names a task's"))
}

/// Whether there is any such task.
async fn any(client: &Client, mut request: v1::ListTasksRequest) -> Result<bool> {
    request.limit = 1;
    let answer = patiently(async || client.admin().list_tasks(request.clone()).await).await?;
    Ok(!answer.tasks.is_empty())
}

/// Whether a schedule is for the project.
async fn recurs(client: &Client, wanted: &str) -> Result<bool> {
    let request = v1::ListSchedulesRequest {};
    let answer = patiently(async || client.admin().list_schedules(request).await).await?;
    let specs = answer.schedules.into_iter().filter_map(|known| known.spec);
    let mut projects = specs.filter_map(|spec| spec.project);
    Ok(projects.any(|known| known.name == wanted || known.id == wanted))
}
