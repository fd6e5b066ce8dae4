//! Bytes to rows. What does not read is damage, with the row's name; never a panic.

use std::time::Duration;

use orchestra_core::{
    AccountRow, AttemptRow, Availability, Avoids, Change, Counted, EndStatus, Ending, FactsPool,
    KeyRow, Last, LedgerRow, OutcomeRow, ProjectRow, Reading, ScheduleRow, Slow, State, TaskFacts,
    TaskRow, Terms, Timing, WorkerRow,
};
use orchestra_proto::{
    Refused, convert,
    store::v1::{self as stored, state as wire},
    v1,
};
use orchestra_types::{
    ApplyResult, Failure, Outcome, Priority, RunnerName, ScheduleId, TaskId, TaskSpec, Timestamp,
    Usage, WorkerId, runner::WorkerInfo,
};

use prost::Message;

use super::{codec::end_status_of, key, large};

type Read<T> = Result<T, Refused>;

/// The change that writes a row.
pub(super) fn change(key: &[u8], message: &[u8]) -> super::Result<Change> {
    let table = key.first().copied().unwrap_or_default();
    let no_key = || Refused::new("key", "is none of this table");
    match table {
        key::TASKS => typed(key, message, |row| {
            let row = task(row, &mut FactsPool::default())?;
            Ok(Change::Task(Box::new(row)))
        }),
        key::SPECS => typed(key, message, |row| {
            let id = key::parse_task(key).ok_or_else(no_key)?;
            let spec = Box::new(spec(row)?);
            Ok(Change::Spec { id, spec })
        }),
        key::ATTEMPTS => typed(key, message, |row| {
            Ok(Change::Attempt(Box::new(attempt(row)?)))
        }),
        key::OUTCOMES => typed(key, message, |row| {
            Ok(Change::Outcome(Box::new(outcome(row)?)))
        }),
        key::WORKERS => typed(key, message, |row| {
            Ok(Change::Worker(Box::new(worker(row)?)))
        }),
        key::ACKED => typed(key, message, |row: stored::AckedRow| {
            let name = key::parse_name(key).ok_or_else(no_key)?;
            Ok(Change::Acked {
                worker: convert::name("worker", name)?,
                up_to: row.up_to,
            })
        }),
        key::ACCOUNTS => typed(key, message, |row| {
            Ok(Change::Account(Box::new(account(row)?)))
        }),
        key::SCHEDULES => typed(key, message, |row| {
            Ok(Change::Schedule(Box::new(schedule(row)?)))
        }),
        key::IDS => typed(key, message, |row| {
            Ok(Change::ScheduleIds {
                last: schedule_ids(row)?,
            })
        }),
        key::LEDGERS => typed(key, message, |row| {
            Ok(Change::Ledger(Box::new(ledger(row)?)))
        }),
        key::PROJECTS => typed(key, message, |row| {
            Ok(Change::Project(Box::new(project(row)?)))
        }),
        key::KEYS => typed(key, message, |row| Ok(Change::Key(self::key(row)?))),
        _ => Err(large::damaged(key, "no table has this letter".to_owned())),
    }
}

fn typed<M: Message + Default>(
    key: &[u8],
    message: &[u8],
    read: impl Fn(M) -> Read<Change>,
) -> super::Result<Change> {
    let message = M::decode(message);
    let message = message.map_err(|error| large::damaged(key, error.to_string()))?;
    read(message).map_err(|refused| large::damaged(key, refused.to_string()))
}

pub(super) fn spec(row: stored::SpecRow) -> Read<TaskSpec> {
    present("spec", row.spec)?.try_into()
}

pub(super) fn task(row: stored::TaskRow, pool: &mut FactsPool) -> Read<TaskRow> {
    let last = last(&row)?.map(Box::new);
    let mut stored_facts = present("facts", row.facts)?;
    let after = std::mem::take(&mut stored_facts.after);
    Ok(TaskRow {
        id: convert::task_id("id", row.id)?,
        created_at: Timestamp(row.created_at_ms),
        facts: pool.share(facts(stored_facts)?),
        after: after.into_iter().map(TaskId).collect(),
        state: state(present("state", row.state)?)?,
        attempts: row.attempts,
        failures: row.failures,
        losses: row.losses,
        last,
        started_at: row.started_at_ms.map(Timestamp),
        cancel_requested: row.cancel_requested,
        reason: failure(row.reason)?.map(Box::new),
        apply: row.apply.map(apply).transpose()?.map(Box::new),
        limited: row.limited,
        given_up: row.given_up,
    })
}

