//! Submissions.

use std::collections::BTreeSet;

use orchestra_core::NewTask;
use orchestra_proto::{Refused, convert::submitted_spec, v1};
use orchestra_types::{ContextFile, Digest, Place, TaskSpec, limits};

use tracing::Span;

use super::{
    Services,
    status::{self, Result},
};

/// Longest idempotency key.
const KEY_BYTES_MAX: usize = 128;

pub(super) async fn submit(
    services: &Services,
    request: v1::SubmitRequest,
) -> Result<v1::SubmitResponse> {
    let key = key(request.idempotency_key).map_err(|e| status::refused(&e))?;
    let tasks = request.tasks.into_iter().map(new_task);
    let tasks: Vec<NewTask> = tasks
        .collect::<std::result::Result<_, _>>()
        .map_err(|e| status::refused(&e))?;
    check_stored(services, tasks.iter().map(|task| &task.spec)).map_err(|e| status::refused(&e))?;
    let (tasks, spans) = traced(tasks);
    let reply = services.engine.submit(key, tasks).await;
    let (ids, duplicate) = status::submitted(reply.map_err(status::asked)?)?;
    for (id, span) in ids.iter().zip(&spans) {
        span.record("task", tracing::field::display(id));
    }
    if let (Some(first), Some(last)) = (ids.first(), ids.last()) {
        tracing::info!(%first, %last, duplicate, "tasks submitted");
    }
    Ok(v1::SubmitResponse {
        ids: ids.into_iter().map(|id| id.0).collect(),
        duplicate,
    })
}

/// Begins a trace for each task, or goes on with the submitter's. The spans end with the call.
/// Without tracing there are none.
fn traced(mut tasks: Vec<NewTask>) -> (Vec<NewTask>, Vec<Span>) {
    let mut spans = Vec::new();
    for task in &mut tasks {
        let span = tracing::info_span!("task.submit", task = tracing::field::Empty);
        orchestra_telemetry::set_parent(&span, &task.spec.traceparent);
        let traceparent = orchestra_telemetry::traceparent(&span);
        if traceparent.is_empty() {
            break;
        }
        task.spec.traceparent = traceparent;
        spans.push(span);
    }
    (tasks, spans)
}

pub(super) fn key(key: String) -> std::result::Result<String, Refused> {
    let fits = (1..=KEY_BYTES_MAX).contains(&key.len());
    if fits && key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(key);
    }
    let why = "is 1 to 128 printable ASCII characters, made once for each submission";
    Err(Refused::new("idempotency_key", why))
}

fn new_task(wire: v1::NewTask) -> std::result::Result<NewTask, Refused> {
    let spec = wire
        .spec
        .ok_or_else(|| Refused::new("spec", "is missing"))?;
    let spec = submitted_spec(spec)?;
    if spec.after.len() + wire.after_index.len() > limits::AFTER_MAX {
        let why = format!("more than {} tasks", limits::AFTER_MAX);
        return Err(Refused::new("after", why));
    }
    Ok(NewTask {
        spec,
        after_index: wire.after_index,
    })
}

/// What a task names by its digest must be here already: found out now, not when it is started.
pub(super) fn check_stored<'a>(
    services: &Services,
    specs: impl Iterator<Item = &'a TaskSpec>,
) -> std::result::Result<(), Refused> {
    let named: BTreeSet<Digest> = specs.flat_map(digests).collect();
    let missing = named.iter().find(|digest| !services.blobs.has(digest));
    missing.map_or(Ok(()), |digest| {
        let why = format!("no bytes named {digest} are stored here; upload them first");
        Err(Refused::new("tasks", why))
    })
}

fn digests(spec: &TaskSpec) -> Vec<Digest> {
    let content = |file: &ContextFile| file.content.digest;
    let mut digests: Vec<Digest> = spec.context_files.iter().map(content).collect();
    match &spec.place {
        Place::Repository { bundles, .. } => digests.extend(bundles),
        Place::InPlace { .. } | Place::Empty => {}
    }
    digests
}
