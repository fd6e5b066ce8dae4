//! What the engine knows, as wire.

use orchestra_core::{AttemptRow, Calendar, OutcomeRow, Reading, State, TaskView};
use orchestra_proto::{convert, v1};
use orchestra_types::{
    ApplyResult, AttemptId, Exit, Failure, Outcome, TaskId, TaskSpec, Timestamp, Usage, limits,
};

use crate::{earlier, engine::View, store::Result};

/// Descriptions and commands in lists are cut to this many bytes.
const LIST_TEXT_BYTES_MAX: usize = 4 * 1024;

/// A task with its attempts.
pub(super) fn task(view: &View<'_>, now: Timestamp, id: TaskId) -> Result<Option<v1::Task>> {
    let (Some(found), Some(spec)) = (view.core.task(id), view.store.spec(id)?) else {
        return Ok(None);
    };
    let mut attempts = Vec::new();
    for row in view.store.attempts(id)? {
        let end = view.store.outcome(row.id)?;
        attempts.push(attempt(&row, end));
    }
    let earlier = match earlier::result(view, id)? {
        Some((_, outcome)) => earlier::below(view, &spec, &outcome.built_on)?,
        None => Vec::new(),
    };
    let mut task = with_spec(view.core.calendar(), &found, spec);
    task.earlier = earlier.into_iter().map(Into::into).collect();
    task.attempts = attempts;
    if let Some((budget, spent)) = view.core.budget_at(now, id) {
        task.budget = convert::budget_to_wire(budget);
        task.spent = Some(spent.into());
    }
    Ok(Some(task))
}

/// A task for a list: without attempts, its long texts cut.
pub(super) fn summary(view: &View<'_>, id: TaskId) -> Result<Option<v1::Task>> {
    let (Some(found), Some(mut spec)) = (view.core.task(id), view.store.spec(id)?) else {
        return Ok(None);
    };
    spec.description = limits::cut(&spec.description, LIST_TEXT_BYTES_MAX);
    spec.context_files.clear();
    spec.set_up = None;
    spec.command = None;
    Ok(Some(with_spec(view.core.calendar(), &found, spec)))
}

/// Gives a task of a list its attempts, which say no more than who worked when, and what that used.
pub(super) fn add_usage(view: &View<'_>, task: &mut v1::Task) -> Result<()> {
    for row in view.store.attempts(TaskId(task.id))? {
        let mut used = attempt(&row, view.store.outcome(row.id)?);
        used.cost_microusd = used.outcome.as_ref().and_then(|outcome| {
            let usage = outcome.usage.map(Usage::from)?;
            view.core.cost_of(&usage, &outcome.model)
        });
        used.outcome = used.outcome.map(|outcome| v1::Outcome {
            exit: outcome.exit,
            failure: outcome.failure,
            usage: outcome.usage,
            model: outcome.model,
            started_at_ms: outcome.started_at_ms,
            finished_at_ms: outcome.finished_at_ms,
            ..v1::Outcome::default()
        });
        task.attempts.push(used);
    }
    Ok(())
}

/// Several tasks for a list; unknown ones are left out.
pub(super) fn summaries(
    view: &View<'_>,
    ids: impl IntoIterator<Item = TaskId>,
) -> Result<Vec<v1::Task>> {
    let found = ids.into_iter().map(|id| summary(view, id));
    found.filter_map(Result::transpose).collect()
}

fn with_spec(calendar: Calendar, view: &TaskView<'_>, mut spec: TaskSpec) -> v1::Task {
    let row = view.row;
    // As it was submitted, but for what may be changed since.
    spec.priority = row.facts.priority;
    spec.on_dependency_failure = row.facts.on_dependency_failure;
    let (apply, apply_message) = apply(row.apply.as_deref());
    let last = row.last.as_ref();
    v1::Task {
        id: row.id.0,
        spec: Some(spec.into()),
        status: v1::TaskStatus::from(view.status).into(),
        reason: view.reason.clone().map(Into::into),
        created_at_ms: row.created_at.0,
        started_at_ms: row.started_at.map(|at| at.0),
        finished_at_ms: finished_at(&row.state).map(|at| at.0),
        attempt: row.attempts,
        runner: last.map(|last| last.runner.to_string()).unwrap_or_default(),
        worker: last.map(|last| last.worker.to_string()).unwrap_or_default(),
        attempts: Vec::new(),
        waits_for: view.waits_for.iter().map(|id| id.0).collect(),
        cancel_requested: row.cancel_requested,
        finishing: row.state.is_closing(),
        apply: apply.to_owned(),
        apply_message,
        silent_since_ms: view.silent_since.map(|at| calendar.wall(at).0),
        not_before_ms: not_before(calendar, &row.state, row.created_at),
        budget: None,
        spent: None,
        earlier: Vec::new(),
    }
}

