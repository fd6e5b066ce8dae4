//! Rows to bytes.

use orchestra_core::{
    AccountRow, AttemptRow, Change, Counted, Ending, KeyRow, LedgerRow, OutcomeRow, ProjectRow,
    Reading, ScheduleRow, State, TaskRow, WorkerRow,
};
use orchestra_proto::{
    convert,
    store::v1::{self as stored, state as wire},
    v1,
};
use orchestra_types::{ApplyResult, RunnerName, TaskSpec, Timestamp, WorkerId};

use super::{Result, codec::end_status, journal::Frame, key, large};
use crate::blobs::Blobs;

/// Adds the rows that a change writes and removes.
pub(super) fn change(change: &Change, blobs: &Blobs, frame: &mut Frame) -> Result<()> {
    match change {
        Change::Spec { id, spec } => large::put(frame, &key::spec(*id), &spec_row(spec), blobs)?,
        Change::Task(row) => large::put(frame, &key::task(row.id), &task(row), blobs)?,
        Change::Attempt(row) => large::put(frame, &key::attempt(row.id), &attempt(row), blobs)?,
        Change::Outcome(row) => large::put(frame, &key::outcome(row.id), &outcome(row), blobs)?,
        Change::ForgetOutcome { id } => frame.remove(&key::outcome(*id)),
        Change::Worker(row) => {
            large::put(frame, &key::worker(&row.info.id), &worker(row), blobs)?;
        }
        Change::Acked { worker, up_to } => {
            let row = stored::AckedRow { up_to: *up_to };
            large::put(frame, &key::acked(worker), &row, blobs)?;
        }
        Change::Account(row) => large::put(frame, &key::account(&row.name), &account(row), blobs)?,
        Change::Ledger(row) => large::put(frame, &key::ledger(row.task), &ledger(row), blobs)?,
        Change::Project(row) => large::put(frame, &key::project(&row.id), &project(row), blobs)?,
        Change::Key(row) => large::put(frame, &key::submission(&row.key), &key_row(row), blobs)?,
        Change::ForgetTask { id, attempts } => {
            key::of_forgotten(*id, *attempts).for_each(|key| frame.remove(&key));
        }
        Change::Schedule(row) => {
            large::put(frame, &key::schedule(row.id), &schedule(row), blobs)?;
        }
        Change::ForgetSchedule { id } => frame.remove(&key::schedule(*id)),
        Change::ScheduleIds { last } => {
            large::put(
                frame,
                key::SCHEDULE_IDS,
                &stored::IdsRow { last: last.0 },
                blobs,
            )?;
        }
        Change::ForgetKey { key } => frame.remove(&key::submission(key)),
        Change::ForgetWorker { id } => {
            frame.remove(&key::worker(id));
            frame.remove(&key::acked(id));
        }
    }
    Ok(())
}

fn spec_row(spec: &TaskSpec) -> stored::SpecRow {
    stored::SpecRow {
        spec: Some(spec.clone().into()),
    }
}

fn task(row: &TaskRow) -> stored::TaskRow {
    let last = row.last.as_ref();
    let avoids = last.and_then(|last| last.avoids.as_ref());
    stored::TaskRow {
        id: row.id.0,
        created_at_ms: row.created_at.0,
        facts: Some(facts(row)),
        state: Some(state(&row.state)),
        attempts: row.attempts,
        failures: row.failures,
        losses: row.losses,
        last_worker: last.map(|last| last.worker.to_string()).unwrap_or_default(),
        last_runner: last.map(|last| last.runner.to_string()).unwrap_or_default(),
        started_at_ms: row.started_at.map(|at| at.0),
        cancel_requested: row.cancel_requested,
        reason: row.reason.as_deref().cloned().map(Into::into),
        apply: row.apply.as_deref().map(apply),
        limited: row.limited,
        given_up: row.given_up,
        avoids_worker: avoids
            .map(|avoids| avoids.worker.to_string())
            .unwrap_or_default(),
        avoids_until_ms: avoids.map_or(0, |avoids| avoids.until.0),
        used: Some(row.used())
            .filter(|used| !used.is_nothing())
            .map(Into::into),
        moved: row.moved(),
        waits_since_ms: last.and_then(|last| last.waits_since).map(|at| at.0),
        counted: last.map_or_else(Vec::new, |last| last.counted.iter().map(counted).collect()),
    }
}

fn counted(counted: &Counted) -> stored::Counted {
    stored::Counted {
        number: counted.number,
        used: Some(counted.used.into()),
        unstarted_ms: counted.unstarted.map(|at| at.0),
        told_to_end: counted.told_to_end,
        up_to_ms: counted.up_to.map(|at| at.0),
    }
}

fn facts(row: &TaskRow) -> stored::TaskFacts {
    let facts = &row.facts;
    let project = facts.project.as_ref();
    let terms = facts.terms.as_deref();
    let text = |name: Option<String>| name.unwrap_or_default();
    stored::TaskFacts {
        priority: v1::Priority::from(facts.priority).into(),
        runner: text(facts.runner.as_ref().map(ToString::to_string)),
        machine: text(facts.machine.as_ref().map(ToString::to_string)),
        requires: facts.requires.clone(),
        labels: facts.labels.clone(),
        project: text(project.map(|(id, _)| id.to_string())),
        project_name: text(project.map(|(_, name)| name.clone())),
        after: row.after.iter().map(|id| id.0).collect(),
        retries: facts.retries,
        fallback: terms.map_or_else(Vec::new, |t| {
            t.fallback.iter().map(ToString::to_string).collect()
        }),
        budget: terms.and_then(|t| convert::budget_to_wire(t.budget)),
        parent: terms.and_then(|t| t.parent).map_or(0, |id| id.0),
        on_dependency_failure: v1::OnDependencyFailure::from(facts.on_dependency_failure).into(),
        start_at_ms: facts.timing.start_at.map(|at| at.0),
        timeout_ms: convert::millis(facts.timing.timeout),
        queue_timeout_ms: facts.timing.queue_timeout.map_or(0, convert::millis),
        stall_timeout_ms: facts.timing.stall_timeout.map_or(0, convert::millis),
        submitter: facts.submitter.clone(),
    }
}

