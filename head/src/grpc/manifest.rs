//! The files that an attempt changed: all of them once it is over, else those of the last look at it.

use orchestra_core::OutcomeRow;
use orchestra_proto::{convert, v1};
use orchestra_types::{ArtifactKind, AttemptId, Digest, TaskId, WorkerId};

use super::{
    Services,
    status::{self, Result},
    wire,
};
use crate::{engine::View, manifest, store};

pub(super) async fn get(
    services: &Services,
    request: v1::GetManifestRequest,
) -> Result<v1::Manifest> {
    let task = convert::task_id("task", request.task).map_err(|e| status::refused(&e))?;
    let number = request.attempt;
    let found = services.engine.read(move |view| find(view, task, number));
    let digest = match found.await.map_err(status::read)?? {
        Found::Result(digest) => digest,
        Found::Unchanged => return Ok(v1::Manifest::default()),
        Found::Running(worker, attempt) => {
            let interim = services.interims.get(&worker, attempt);
            return interim.ok_or_else(|| status::no_manifest(attempt));
        }
    };
    let blobs = services.blobs.clone();
    let read = tokio::task::spawn_blocking(move || manifest::read(&blobs, &digest)).await;
    let read = read.map_err(|_| status::internal("failed to read the list of files"))?;
    Ok(read.map_err(|error| status::manifest(&error))?.into())
}

enum Found {
    /// What the attempt left behind.
    Result(Digest),
    /// It succeeded, and changed nothing.
    Unchanged,
    /// This worker has it still.
    Running(WorkerId, AttemptId),
}

fn find(view: &View<'_>, task: TaskId, number: u32) -> store::Result<Result<Found>> {
    let Some(found) = view.core.task(task) else {
        return Ok(Err(status::no_task(task)));
    };
    let id = wire::meant(&found, number);
    if id.number == 0 {
        return Ok(Err(status::not_started(task, found.status)));
    }
    let Some(attempt) = view.store.attempt(id)? else {
        return Ok(Err(status::no_attempt(id)));
    };
    Ok(match view.store.outcome(id)? {
        Some(end) => match digest(&end) {
            Some(digest) => Ok(Found::Result(digest)),
            None if has_succeeded(&end) => Ok(Found::Unchanged),
            None => Err(status::left_no_manifest(id)),
        },
        None => Ok(Found::Running(attempt.worker, id)),
    })
}

fn digest(end: &OutcomeRow) -> Option<Digest> {
    let artifacts = &end.result.as_ref().ok()?.artifacts;
    let manifest = artifacts.iter().find(|a| a.kind == ArtifactKind::Manifest);
    manifest.map(|artifact| artifact.digest)
}

fn has_succeeded(end: &OutcomeRow) -> bool {
    end.result
        .as_ref()
        .is_ok_and(|outcome| outcome.failure.is_none())
}
