//! What an operator is told of commits: one line each. Which lines, `of` decides; `say` writes them.
//!
//! No line has a task's text, a result's or a provider's.

use std::collections::BTreeMap;

use orchestra_core::{AccountRow, Change, EndStatus, OutcomeRow, TaskRow};
use orchestra_types::{AccountName, AttemptId, FailureCode, TaskId, Timestamp, WorkerId};

use super::{is_given_up, task_of};

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// An attempt was given up: nobody waits for its result.
    GivenUp {
        attempt: AttemptId,
        worker: Option<WorkerId>,
        code: FailureCode,
    },
    /// A task ended, and not as it was meant to.
    Ended {
        task: TaskId,
        status: EndStatus,
        code: FailureCode,
        attempts: u32,
    },
    /// Nothing is started on an account for a while.
    Parked {
        account: AccountName,
        until: Timestamp,
    },
    /// The lease of a worker with attempts is over.
    Lost { worker: WorkerId, attempts: u32 },
}

/// The line of an attempt's end. A result is none: what follows from it is.
pub(super) fn of_outcome(row: &OutcomeRow, task: Option<&TaskRow>) -> Option<Line> {
    let failure = row.result.as_ref().err()?;
    let task = task.filter(|task| is_given_up(task, row.id))?;
    Some(Line::GivenUp {
        attempt: row.id,
        worker: task.last.as_ref().map(|last| last.worker.clone()),
        code: failure.code,
    })
}

/// The line of a task's end. What a person has ended needs none.
pub(super) fn of_end(row: &TaskRow, status: EndStatus) -> Option<Line> {
    match status {
        EndStatus::Succeeded | EndStatus::Cancelled => None,
        EndStatus::Failed | EndStatus::NeedsReview => Some(Line::Ended {
            task: row.id,
            status,
            code: row
                .reason
                .as_ref()
                .map_or(FailureCode::Internal, |r| r.code),
            attempts: row.attempts,
        }),
    }
}

/// Until when accounts are parked, as it was said last.
#[derive(Debug, Default)]
pub(super) struct Parked(BTreeMap<AccountName, Timestamp>);

impl Parked {
    pub fn new<'a>(rows: impl Iterator<Item = &'a AccountRow>) -> Self {
        let parked = rows.filter_map(|row| Some((row.name.clone(), row.parked_until?)));
        Self(parked.collect())
    }

    /// The line of an account that is parked, or for longer than was said: its row is written for other
    /// reasons too.
    pub fn line(&mut self, row: &AccountRow) -> Option<Line> {
        let Some(until) = row.parked_until else {
            self.0.remove(&row.name);
            return None;
        };
        let known = self.0.insert(row.name.clone(), until);
        let line = Line::Parked {
            account: row.name.clone(),
            until,
        };
        known.is_none_or(|known| until > known).then_some(line)
    }
}

/// The workers that a step lost attempts of, with how many; whether a worker is lost itself, or came back
/// without them, the caller knows.
pub(super) fn lost(step: &[Change]) -> BTreeMap<WorkerId, u32> {
    let mut workers = BTreeMap::new();
    for (place, change) in step.iter().enumerate() {
        let Change::Outcome(row) = change else {
            continue;
        };
        let mut behind = step[place..].iter();
        let task = behind.find_map(|change| task_of(change, row.id.task));
        if let Some(Line::GivenUp {
            worker: Some(worker),
            code: FailureCode::WorkerLost,
            ..
        }) = of_outcome(row, task)
        {
            *workers.entry(worker).or_default() += 1;
        }
    }
    workers
}

/// Writes a line. `wall` turns the core's time into the clock's.
pub(super) fn say(line: &Line, wall: impl Fn(Timestamp) -> Timestamp) {
    match line {
        Line::GivenUp {
            attempt,
            worker,
            code,
        } => {
            let worker = worker.as_ref().map_or("", WorkerId::as_str);
            tracing::warn!(%attempt, worker, code = code.as_str(), "attempt given up");
        }
        Line::Ended {
            task,
            status,
            code,
            attempts,
        } => {
            let (status, code) = (status.status().as_str(), code.as_str());
            tracing::info!(%task, status, code, attempts, "task ended without success");
        }
        Line::Parked { account, until } => {
            let until = in_words(wall(*until));
            tracing::warn!(%account, until, "account parked: nothing is started on it until then");
        }
        Line::Lost { worker, attempts } => {
            tracing::warn!(%worker, attempts, "worker lost: its lease is over");
        }
    }
}

/// As RFC 3339 has it, in UTC.
fn in_words(at: Timestamp) -> String {
    let at = i64::try_from(at.0).ok();
    let at = at.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    at.map_or_else(String::new, |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_said_when_it_is_parked_and_when_it_is_for_longer() {
        let mut row = AccountRow::new("anthropic-1".parse().unwrap());
        let mut parked = Parked::new([&row].into_iter());
        let mut says = |until: Option<u64>| {
            row.parked_until = until.map(Timestamp);
            parked.line(&row).is_some()
        };
        let until = [
            None,
            Some(5),
            Some(5),
            Some(4),
            Some(9),
            None,
            None,
            Some(9),
        ];
        let said = until.map(&mut says);
        assert_eq!(said, [false, true, false, false, true, false, false, true]);
    }

    #[test]
    fn a_moment_is_written_for_people() {
        assert_eq!(
            in_words(Timestamp(1_700_000_000_000)),
            "2023-11-14T22:13:20Z"
        );
    }
}