fn state(state: &State) -> stored::State {
    let state = match state {
        State::Blocked => wire::State::Blocked(wire::Blocked {}),
        State::Queued { since, not_before } => wire::State::Queued(wire::Queued {
            since_ms: since.0,
            not_before_ms: not_before.0,
        }),
        State::Assigned {
            attempt,
            worker,
            runner,
            at,
        } => wire::State::Assigned(held(*attempt, worker, runner, *at)),
        State::Running {
            attempt,
            worker,
            runner,
            at,
        } => wire::State::Running(held(*attempt, worker, runner, *at)),
        State::Closing { attempt, ending } => wire::State::Closing(closing(*attempt, ending)),
        State::Ended { status, at } => wire::State::Ended(wire::Ended {
            status: end_status(*status),
            at_ms: at.0,
        }),
    };
    stored::State { state: Some(state) }
}

fn held(attempt: u32, worker: &WorkerId, runner: &RunnerName, at: Timestamp) -> wire::Held {
    wire::Held {
        attempt,
        worker: worker.to_string(),
        runner: runner.to_string(),
        at_ms: at.0,
    }
}

fn closing(attempt: u32, ending: &Ending) -> wire::Closing {
    let (end, retry, elsewhere) = match ending {
        Ending::End { status, reason } => {
            let end = wire::End {
                status: end_status(*status),
                reason: reason.as_deref().cloned().map(Into::into),
            };
            (Some(end), None, false)
        }
        Ending::Retry { reason } => (None, Some(reason.as_ref().clone().into()), false),
        Ending::Elsewhere { reason } => (None, Some(reason.as_ref().clone().into()), true),
    };
    wire::Closing {
        attempt,
        end,
        retry,
        elsewhere,
    }
}

fn apply(result: &ApplyResult) -> stored::Apply {
    let result = match result {
        ApplyResult::NotRequested => stored::apply::Result::NotRequested(true),
        ApplyResult::Applied { files } => stored::apply::Result::AppliedFiles(*files),
        ApplyResult::Conflict { message } => stored::apply::Result::Conflict(message.clone()),
    };
    stored::Apply {
        result: Some(result),
    }
}

fn attempt(row: &AttemptRow) -> stored::AttemptRow {
    stored::AttemptRow {
        id: Some(row.id.into()),
        worker: row.worker.to_string(),
        runner: row.runner.to_string(),
        assigned_at_ms: row.assigned_at.0,
        started_at_ms: row.started_at.map(|at| at.0),
    }
}

fn outcome(row: &OutcomeRow) -> stored::OutcomeRow {
    let result = match &row.result {
        Ok(outcome) => stored::outcome_row::Result::Outcome(outcome.as_ref().clone().into()),
        Err(failure) => stored::outcome_row::Result::GivenUp(failure.clone().into()),
    };
    stored::OutcomeRow {
        id: Some(row.id.into()),
        at_ms: row.at.0,
        result: Some(result),
        reading: row.reading.as_ref().map(reading),
    }
}

fn reading(known: &Reading) -> stored::Reading {
    stored::Reading {
        usage: Some(known.usage.into()),
        model: known.model.clone(),
    }
}

fn worker(row: &WorkerRow) -> stored::WorkerRow {
    stored::WorkerRow {
        info: Some(row.info.clone().into()),
        joined_at_ms: row.joined_at.0,
        attached_at_ms: row.attached_at.0,
        epoch: row.epoch,
        availability: row.availability.as_str().to_owned(),
    }
}

fn account(row: &AccountRow) -> stored::AccountRow {
    stored::AccountRow {
        name: row.name.to_string(),
        max: row.max,
        parked_until_ms: row.parked_until.map(|at| at.0),
        why: row.why.clone(),
        empty: row.is_empty,
        slow: row.slow.map(|slow| stored::account_row::Slow {
            window: slow.window,
            full: slow.full,
            next_ms: slow.next.0,
        }),
        strikes: row.strikes,
        limited_at_ms: row.limited_at.map_or(0, |at| at.0),
    }
}

fn schedule(row: &ScheduleRow) -> stored::ScheduleRow {
    stored::ScheduleRow {
        id: row.id.0,
        key: row.key.clone(),
        created_at_ms: row.created_at.0,
        spec: Some(TaskSpec::clone(&row.spec).into()),
        every: Some(convert::recurrence_to_wire(row.every)),
        next_ms: row.next.0,
        paused: row.paused,
        last_task: row.last.map_or(0, |id| id.0),
        runs: row.runs,
    }
}

fn ledger(row: &LedgerRow) -> stored::LedgerRow {
    stored::LedgerRow {
        task: row.task.0,
        budget: convert::budget_to_wire(row.budget),
        spent: Some(row.spent.into()),
    }
}

fn project(row: &ProjectRow) -> stored::ProjectRow {
    stored::ProjectRow {
        project: row.id.to_string(),
        name: row.name.clone(),
        // Set to unlimited is not the same as not set.
        budget: row.budget.map(Into::into),
        day: row.day,
        spent: Some(row.spent.into()),
        added: convert::budget_to_wire(row.added),
    }
}

fn key_row(row: &KeyRow) -> stored::KeyRow {
    stored::KeyRow {
        key: row.key.clone(),
        first: row.first.0,
        count: row.count,
        at_ms: row.at.0,
    }
}
