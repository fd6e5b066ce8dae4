//! One change of a task's row, and what can be said of it by itself.

use orchestra_core::EndStatus;
use orchestra_types::TaskId;

use crate::{
    cast::{Result, Said, account},
    cover::Point,
    event::{Ask, Event},
    shadow::Shade,
};

/// One change of a task's row.
pub(super) struct Move<'a> {
    pub event: &'a Event,
    pub id: TaskId,
    pub old: Shade,
    pub new: Shade,
}

/// The result that a report brings for this task.
pub(super) fn result(change: &Move<'_>) -> Option<Result> {
    match change.event {
        Event::Reported {
            attempt,
            said: Said::Finished(result),
            ..
        } if attempt.task == change.id && attempt.number == change.old.attempts => Some(*result),
        _ => None,
    }
}

/// Whether this is a failure that counts.
pub(super) fn failed(change: &Move<'_>) -> bool {
    let over = change.old.holder().is_some() && change.new.holder().is_none();
    let Some(result) = result(change).filter(|_| over) else {
        return false;
    };
    match result {
        Result::Good | Result::Cancelled => false,
        Result::OverBudget if !change.old.cancel_requested => false,
        Result::Limited if met_limit(change) => false,
        Result::OverBudget
        | Result::TimedOut
        | Result::Silent
        | Result::Limited
        | Result::Bad
        | Result::Hopeless
        | Result::Unbegun
        | Result::Down
        | Result::GivenUp => !change.old.cancel_requested,
    }
}

/// Whether its attempt ended because its supervisor, or its worker, was gone.
pub(super) fn is_down(change: &Move<'_>) -> bool {
    result(change).is_some_and(takes_down)
}

fn takes_down(result: Result) -> bool {
    match result {
        Result::Down => true,
        Result::Good
        | Result::Bad
        | Result::Hopeless
        | Result::Unbegun
        | Result::Limited
        | Result::Cancelled
        | Result::OverBudget
        | Result::TimedOut
        | Result::Silent
        | Result::GivenUp => false,
    }
}

/// Whether its attempt ended by a limit of its account, and not by its own doing.
pub(super) fn met_limit(change: &Move<'_>) -> bool {
    result(change) == Some(Result::Limited) && has_account(&change.old)
}

fn has_account(old: &Shade) -> bool {
    old.holder()
        .is_some_and(|(worker, runner)| account(worker, runner).is_some())
}

/// How a task must end by a result; none when it is tried again.
pub(super) fn expected(
    old: &Shade,
    new: &Shade,
    result: Result,
    losses_max: u32,
) -> Option<EndStatus> {
    let retryable = match result {
        Result::Good => return Some(EndStatus::Succeeded),
        Result::Cancelled => return Some(EndStatus::Cancelled),
        Result::Bad
        | Result::Unbegun
        | Result::Down
        | Result::GivenUp
        | Result::Limited
        | Result::TimedOut
        | Result::Silent => true,
        Result::Hopeless | Result::OverBudget => false,
    };
    if old.cancel_requested {
        return Some(EndStatus::Cancelled);
    }
    if result == Result::Limited && has_account(old) {
        return None;
    }
    let quarantined = takes_down(result) && new.losses >= losses_max;
    match (retryable, new.failures <= old.retries) {
        (true, true) if quarantined => Some(EndStatus::NeedsReview),
        (true, true) => None,
        (true, false) if old.retries > 0 => Some(EndStatus::NeedsReview),
        (true, false) | (false, _) => Some(EndStatus::Failed),
    }
}

pub(super) fn end_point(status: EndStatus, held: bool) -> Point {
    match (status, held) {
        (EndStatus::Succeeded, true) => Point::HeldSucceeded,
        (EndStatus::Failed, true) => Point::HeldFailed,
        (EndStatus::Cancelled, true) => Point::HeldStopped,
        (EndStatus::NeedsReview, true) => Point::HeldExhausted,
        (EndStatus::Succeeded, false) => Point::ClosingSucceeded,
        (EndStatus::Failed, false) => Point::ClosingFailed,
        (EndStatus::Cancelled, false) => Point::ClosingCancelled,
        (EndStatus::NeedsReview, false) => Point::ClosingReview,
    }
}

pub(super) fn cancels(change: &Move<'_>) -> bool {
    asks(
        change,
        |ask| matches!(ask, Ask::Cancel(id) if *id == change.id),
    )
}

pub(super) fn retried(change: &Move<'_>) -> bool {
    asks(
        change,
        |ask| matches!(ask, Ask::Retry(id) if *id == change.id),
    )
}

pub(super) fn released(change: &Move<'_>) -> bool {
    asks(
        change,
        |ask| matches!(ask, Ask::Release(id) if *id == change.id),
    )
}

pub(super) fn raises(change: &Move<'_>) -> bool {
    asks(change, |ask| matches!(ask, Ask::Limit(..)))
}

pub(super) fn applies(change: &Move<'_>) -> bool {
    asks(
        change,
        |ask| matches!(ask, Ask::Applied(id) if *id == change.id),
    )
}

pub(super) fn asks(change: &Move<'_>, is: impl FnOnce(&Ask) -> bool) -> bool {
    match change.event {
        Event::Asked { ask, .. } => is(ask),
        _ => false,
    }
}
