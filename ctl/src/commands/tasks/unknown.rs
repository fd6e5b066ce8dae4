//! Whether an empty list is empty because nothing is known of what it was asked for.

use std::collections::BTreeSet;

use orchestra_proto::v1;
use orchestra_types::{ScheduleId, runner::KNOWN_RUNNERS};

use super::projects;
use crate::{
    client::{Client, patiently},
    commands::schedules,
    error::{Error, Result},
    exit::Exit,
    ui::{escape::line, suggest::did_you_mean},
};

/// How many submitters are named.
const SUBMITTERS_MAX: usize = 8;

/// Refuses a runner, a project or a schedule of which the head knows nothing.
pub async fn refuse(client: &Client, asked: &v1::ListTasksRequest) -> Result<()> {
    if !asked.runner.is_empty() {
        runner(client, &asked.runner).await?;
    }
    if !asked.project.is_empty() {
        project(client, &asked.project).await?;
    }
    if asked.schedule > 0 {
        schedule(client, ScheduleId(asked.schedule)).await?;
    }
    Ok(())
}

/// Refuses a schedule that is not there and that made no task.
async fn schedule(client: &Client, id: ScheduleId) -> Result<()> {
    let of_it = v1::ListTasksRequest {
        schedule: id.0,
        ..Default::default()
    };
    if client.schedule(id).await?.is_some() || any(client, of_it).await? {
        return Ok(());
    }
    Err(schedules::none(id))
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

/// Refuses a project of which the head knows no task, no schedule and no budget.
pub async fn project(client: &Client, wanted: &str) -> Result<()> {
    let of_it = v1::ListTasksRequest {
        project: wanted.to_owned(),
        ..Default::default()
    };
    if any(client, of_it).await? {
        return Ok(());
    }
    let known = projects::known(client).await?;
    if known.iter().any(|known| known.is(wanted)) {
        return Ok(());
    }
    let guess = did_you_mean(wanted, known.iter().map(|known| known.name.as_str()));
    let error = Error::new(
        Exit::NotFound,
        format!("the head knows no project `{wanted}`{guess}"),
    );
    Err(error.hint("a project is called as its directory; `ctl show TASK` names a task's"))
}

/// That nobody of this name has such tasks, and who has the latest ones: it may be another name.
pub async fn submitter(client: &Client, wanted: &str) -> Result<String> {
    let request = v1::ListTasksRequest {
        newest_first: true,
        ..Default::default()
    };
    let tasks = patiently(async || client.admin().list_tasks(request.clone()).await).await?;
    let specs = tasks.tasks.into_iter().filter_map(|task| task.spec);
    let others: BTreeSet<String> = specs
        .map(|spec| line(&spec.submitter).into_owned())
        .collect();
    Ok(no_tasks_of(wanted, others))
}

fn no_tasks_of(wanted: &str, mut others: BTreeSet<String>) -> String {
    others.retain(|other| !other.is_empty());
    let mut named: Vec<String> = others.into_iter().take(SUBMITTERS_MAX + 1).collect();
    if named.len() > SUBMITTERS_MAX {
        named[SUBMITTERS_MAX] = "others".to_owned();
    }
    let of = format!("no such tasks of {}", line(wanted));
    match named.is_empty() {
        true => of,
        false => format!("{of}; the latest tasks are of {}", named.join(", ")),
    }
}

/// Whether there is any such task.
async fn any(client: &Client, mut request: v1::ListTasksRequest) -> Result<bool> {
    request.limit = 1;
    let answer = patiently(async || client.admin().list_tasks(request.clone()).await).await?;
    Ok(!answer.tasks.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_tasks_is_named_where_a_submitter_has_none() {
        let said = |names: &[&str]| {
            no_tasks_of("jo", names.iter().map(|name| (*name).to_owned()).collect())
        };
        assert_eq!(said(&[""]), "no such tasks of jo");
        assert_eq!(
            said(&["ana@vm", "bob@vm"]),
            "no such tasks of jo; the latest tasks are of ana@vm, bob@vm"
        );
        let many: Vec<String> = (0..20).map(|n| format!("u{n:02}@vm")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(said(&many).ends_with("u06@vm, u07@vm, others"));
    }
}