fn finished_at(state: &State) -> Option<Timestamp> {
    match state {
        State::Ended { at, .. } => Some(*at),
        State::Blocked
        | State::Queued { .. }
        | State::Assigned { .. }
        | State::Running { .. }
        | State::Closing { .. } => None,
    }
}

/// Only a retry waits for a time.
fn not_before(calendar: Calendar, state: &State, created_at: Timestamp) -> Option<u64> {
    match state {
        State::Queued { not_before, .. } if calendar.steady(*not_before) > created_at => {
            Some(not_before.0)
        }
        State::Blocked
        | State::Queued { .. }
        | State::Assigned { .. }
        | State::Running { .. }
        | State::Closing { .. }
        | State::Ended { .. } => None,
    }
}

fn apply(result: Option<&ApplyResult>) -> (&'static str, String) {
    match result {
        None => ("", String::new()),
        Some(ApplyResult::NotRequested) => ("not_requested", String::new()),
        Some(ApplyResult::Applied { files }) => ("applied", format!("{files} files")),
        Some(ApplyResult::Conflict { message }) => ("conflict", message.clone()),
    }
}

fn attempt(row: &AttemptRow, outcome: Option<OutcomeRow>) -> v1::Attempt {
    v1::Attempt {
        number: row.id.number,
        runner: row.runner.to_string(),
        worker: row.worker.to_string(),
        assigned_at_ms: row.assigned_at.0,
        started_at_ms: row.started_at.map(|at| at.0),
        finished_at_ms: outcome.as_ref().map(|end| ended_at(row, end).0),
        outcome: outcome.map(|end| match end.result {
            Ok(outcome) => (*outcome).into(),
            Err(failure) => {
                without_result(row, end.at, failure, end.reading.unwrap_or_default()).into()
            }
        }),
        cost_microusd: None,
    }
}

/// When an attempt ended. Its result may have come long after that, because one of the two was away; how
/// long it ran the worker knows, by its own clock. What that makes of it counts where it is not in the future.
fn ended_at(row: &AttemptRow, end: &OutcomeRow) -> Timestamp {
    let ran = end.result.as_ref().ok().and_then(|outcome| outcome.ran());
    match (row.started_at, ran) {
        (Some(started), Some(ran)) => started.plus(ran).min(end.at),
        (None, _) | (_, None) => end.at,
    }
}

/// What is known of an attempt that left no result.
fn without_result(row: &AttemptRow, at: Timestamp, failure: Failure, reading: Reading) -> Outcome {
    Outcome {
        failure: Some(failure),
        usage: reading.usage,
        model: reading.model,
        started_at: row.started_at.unwrap_or(row.assigned_at),
        ..Outcome::bare(Exit::Unknown, at)
    }
}

/// The attempt that a request means: `number`, or the latest one when it is 0.
pub(super) fn meant(view: &TaskView<'_>, number: u32) -> AttemptId {
    AttemptId {
        task: view.row.id,
        number: if number == 0 {
            view.row.attempts
        } else {
            number
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ended_while_nobody_heard_of_it_ended_when_its_worker_says() {
        let id = "task_001.1".parse().unwrap();
        let ended = |started: Option<u64>, worker: Option<(u64, u64)>| {
            let row = AttemptRow {
                id,
                runner: "shell".parse().unwrap(),
                worker: "b5b1c2f0-5a5c-4a53-9b0e-0e6c5c0a9d11".parse().unwrap(),
                assigned_at: Timestamp(900),
                started_at: started.map(Timestamp),
            };
            let outcome = |(from, to)| Outcome {
                started_at: Timestamp(from),
                ..Outcome::bare(Exit::Code(0), Timestamp(to))
            };
            let lost = Failure::new(orchestra_types::FailureCode::WorkerLost, "x".to_owned());
            let end = OutcomeRow {
                id,
                at: Timestamp(9_000),
                result: worker.map(|times| Box::new(outcome(times))).ok_or(lost),
                reading: None,
            };
            ended_at(&row, &end).0
        };
        assert_eq!(ended(Some(1_000), Some((1_000, 3_000))), 3_000);
        // By whatever clock the worker has.
        assert_eq!(ended(Some(1_000), Some((500_000, 502_000))), 3_000);
        // Not after the head has heard of it, and not by a clock that was set.
        assert_eq!(ended(Some(1_000), Some((1_000, 99_000))), 9_000);
        assert_eq!(ended(Some(1_000), Some((3_000, 2_000))), 9_000);
        assert_eq!(ended(None, Some((1_000, 3_000))), 9_000);
        assert_eq!(ended(Some(1_000), None), 9_000);
    }
}
