//! Recurring tasks.

use orchestra_core::{NewSchedule, Reply, ScheduleChange, ScheduleRow};
use orchestra_proto::{Refused, convert, v1};
use orchestra_types::{ScheduleId, Timestamp, limits};

use super::{
    Services,
    status::{self, Result},
    submit,
};

pub(super) async fn add(
    services: &Services,
    request: v1::AddSchedulesRequest,
) -> Result<v1::AddSchedulesResponse> {
    let key = submit::key(request.idempotency_key).map_err(|e| status::refused(&e))?;
    let now = services.engine.wall_now();
    let new = request.schedules.into_iter();
    let new = new.map(|new| new_schedule(new, now));
    let new: Vec<NewSchedule> = new
        .collect::<std::result::Result<_, _>>()
        .map_err(|e| status::refused(&e))?;
    submit::check_stored(services, new.iter().map(|new| &new.spec))
        .map_err(|e| status::refused(&e))?;
    let reply = services.engine.schedule(key, new).await;
    let (ids, duplicate) = status::scheduled(reply.map_err(status::asked)?)?;
    tracing::info!(count = ids.len(), duplicate, "recurring tasks added");
    Ok(v1::AddSchedulesResponse {
        ids: ids.into_iter().map(|id| id.0).collect(),
        duplicate,
    })
}

fn new_schedule(
    wire: v1::NewSchedule,
    now: Timestamp,
) -> std::result::Result<NewSchedule, Refused> {
    let spec = wire
        .spec
        .ok_or_else(|| Refused::new("spec", "is missing"))?;
    let spec = convert::submitted_spec(spec)?;
    if !spec.after.is_empty() {
        let why = "a recurring task cannot come after others";
        return Err(Refused::new("after", why));
    }
    Ok(NewSchedule {
        spec,
        every: convert::recurrence(wire.every)?,
        first: submit::moment(now, wire.first_in_ms, wire.first_ms.map(Timestamp)),
    })
}

pub(super) async fn list(
    services: &Services,
    request: v1::ListSchedulesRequest,
) -> Result<v1::ListSchedulesResponse> {
    let read = services.engine.read(move |view| {
        let mut all = view.core.schedules();
        Ok(match request.id {
            0 => all.map(schedule).collect(),
            id => all
                .find(|row| row.id.0 == id)
                .map(whole)
                .into_iter()
                .collect(),
        })
    });
    let schedules = read.await.map_err(status::read)?;
    Ok(v1::ListSchedulesResponse { schedules })
}

pub(super) async fn change(
    services: &Services,
    request: v1::ChangeScheduleRequest,
) -> Result<v1::ChangeScheduleResponse> {
    let id = ScheduleId(request.id);
    let change = match v1::ScheduleAction::try_from(request.action) {
        Ok(v1::ScheduleAction::Pause) => ScheduleChange::Pause,
        Ok(v1::ScheduleAction::Resume) => ScheduleChange::Resume,
        Ok(v1::ScheduleAction::Delete) => ScheduleChange::Delete,
        Ok(v1::ScheduleAction::Unspecified) | Err(_) => {
            let why = "is pause, resume or delete";
            return Err(status::refused(&Refused::new("action", why)));
        }
    };
    // As it is before it is deleted, and after anything else.
    let before = find(services, id).await?;
    let reply = services.engine.change_schedule(id, change).await;
    match reply.map_err(status::asked)? {
        Reply::ScheduleDone(_) => {}
        Reply::NoSchedule(id) => return Err(status::no_schedule(id)),
        _ => return Err(status::internal("the engine answered another question")),
    }
    let schedule = find(services, id).await?.or(before);
    Ok(v1::ChangeScheduleResponse { schedule })
}

async fn find(services: &Services, id: ScheduleId) -> Result<Option<v1::Schedule>> {
    let read = services.engine.read(move |view| {
        let mut all = view.core.schedules();
        Ok(all.find(|row| row.id == id).map(schedule))
    });
    read.await.map_err(status::read)
}

/// For a list: its long texts cut.
fn schedule(row: &ScheduleRow) -> v1::Schedule {
    let mut schedule = whole(row);
    if let Some(spec) = &mut schedule.spec {
        spec.description = limits::cut(&spec.description, 4096);
        spec.context_files.clear();
        spec.set_up = None;
        spec.command = None;
    }
    schedule
}

fn whole(row: &ScheduleRow) -> v1::Schedule {
    v1::Schedule {
        id: row.id.0,
        spec: Some(orchestra_types::TaskSpec::clone(&row.spec).into()),
        every: Some(convert::recurrence_to_wire(row.every)),
        next_ms: row.next.0,
        paused: row.paused,
        last_task: row.last.map_or(0, |id| id.0),
        runs: row.runs,
        created_at_ms: row.created_at.0,
    }
}
