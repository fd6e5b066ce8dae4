//! The files that an attempt changed.

use orchestra_proto::{convert, v1};
use orchestra_types::{ArtifactKind, AttemptId, Digest, TaskId};

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
    let digest = found.await.map_err(status::read)??;
    let blobs = services.blobs.clone();
    let read = tokio::task::spawn_blocking(move || manifest::read(&blobs, &digest)).await;
    let read = read.map_err(|_| status::internal("failed to read the list of files"))?;
    Ok(read.map_err(|error| status::manifest(&error))?.into())
}

fn find(view: &View<'_>, task: TaskId, number: u32) -> store::Result<Result<Digest>> {
    let Some(found) = view.core.task(task) else {
        return Ok(Err(status::no_task(task)));
    };
    let attempt = wire::meant(&found, number);
    if attempt.number == 0 {
        return Ok(Err(status::not_started(task, found.status)));
    }
    if view.store.attempt(attempt)?.is_none() {
        return Ok(Err(status::no_attempt(attempt)));
    }
    let digest = digest(view, attempt)?;
    Ok(digest.ok_or_else(|| status::no_manifest(attempt)))
}

fn digest(view: &View<'_>, attempt: AttemptId) -> store::Result<Option<Digest>> {
    let end = view.store.outcome(attempt)?;
    let outcome = end.and_then(|end| end.result.ok());
    let artifacts = outcome.map(|outcome| outcome.artifacts).unwrap_or_default();
    let manifest = artifacts.iter().find(|a| a.kind == ArtifactKind::Manifest);
    Ok(manifest.map(|artifact| artifact.digest))
}
