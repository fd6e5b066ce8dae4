//! Submissions.

use std::{collections::BTreeSet, time::Duration};

use orchestra_core::NewTask;
use orchestra_proto::{Refused, convert::submitted_spec, v1};
use orchestra_types::{ContextFile, Digest, Place, TaskSpec, Timestamp, limits};

use prost::Message;
use tonic::Streaming;

use super::{
    Services,
    flood::{Held, NoRoom},
    status::{self, Result},
};

pub(super) async fn submit(
    services: &Services,
    request: v1::SubmitRequest,
) -> Result<v1::SubmitResponse> {
    let mut held = Held::default();
    let room = services.room.take(&mut held, request.encoded_len()).await;
    room.map_err(|NoRoom| status::flood())?;
    let key = key(request.idempotency_key).map_err(|e| status::refused(&e))?;
    let mut tasks = Vec::new();
    read_tasks(request.tasks, &mut tasks, services.engine.wall_now())?;
    queue(services, key, tasks).await
}

/// A submission in parts. Nothing is submitted before the last one has come.
pub(super) async fn submit_many(
    services: &Services,
    mut parts: Streaming<v1::SubmitPart>,
) -> Result<v1::SubmitResponse> {
    let (mut held, mut bytes) = (Held::default(), 0);
    let (mut first_key, mut tasks) = (None, Vec::new());
    while let Some(part) = parts.message().await? {
        let more = part.encoded_len();
        bytes += more;
        if bytes > limits::SUBMIT_BYTES_MAX {
            let why = "more than 256 MiB in one submission; send it in several";
            return Err(status::refused(&Refused::new("tasks", why)));
        }
        let room = services.room.take(&mut held, more).await;
        room.map_err(|NoRoom| status::flood())?;
        first_key.get_or_insert(part.idempotency_key);
        read_tasks(part.tasks, &mut tasks, services.engine.wall_now())?;
    }
    let key = key(first_key.unwrap_or_default()).map_err(|e| status::refused(&e))?;
    queue(services, key, tasks).await
}

fn read_tasks(wire: Vec<v1::NewTask>, tasks: &mut Vec<NewTask>, now: Timestamp) -> Result<()> {
    if tasks.len() + wire.len() > limits::SUBMIT_TASKS_MAX {
        let why = format!("more than {}; send them in parts", limits::SUBMIT_TASKS_MAX);
        return Err(status::refused(&Refused::new("tasks", why)));
    }
    for task in wire {
        tasks.push(new_task(task, now).map_err(|e| status::refused(&e))?);
    }
    Ok(())
}

async fn queue(
    services: &Services,
    key: String,
    tasks: Vec<NewTask>,
) -> Result<v1::SubmitResponse> {
    check_stored(services, tasks.iter().map(|task| &*task.spec))
        .map_err(|e| status::refused(&e))?;
    let reply = services.engine.submit(key, tasks).await;
    let (ids, duplicate) = status::submitted(reply.map_err(status::asked)?)?;
    if let (Some(first), Some(last)) = (ids.first(), ids.last()) {
        tracing::info!(%first, %last, duplicate, "tasks submitted");
    }
    Ok(v1::SubmitResponse {
        ids: ids.into_iter().map(|id| id.0).collect(),
        duplicate,
        stopping: services.stop.waits_since().is_some(),
    })
}

pub(super) fn key(key: String) -> std::result::Result<String, Refused> {
    let fits = (1..=limits::KEY_BYTES_MAX).contains(&key.len());
    if fits && key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(key);
    }
    let why = "is 1 to 128 printable ASCII characters, made once for each submission";
    Err(Refused::new("idempotency_key", why))
}

fn new_task(wire: v1::NewTask, now: Timestamp) -> std::result::Result<NewTask, Refused> {
    let spec = wire
        .spec
        .ok_or_else(|| Refused::new("spec", "is missing"))?;
    let mut spec = submitted_spec(spec)?;
    spec.start_at = moment(now, wire.start_in_ms, spec.start_at);
    if spec.after.len() + wire.after_index.len() > limits::AFTER_MAX {
        let why = format!("more than {} tasks", limits::AFTER_MAX);
        return Err(Refused::new("after", why));
    }
    Ok(NewTask {
        spec: Box::new(spec),
        after_index: wire.after_index,
    })
}

/// A moment that was named: as a time from now, or by the clock of who names it.
pub(super) fn moment(
    now: Timestamp,
    in_ms: Option<u64>,
    at: Option<Timestamp>,
) -> Option<Timestamp> {
    in_ms.map_or(at, |ms| Some(now.plus(Duration::from_millis(ms))))
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
    let copied = spec.set_up.iter().flat_map(|set_up| &set_up.files);
    digests.extend(copied.map(|file| file.content.digest));
    match &spec.place {
        Place::Repository { bundles, .. } => digests.extend(bundles),
        Place::InPlace { .. } | Place::Empty => {}
    }
    digests
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_time_counts_by_the_heads_clock() {
        // By the clock of the client, which is an hour slow.
        let mut spec = TaskSpec::new("x");
        let now = Timestamp(7_200_000);
        spec.start_at = Some(Timestamp(3_700_000));
        let mut wire = v1::NewTask {
            spec: Some(spec.into()),
            ..v1::NewTask::default()
        };
        let absolute = new_task(wire.clone(), now).unwrap().spec.start_at;
        assert_eq!(absolute, Some(Timestamp(3_700_000)));
        wire.start_in_ms = Some(100_000);
        let relative = new_task(wire.clone(), now).unwrap().spec.start_at;
        assert_eq!(relative, Some(Timestamp(7_300_000)));
        wire.start_in_ms = Some(u64::MAX);
        let never = new_task(wire, now).unwrap().spec.start_at;
        assert_eq!(never, Some(Timestamp(u64::MAX)));
    }
}
