//! The cluster as a whole: status, workers, agents, shutdown.

use std::{collections::BTreeMap, net::SocketAddr};

use orchestra_core::{
    AgentState, AgentView, Availability, Calendar, Link, Reply, State, WorkerView,
};
use orchestra_proto::{Refused, convert, v1};
use orchestra_types::{
    AttemptId, Priority, TaskStatus, Timestamp, WorkerId, limits, runner::WorkerInfo,
};

use super::{
    Services,
    accounts::account,
    status::{self, Result},
};
use crate::{engine::View, store};

/// Descriptions in the list of agents are one line.
const DESCRIPTION_BYTES_MAX: usize = 200;

pub(super) async fn status(services: &Services) -> Result<v1::ClusterStatus> {
    let read = services.engine.read(|view| Ok(counts(view))).await;
    let about = &services.about;
    let uptime = about.started.elapsed();
    let room = services.disk.room();
    Ok(v1::ClusterStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        cluster: services.security.cluster().to_owned(),
        pid: std::process::id(),
        state_dir: about.state_dir.display().to_string(),
        uptime_ms: convert::millis(uptime),
        listen: about.listen.to_string(),
        metrics: about.metrics.map(|a| a.to_string()).unwrap_or_default(),
        machine: about.machine.to_string(),
        stopping_since_ms: services.stop.waits_since().map(|at| at.0),
        restored: about.origin.map(|origin| v1::Restored {
            at_ms: origin.at.0,
            backup_ms: origin.backup.0,
        }),
        disk_full: room.err().map(|full| full.to_string()).unwrap_or_default(),
        ..read.map_err(status::read)?
    })
}

fn counts(view: &View<'_>) -> v1::ClusterStatus {
    let counts = view.core.counts();
    let by_status = TaskStatus::ALL.map(|s| (s.as_str().to_owned(), counts.with_status(s)));
    let by_priority = Priority::ALL.map(|p| (p.as_str().to_owned(), counts.open_with_priority(p)));
    let connected = |w: &WorkerView<'_>| matches!(w.link, Link::Connected(_));
    let workers: Vec<WorkerView<'_>> = view.core.workers().collect();
    let agents = view.core.agents();
    let busy = |agent: &&AgentView<'_>| matches!(agent.state, AgentState::Busy(_));
    let there = |agent: &&AgentView<'_>| match agent.state {
        AgentState::Idle | AgentState::Busy(_) => true,
        AgentState::Waiting(_) | AgentState::Offline(_) => false,
    };
    v1::ClusterStatus {
        by_status: by_status.into(),
        by_priority: by_priority.into(),
        finishing: counts.finishing(),
        workers_connected: count(workers.iter().filter(|w| connected(w)).count()),
        workers_known: count(workers.len()),
        agents_busy: count(agents.iter().filter(busy).count()),
        agents_total: count(agents.iter().filter(there).count()),
        parked: view.core.parked_accounts().iter().map(account).collect(),
        ..v1::ClusterStatus::default()
    }
}

pub(super) async fn workers(services: &Services) -> Result<v1::ListWorkersResponse> {
    let addresses = services.addresses.snapshot();
    let read = services.engine.read(move |view| {
        let workers = view.core.workers();
        let calendar = view.core.calendar();
        Ok(workers.map(|w| worker(&w, calendar, &addresses)).collect())
    });
    let mut workers: Vec<v1::Worker> = read.await.map_err(status::read)?;
    for worker in &mut workers {
        let id = worker.info.as_ref().and_then(|info| info.id.parse().ok());
        let Some(id) = id else {
            continue;
        };
        if services.security.is_revoked(&id) {
            "revoked".clone_into(&mut worker.availability);
        }
        let until = services.security.certificate_of(&id);
        worker.certificate_expires_at_ms = until.map(|until| until.0);
    }
    let removed = services.removed.names().into_iter().collect();
    Ok(v1::ListWorkersResponse { workers, removed })
}

fn worker(
    view: &WorkerView<'_>,
    calendar: Calendar,
    addresses: &BTreeMap<WorkerId, SocketAddr>,
) -> v1::Worker {
    let state = match view.link {
        Link::Connected(_) => "connected",
        Link::Disconnected => "disconnected",
        Link::Lost => "lost",
    };
    let address = addresses.get(&view.info.id);
    v1::Worker {
        info: Some(view.info.clone().into()),
        state: state.to_owned(),
        last_seen_ms: view.last_seen.map_or(0, |seen| calendar.wall(seen).0),
        joined_at_ms: view.joined_at.0,
        attempts: view.attempts.iter().map(|id| (*id).into()).collect(),
        waiting: view.waiting,
        address: address.map(ToString::to_string).unwrap_or_default(),
        availability: match view.availability {
            Availability::Draining if view.attempts.is_empty() => "drained".to_owned(),
            other => other.as_str().to_owned(),
        },
        certificate_expires_at_ms: None,
    }
}

pub(super) async fn set_availability(
    services: &Services,
    request: v1::SetAvailabilityRequest,
) -> Result<v1::Worker> {
    let id: WorkerId = convert::name("worker", &request.worker).map_err(|e| status::refused(&e))?;
    let mut all = Availability::ALL.into_iter();
    let availability = all.find(|known| known.as_str() == request.availability);
    let availability = availability.ok_or_else(|| {
        let why = "is open, cordoned or draining";
        status::refused(&Refused::new("availability", why))
    })?;
    let reply = services.engine.set_availability(id, availability).await;
    let id = status::worker_done(reply.map_err(status::asked)?)?;
    tracing::info!(worker = %id, availability = availability.as_str(), "availability set");
    find_worker(services, &id).await
}

