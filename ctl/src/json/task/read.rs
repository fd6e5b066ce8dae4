//! A task read from the head's answer.

use std::time::Duration;

use orchestra_proto::{convert, v1};
use orchestra_types::{Failure, TaskId, TaskSpec, Usage};

use super::{Apply, Earlier, Project, Reason, Task};
use crate::{
    error::Result,
    json::{
        attempt::{Attempt, of_result},
        budget::{BudgetDocument, SpentDocument},
        refused, some,
        time::Time,
    },
};

impl Task {
    /// Reads the head's answer.
    pub fn read(wire: v1::Task) -> Result<Self> {
        let id = convert::task_id("id", wire.id).map_err(refused)?;
        let status = convert::task_status("status", wire.status).map_err(refused)?;
        let spec = wire.spec.unwrap_or_default();
        let spec = TaskSpec::try_from(spec).map_err(refused)?;
        let reason = wire
            .reason
            .map(Failure::try_from)
            .transpose()
            .map_err(refused)?;
        let attempts = wire
            .attempts
            .into_iter()
            .map(|attempt| Attempt::read(id, attempt))
            .collect::<Result<Vec<_>>>()?;
        let attempts = (!attempts.is_empty()).then_some(attempts);
        let latest = attempts.as_ref().and_then(|a| a.last());
        let left = attempts.as_deref().and_then(of_result);
        Ok(Self {
            id,
            status,
            priority: spec.priority,
            runner: some(wire.runner).or(spec.runner.map(|r| r.to_string())),
            worker: some(wire.worker),
            attempt: wire.attempt,
            reason: reason
                .map(|failure| Reason::of(id, failure))
                .map(|reason| reason.or_go_without(id, status, &spec.after))
                .map(|reason| reason.of_one_tried_again(id, status)),
            waits_because: None,
            created_at: Time::from_ms(wire.created_at_ms),
            started_at: wire.started_at_ms.map(Time::from_ms),
            finished_at: wire.finished_at_ms.map(Time::from_ms),
            usage: attempts.as_ref().map(|a| total_usage(a)),
            files: None,
            files_lost: None,
            changes: left.and_then(|a| a.changes),
            result: latest.and_then(|a| a.result.clone()),
            branch: left.and_then(|a| a.branch.clone()),
            commit: left.and_then(|a| a.commit.clone()),
            apply: Apply {
                requested: spec.apply,
                result: some(wire.apply),
                message: some(wire.apply_message),
            },
            // Where it is counted the head knows the limits; lists have what was asked for.
            budget: match wire.spent {
                Some(_) => wire.budget,
                None => convert::budget_to_wire(spec.budget),
            }
            .map(BudgetDocument::from),
            spent: wire.spent.map(SpentDocument::from),
            parent: spec.parent,
            fallback: spec.fallback.iter().map(ToString::to_string).collect(),
            model: spec.model,
            after: spec.after,
            waits_for: wire.waits_for.into_iter().map(TaskId).collect(),
            on_dependency_failure: spec.on_dependency_failure,
            start_at: spec.start_at.map(Time),
            schedule: spec.schedule,
            labels: spec.labels,
            requires: spec.requires,
            timeout_seconds: Duration::as_secs_f64(&spec.timeout),
            queue_timeout_seconds: spec.queue_timeout.as_ref().map(Duration::as_secs_f64),
            stall_timeout_seconds: spec.stall_timeout.as_ref().map(Duration::as_secs_f64),
            retries: spec.retries,
            context: spec.context_files.into_iter().map(|f| f.name).collect(),
            project: spec.project.map(|p| Project {
                id: p.id.to_string(),
                name: p.name,
                dir: p.dir.to_string_lossy().into_owned(),
                machine: p.machine.to_string(),
            }),
            place: spec.place.into(),
            command: spec.command,
            ports: spec.ports,
            set_up: spec.set_up.map(Into::into),
            submitter: some(spec.submitter),
            cancel_requested: wire.cancel_requested,
            finishing: wire.finishing,
            silent_since: wire.silent_since_ms.map(Time::from_ms),
            not_before: wire.not_before_ms.map(Time::from_ms),
            description: spec.description,
            attempts,
            earlier: wire.earlier.into_iter().map(Into::into).collect(),
            branch_here: None,
        })
    }

    /// Reads one of a list: of its attempts only what they used.
    pub fn read_listed(wire: v1::Task) -> Result<Self> {
        Ok(Self {
            attempts: None,
            changes: None,
            result: None,
            branch: None,
            commit: None,
            ..Self::read(wire)?
        })
    }
}

impl From<v1::Earlier> for Earlier {
    fn from(wire: v1::Earlier) -> Self {
        Self {
            task: Some(TaskId(wire.task_id)).filter(|task| task.0 > 0),
            change: orchestra_repo::Earlier {
                start: wire.start,
                base: wire.base,
                commit: wire.commit,
                applied: wire.applied,
            },
        }
    }
}

fn total_usage(attempts: &[Attempt]) -> Usage {
    attempts
        .iter()
        .filter_map(|a| a.usage)
        .fold(Usage::default(), Usage::plus)
}
