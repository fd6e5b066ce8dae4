//! Cancelling of tasks, many in a call: the engine makes one commit of what it finds in its queue.

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

pub(super) async fn cancel(services: &Services, ids: &[u64]) -> Result<v1::CancelTasksResponse> {
    if ids.is_empty() || ids.len() > limits::CANCEL_TASKS_MAX {
        let why = format!("from 1 to {} tasks in a call", limits::CANCEL_TASKS_MAX);
        return Err(status::refused(&Refused::new("ids", why)));
    }
    let asked = ids.iter().map(|&id| cancel_one(services, id));
    let changed = future::join_all(asked).await;
    // While the head stops nothing can be said of any; to ask again is safe.
    if let Some(Err(stopping)) = changed.iter().find(|answer| is_stopping(answer)) {
        return Err(stopping.clone());
    }
    let tasks = read(services, changed.iter().flatten().copied().collect()).await?;
    let below = going_on_below(services, ids).await?;
    let answers = changed
        .into_iter()
        .zip(below)
        .map(|(answer, below)| answered(&tasks, answer, below));
    Ok(v1::CancelTasksResponse {
        answers: answers.collect(),
    })
}

async fn cancel_one(services: &Services, id: u64) -> Result<TaskId> {
    let id = change::task_id(id)?;
    let reply = services.engine.cancel(id).await;
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

fn answered(
    tasks: &HashMap<u64, v1::Task>,
    answer: Result<TaskId>,
    below: Vec<TaskId>,
) -> v1::Cancelled {
    let found = answer.and_then(|id| {
        let task = tasks.get(&id.0).cloned();
        task.ok_or_else(|| status::no_task(id))
    });
    let answer = match found {
        Ok(task) => v1::cancelled::Answer::Task(task),
        Err(status) => v1::cancelled::Answer::Refused(refusal(&status)),
    };
    v1::Cancelled {
        answer: Some(answer),
        going_on: below.into_iter().map(|id| id.0).collect(),
    }
}

fn refusal(status: &Status) -> v1::Refusal {
    v1::Refusal {
        code: status.code().into(),
        message: status.message().to_owned(),
    }
}
