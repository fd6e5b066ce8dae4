//! Changes of many tasks in a call, each by itself: the engine makes one commit of what it finds in
//! its queue.

use std::collections::HashMap;

use futures::future;
use orchestra_proto::{Refused, v1};
use orchestra_types::{TaskId, limits};
use tonic::{Code, Status};

use super::{
    Services, change,
    status::{self, Result},
    wire,
};

/// What becomes of each.
#[derive(Clone, Copy)]
enum Change {
    Cancel,
    Retry,
}

pub(super) async fn cancel(services: &Services, ids: &[u64]) -> Result<v1::CancelTasksResponse> {
    let changed = each(services, ids, Change::Cancel).await?;
    let below = going_on_below(services, ids).await?;
    let answers = changed.into_iter().zip(below);
    let answers = answers.map(|(changed, below)| v1::Cancelled {
        answer: Some(match changed {
            Ok(task) => v1::cancelled::Answer::Task(task),
            Err(status) => v1::cancelled::Answer::Refused(refusal(&status)),
        }),
        going_on: below.into_iter().map(|id| id.0).collect(),
    });
    Ok(v1::CancelTasksResponse {
        answers: answers.collect(),
    })
}

pub(super) async fn retry(services: &Services, ids: &[u64]) -> Result<v1::RetryTasksResponse> {
    let changed = each(services, ids, Change::Retry).await?;
    let answers = changed.into_iter().map(|changed| v1::Retried {
        answer: Some(match changed {
            Ok(task) => v1::retried::Answer::Task(task),
            Err(status) => v1::retried::Answer::Refused(refusal(&status)),
        }),
    });
    Ok(v1::RetryTasksResponse {
        answers: answers.collect(),
    })
}

/// Asks for a change of each, in this order, and gives the tasks as they are after all of them.
async fn each(services: &Services, ids: &[u64], change: Change) -> Result<Vec<Result<v1::Task>>> {
    if ids.is_empty() || ids.len() > limits::CHANGE_TASKS_MAX {
        let why = format!("from 1 to {} tasks in a call", limits::CHANGE_TASKS_MAX);
        return Err(status::refused(&Refused::new("ids", why)));
    }
    let asked = ids.iter().map(|&id| one(services, id, change));
    let changed: Vec<Result<TaskId>> = future::join_all(asked).await;
    // While the head stops nothing can be said of any; to ask again is safe.
    if let Some(Err(stopping)) = changed.iter().find(|answer| is_stopping(answer)) {
        return Err(stopping.clone());
    }
    let tasks = read(services, changed.iter().flatten().copied().collect()).await?;
    let found = |id: TaskId| tasks.get(&id.0).cloned().ok_or_else(|| status::no_task(id));
    Ok(changed.into_iter().map(|id| id.and_then(found)).collect())
}

async fn one(services: &Services, id: u64, change: Change) -> Result<TaskId> {
    let id = change::task_id(id)?;
    let reply = match change {
        Change::Cancel => services.engine.cancel(id).await,
        Change::Retry => services.engine.retry(id).await,
    };
    status::done(reply.map_err(status::asked)?)
}

fn is_stopping(answer: &Result<TaskId>) -> bool {
    matches!(answer, Err(status) if status.code() == Code::Unavailable)
}

async fn read(services: &Services, ids: Vec<TaskId>) -> Result<HashMap<u64, v1::Task>> {
    let found = services.engine.read(move |view| wire::summaries(view, ids));
    let found = found.await.map_err(status::read)?;
    Ok(found.into_iter().map(|task| (task.id, task)).collect())
}

/// What goes on below each of them, now that they are cancelled.
async fn going_on_below(services: &Services, ids: &[u64]) -> Result<Vec<Vec<TaskId>>> {
    let ids: Vec<TaskId> = ids.iter().copied().map(TaskId).collect();
    let found = services
        .engine
        .read(move |view| Ok(view.core.going_on_below(&ids)));
    found.await.map_err(status::read)
}

fn refusal(status: &Status) -> v1::Refusal {
    v1::Refusal {
        code: status.code().into(),
        message: status.message().to_owned(),
    }
}