pub(super) fn attempt(row: stored::AttemptRow) -> Read<AttemptRow> {
    Ok(AttemptRow {
        id: convert::attempt_id("id", row.id)?,
        worker: convert::name("worker", &row.worker)?,
        runner: convert::name("runner", &row.runner)?,
        assigned_at: Timestamp(row.assigned_at_ms),
        started_at: row.started_at_ms.map(Timestamp),
    })
}

pub(super) fn outcome(row: stored::OutcomeRow) -> Read<OutcomeRow> {
    let result = match present("result", row.result)? {
        stored::outcome_row::Result::Outcome(outcome) => Ok(Box::new(Outcome::try_from(outcome)?)),
        stored::outcome_row::Result::GivenUp(failure) => Err(Failure::try_from(failure)?),
    };
    Ok(OutcomeRow {
        id: convert::attempt_id("id", row.id)?,
        at: Timestamp(row.at_ms),
        result,
        reading: row.reading.map(reading),
    })
}

fn reading(row: stored::Reading) -> Reading {
    Reading {
        usage: row.usage.map(Usage::from).unwrap_or_default(),
        model: row.model,
    }
}

pub(super) fn worker(row: stored::WorkerRow) -> Read<WorkerRow> {
    Ok(WorkerRow {
        info: WorkerInfo::try_from(present("info", row.info)?)?,
        joined_at: Timestamp(row.joined_at_ms),
        attached_at: Timestamp(row.attached_at_ms),
        epoch: row.epoch,
        availability: availability(&row.availability)?,
    })
}

pub(super) fn account(row: stored::AccountRow) -> Read<AccountRow> {
    Ok(AccountRow {
        name: convert::name("name", &row.name)?,
        max: row.max,
        parked_until: row.parked_until_ms.map(Timestamp),
        why: row.why,
        is_empty: row.empty,
        slow: row.slow.map(|slow| Slow {
            window: slow.window,
            full: slow.full,
            next: Timestamp(slow.next_ms),
        }),
        strikes: row.strikes,
        limited_at: (row.limited_at_ms > 0).then_some(Timestamp(row.limited_at_ms)),
    })
}

fn availability(name: &str) -> Read<Availability> {
    let mut all = Availability::ALL.into_iter();
    match name {
        "" => Ok(Availability::Open),
        name => all
            .find(|known| known.as_str() == name)
            .ok_or_else(|| Refused::new("availability", "is unknown")),
    }
}

pub(super) fn schedule_ids(row: stored::IdsRow) -> Read<ScheduleId> {
    Ok(ScheduleId(row.last))
}

pub(super) fn schedule(row: stored::ScheduleRow) -> Read<ScheduleRow> {
    Ok(ScheduleRow {
        id: ScheduleId(row.id),
        key: row.key,
        created_at: Timestamp(row.created_at_ms),
        spec: Box::new(present("spec", row.spec)?.try_into()?),
        every: convert::recurrence(row.every)?,
        next: Timestamp(row.next_ms),
        paused: row.paused,
        last: (row.last_task > 0).then_some(TaskId(row.last_task)),
        runs: row.runs,
    })
}

pub(super) fn ledger(row: stored::LedgerRow) -> Read<LedgerRow> {
    Ok(LedgerRow {
        task: convert::task_id("task", row.task)?,
        budget: convert::known_budget(row.budget),
        spent: row.spent.map(Into::into).unwrap_or_default(),
    })
}

pub(super) fn project(row: stored::ProjectRow) -> Read<ProjectRow> {
    Ok(ProjectRow {
        id: convert::name("project", &row.project)?,
        name: row.name,
        budget: row.budget.map(Into::into),
        day: row.day,
        spent: row.spent.map(Into::into).unwrap_or_default(),
        added: convert::known_budget(row.added),
    })
}

pub(super) fn key(row: stored::KeyRow) -> Read<KeyRow> {
    Ok(KeyRow {
        key: row.key,
        first: convert::task_id("first", row.first)?,
        count: row.count,
        at: Timestamp(row.at_ms),
    })
}

fn facts(row: stored::TaskFacts) -> Read<TaskFacts> {
    let project = convert::optional_name("project", &row.project)?;
    Ok(TaskFacts {
        priority: priority(row.priority)?,
        runner: convert::optional_name("runner", &row.runner)?,
        machine: convert::optional_name("machine", &row.machine)?,
        requires: row.requires,
        labels: row.labels,
        project: project.map(|id| (id, row.project_name)),
        submitter: row.submitter,
        retries: row.retries,
        terms: terms(&row.fallback, row.budget, row.parent)?,
        on_dependency_failure: convert::on_dependency_failure(row.on_dependency_failure)?,
        timing: Timing {
            start_at: row.start_at_ms.map(Timestamp),
            timeout: Duration::from_millis(row.timeout_ms),
            queue_timeout: convert::optional_duration(row.queue_timeout_ms),
            stall_timeout: convert::optional_duration(row.stall_timeout_ms),
        },
    })
}

