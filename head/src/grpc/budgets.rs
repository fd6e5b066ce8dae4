//! Budgets: of tasks, and of projects for a day.

use orchestra_core::{ProjectCandidate, ProjectView, Reply};
use orchestra_proto::{convert, v1};
use orchestra_types::limits;

use super::{
    Services, change,
    status::{self, Result},
};
use crate::{engine::View, store};

pub(super) async fn set_task(
    services: &Services,
    request: v1::SetTaskBudgetRequest,
) -> Result<v1::Task> {
    let id = convert::task_id("id", request.id).map_err(|e| status::refused(&e))?;
    let change = convert::budget_change(request.budget, request.add, &request.none);
    let change = change.map_err(|e| status::refused(&e))?;
    let reply = services.engine.set_task_budget(id, change).await;
    change::answer(services, reply).await
}

pub(super) async fn list(services: &Services) -> Result<v1::ListBudgetsResponse> {
    let now = services.engine.now();
    let read = services.engine.read(move |view| {
        let projects = view.core.project_budgets(now);
        let projects = projects.iter().map(project).collect();
        let default = convert::budget_to_wire(view.core.default_budget());
        Ok(v1::ListBudgetsResponse { projects, default })
    });
    read.await.map_err(status::read)
}

pub(super) async fn set_project(
    services: &Services,
    request: v1::SetProjectBudgetRequest,
) -> Result<v1::ProjectBudget> {
    let wanted = convert::text("project", request.project, limits::NAME_BYTES_MAX);
    let wanted = wanted.map_err(|e| status::refused(&e))?;
    let change = convert::budget_change(request.budget, request.add, &request.none);
    let change = change.map_err(|e| status::refused(&e))?;
    let new = convert::new_project(&request.new_id, request.new_name);
    let new = new.map_err(|e| status::refused(&e))?;
    let reply = services
        .engine
        .set_project_budget(wanted.clone(), new, change)
        .await;
    let id = match reply.map_err(status::asked)? {
        Reply::SeveralProjects(projects) => return Err(several(services, &wanted, projects).await),
        reply => status::project_done(reply)?,
    };
    let (now, wanted) = (services.engine.now(), id.clone());
    let read = services.engine.read(move |view| {
        let projects = view.core.project_budgets(now);
        let found = projects.iter().find(|project| *project.id == wanted);
        Ok(found.map(project))
    });
    let known = read.await.map_err(status::read)?;
    known.ok_or_else(|| status::no_project(id.as_str()))
}

/// Says which projects may be meant, with their directories.
async fn several(
    services: &Services,
    wanted: &str,
    projects: Vec<ProjectCandidate>,
) -> tonic::Status {
    let read = services.engine.read(move |view| {
        let found = projects.into_iter().map(|project| {
            let dir = directory(view, &project)?;
            Ok((project.id, dir))
        });
        found.collect::<std::result::Result<Vec<_>, _>>()
    });
    match read.await {
        Ok(found) => status::several_projects(wanted, &found),
        Err(error) => status::read(error),
    }
}

fn directory(
    view: &View<'_>,
    project: &ProjectCandidate,
) -> std::result::Result<String, store::Error> {
    let spec = project.task.map(|id| view.store.spec(id)).transpose()?;
    let of_task = spec.flatten().and_then(|spec| spec.project);
    Ok(of_task.map_or_else(
        || format!("named {}, without tasks", project.name),
        |project| project.dir.display().to_string(),
    ))
}

fn project(view: &ProjectView<'_>) -> v1::ProjectBudget {
    v1::ProjectBudget {
        project: view.id.to_string(),
        name: view.name.to_owned(),
        budget: convert::budget_to_wire(view.budget),
        today: convert::budget_to_wire(view.today),
        spent: Some(view.spent.into()),
        until_ms: view.until.map(|at| at.0),
    }
}