/// One worker, if it is known.
pub(super) async fn find_worker(services: &Services, id: &WorkerId) -> Result<v1::Worker> {
    let workers = workers(services).await?.workers;
    let mut workers = workers.into_iter();
    let found = workers.find(|w| w.info.as_ref().is_some_and(|info| info.id == id.as_str()));
    found.ok_or_else(|| status::no_worker(id))
}

/// What people call a worker: its name, with its id where several have that name.
pub(super) async fn called(services: &Services, id: &WorkerId) -> String {
    let named = id.clone();
    let read = services.engine.read(move |view| {
        let known: Vec<_> = view.core.workers().map(|worker| worker.info).collect();
        Ok(name_among(&named, &known))
    });
    read.await.unwrap_or_else(|_| id.to_string())
}

/// What is known of a worker, if it is.
pub(super) async fn info_of(services: &Services, id: &WorkerId) -> Option<WorkerInfo> {
    let wanted = id.clone();
    let read = services.engine.read(move |view| {
        let mut known = view.core.workers().map(|worker| worker.info);
        Ok(known.find(|info| info.id == wanted).cloned())
    });
    read.await.ok().flatten()
}

fn name_among(id: &WorkerId, known: &[&WorkerInfo]) -> String {
    let Some(found) = known.iter().find(|info| info.id == *id) else {
        return id.to_string();
    };
    let alike = known.iter().filter(|info| info.name == found.name);
    match alike.count() {
        1 => format!("`{}`", found.name),
        _ => format!("`{}` ({id})", found.name),
    }
}

pub(super) async fn remove_worker(
    services: &Services,
    request: v1::RemoveWorkerRequest,
) -> Result<v1::RemoveWorkerResponse> {
    let id: WorkerId = convert::name("worker", &request.worker).map_err(|e| status::refused(&e))?;
    let name = info_of(services, &id).await.map(|info| info.name);
    let reply = services.engine.remove_worker(id.clone()).await;
    let id = match reply.map_err(status::asked)? {
        Reply::RemoveRefused(why) => {
            return Err(status::remove_refused(&called(services, &id).await, &why));
        }
        reply => status::worker_done(reply)?,
    };
    tracing::info!(worker = %id, "worker removed");
    if let Some(name) = name {
        let (removed, id) = (services.removed.clone(), id);
        // The file is written to disk, which may wait.
        let noted = tokio::task::spawn_blocking(move || removed.note(&id, &name));
        noted
            .await
            .map_err(|_| status::internal("failed to note the name of the worker"))?;
    }
    Ok(v1::RemoveWorkerResponse {})
}

pub(super) async fn agents(services: &Services) -> Result<v1::ListAgentsResponse> {
    let read = services.engine.read(|view| {
        let agents = view.core.agents();
        agents.iter().map(|a| agent(view, a)).collect()
    });
    let agents = read.await.map_err(status::read)?;
    Ok(v1::ListAgentsResponse { agents })
}

fn agent(view: &View<'_>, agent: &AgentView<'_>) -> store::Result<v1::Agent> {
    let (state, attempt) = match agent.state {
        AgentState::Idle => ("idle", None),
        AgentState::Busy(attempt) => ("busy", Some(attempt)),
        AgentState::Waiting(attempt) => ("waiting", Some(attempt)),
        AgentState::Offline(attempt) => ("offline", attempt),
    };
    Ok(v1::Agent {
        worker: agent.worker.id.to_string(),
        worker_name: agent.worker.name.clone(),
        runner: agent.runner.to_string(),
        state: state.to_owned(),
        attempt: attempt.map(Into::into),
        description: attempt
            .map(|attempt| first_line(view, attempt))
            .transpose()?
            .unwrap_or_default(),
        since_ms: attempt
            .and_then(|a| held_since(view, a))
            .map_or(0, |at| at.0),
    })
}

fn first_line(view: &View<'_>, attempt: AttemptId) -> store::Result<String> {
    let spec = view.store.spec(attempt.task)?;
    let description = spec.map(|spec| spec.description).unwrap_or_default();
    let line = description.trim_start().lines().next().unwrap_or_default();
    Ok(limits::cut(line, DESCRIPTION_BYTES_MAX))
}

fn held_since(view: &View<'_>, attempt: AttemptId) -> Option<Timestamp> {
    match &view.core.task(attempt.task)?.row.state {
        State::Assigned { at, .. } | State::Running { at, .. } => Some(*at),
        State::Blocked | State::Queued { .. } | State::Closing { .. } | State::Ended { .. } => None,
    }
}

pub(super) fn shutdown(services: &Services, now: bool) {
    tracing::info!(now, "the head was asked to stop");
    if now {
        services.stop.now();
    } else {
        let engine = services.engine.clone();
        services.stop.after_running(engine, &services.tracker);
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(id: &str, name: &str) -> WorkerInfo {
        let info = v1::WorkerInfo {
            id: id.to_owned(),
            name: name.to_owned(),
            machine: "m-1".to_owned(),
            ..v1::WorkerInfo::default()
        };
        info.try_into().unwrap()
    }

    #[test]
    fn a_worker_is_called_by_its_name_and_by_its_id_where_several_have_that_name() {
        let known = [info("1", "web"), info("2", "web"), info("3", "far")];
        let known: Vec<_> = known.iter().collect();
        let called = |id: &str| name_among(&id.parse().unwrap(), &known);
        assert_eq!(called("3"), "`far`");
        assert_eq!(called("1"), "`web` (1)");
        assert_eq!(called("4"), "4");
    }
}