fn terms(fallback: &[String], budget: Option<v1::Budget>, parent: u64) -> Read<Option<Box<Terms>>> {
    let fallback = fallback.iter().map(|r| convert::name("fallback", r));
    let terms = Terms {
        fallback: fallback.collect::<Read<_>>()?,
        budget: convert::known_budget(budget),
        parent: (parent > 0).then_some(TaskId(parent)),
    };
    Ok(terms.some())
}

fn priority(wire: i32) -> Read<Priority> {
    match v1::Priority::try_from(wire) {
        Ok(v1::Priority::Low) => Ok(Priority::Low),
        Ok(v1::Priority::Normal) => Ok(Priority::Normal),
        Ok(v1::Priority::High) => Ok(Priority::High),
        Ok(v1::Priority::Unspecified) | Err(_) => Err(Refused::new("priority", "is unknown")),
    }
}

fn state(row: stored::State) -> Read<State> {
    Ok(match present("state", row.state)? {
        wire::State::Blocked(wire::Blocked {}) => State::Blocked,
        wire::State::Queued(queued) => State::Queued {
            since: Timestamp(queued.since_ms),
            not_before: Timestamp(queued.not_before_ms),
        },
        wire::State::Assigned(held) => {
            let (worker, runner) = holder(&held)?;
            State::Assigned {
                attempt: held.attempt,
                worker,
                runner,
                at: Timestamp(held.at_ms),
            }
        }
        wire::State::Running(held) => {
            let (worker, runner) = holder(&held)?;
            State::Running {
                attempt: held.attempt,
                worker,
                runner,
                at: Timestamp(held.at_ms),
            }
        }
        wire::State::Closing(closing) => State::Closing {
            attempt: closing.attempt,
            ending: ending(closing)?,
        },
        wire::State::Ended(ended) => State::Ended {
            status: end_status(ended.status)?,
            at: Timestamp(ended.at_ms),
        },
    })
}

fn holder(held: &wire::Held) -> Read<(WorkerId, RunnerName)> {
    let worker = convert::name("worker", &held.worker)?;
    Ok((worker, convert::name("runner", &held.runner)?))
}

fn ending(closing: wire::Closing) -> Read<Ending> {
    if let Some(end) = closing.end {
        return Ok(Ending::End {
            status: end_status(end.status)?,
            reason: failure(end.reason)?.map(Box::new),
        });
    }
    let reason = Box::new(present("retry", closing.retry)?.try_into()?);
    Ok(match closing.elsewhere {
        true => Ending::Elsewhere { reason },
        false => Ending::Retry { reason },
    })
}

fn end_status(wire: i32) -> Read<EndStatus> {
    end_status_of(wire).ok_or_else(|| Refused::new("status", "is not the status of an end"))
}

fn last(row: &stored::TaskRow) -> Read<Option<Last>> {
    let worker: Option<WorkerId> = convert::optional_name("last_worker", &row.last_worker)?;
    let Some(worker) = worker else {
        return Ok(None);
    };
    let avoids = convert::optional_name("avoids_worker", &row.avoids_worker)?;
    let until = Timestamp(row.avoids_until_ms);
    Ok(Some(Last {
        worker,
        runner: convert::name("last_runner", &row.last_runner)?,
        avoids: avoids.map(|worker| Avoids { worker, until }),
        moved: row.moved,
        waits_since: row.waits_since_ms.map(Timestamp),
        used: row.used.map(Into::into).unwrap_or_default(),
        counted: row.counted.iter().map(counted).collect(),
    }))
}

fn counted(row: &stored::Counted) -> Counted {
    Counted {
        number: row.number,
        used: row.used.map(Into::into).unwrap_or_default(),
        unstarted: row.unstarted_ms.map(Timestamp),
        told_to_end: row.told_to_end,
        up_to: row.up_to_ms.map(Timestamp),
    }
}

fn apply(row: stored::Apply) -> Read<ApplyResult> {
    Ok(match present("apply", row.result)? {
        stored::apply::Result::NotRequested(_) => ApplyResult::NotRequested,
        stored::apply::Result::AppliedFiles(files) => ApplyResult::Applied { files },
        stored::apply::Result::Conflict(message) => ApplyResult::Conflict { message },
    })
}

fn failure(row: Option<v1::Failure>) -> Read<Option<Failure>> {
    row.map(Failure::try_from).transpose()
}

fn present<T>(field: &'static str, value: Option<T>) -> Read<T> {
    value.ok_or_else(|| Refused::new(field, "is missing"))
}
