//! Changes of one task: retry, another priority, note an apply.

use orchestra_core::Reply;
use orchestra_proto::{convert, v1};
use orchestra_types::{ApplyResult, TaskId, limits};

use super::{
    Services,
    status::{self, Result},
    wire,
};
use crate::engine::AskError;

pub(super) async fn retry(services: &Services, id: u64) -> Result<v1::Task> {
    let id = task_id(id)?;
    answer(services, services.engine.retry(id).await).await
}

pub(super) async fn release(services: &Services, id: u64) -> Result<v1::Task> {
    let id = task_id(id)?;
    answer(services, services.engine.release(id).await).await
}

pub(super) async fn set_priority(
    services: &Services,
    request: v1::SetPriorityRequest,
) -> Result<v1::Task> {
    let id = task_id(request.id)?;
    let priority = convert::priority(request.priority).map_err(|e| status::refused(&e))?;
    answer(services, services.engine.prioritise(id, priority).await).await
}

pub(super) async fn record_apply(
    services: &Services,
    request: v1::RecordApplyRequest,
) -> Result<v1::Task> {
    let id = task_id(request.id)?;
    let message = limits::cut(&request.message, limits::OUTCOME_TEXT_BYTES_MAX);
    let result = if request.applied {
        ApplyResult::Applied {
            files: request.files,
        }
    } else {
        ApplyResult::Conflict { message }
    };
    answer(services, services.engine.record_apply(id, result).await).await
}

pub(super) async fn get(services: &Services, id: u64) -> Result<v1::Task> {
    task(services, task_id(id)?).await
}

pub(super) fn task_id(wire: u64) -> Result<TaskId> {
    convert::task_id("id", wire).map_err(|e| status::refused(&e))
}

pub(super) async fn answer(
    services: &Services,
    reply: std::result::Result<Reply, AskError>,
) -> Result<v1::Task> {
    let id = status::done(reply.map_err(status::asked)?)?;
    task(services, id).await
}

async fn task(services: &Services, id: TaskId) -> Result<v1::Task> {
    let now = services.engine.now();
    let read = services.engine.read(move |view| wire::task(view, now, id));
    let found = read.await;
    found
        .map_err(status::read)?
        .ok_or_else(|| status::no_task(id))
}
