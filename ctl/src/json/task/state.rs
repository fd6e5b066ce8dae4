//! How a task stands, and whether it goes on by itself.

use orchestra_types::{FailureCode, TaskId, TaskStatus};

use super::{
    Task,
    reason::{Reason, first_task},
};

impl Task {
    /// Whether a cancel is on its way to its agent.
    pub fn is_being_cancelled(&self) -> bool {
        self.cancel_requested && !self.status.is_ended()
    }

    /// Whether it succeeded although a person had cancelled it: its agent had ended before it heard of that.
    pub fn was_cancelled_too_late(&self) -> bool {
        self.cancel_requested && self.status == TaskStatus::Succeeded
    }

    /// Whether it goes no further without a person: it has ended, the task before it has failed, or its
    /// budget is used up.
    pub fn rests(&self) -> bool {
        self.status.is_ended() || self.is_stuck() || self.asks_for_more()
    }

    /// Whether it, or one that it comes after, stays in the queue until somebody raises its budget. A
    /// project's of the day is another one tomorrow.
    pub fn asks_for_more(&self) -> bool {
        let kept = |reason: &Reason| {
            reason.code == FailureCode::BudgetExceeded && reason.resets_at.is_none()
        };
        let waits = matches!(self.status, TaskStatus::Queued | TaskStatus::Blocked);
        waits && self.reason.as_ref().is_some_and(kept)
    }

    /// Whether it is blocked for good, unless somebody sees to the task before it.
    pub fn is_stuck(&self) -> bool {
        let reason = self.reason.as_ref().map(|reason| reason.code);
        self.status == TaskStatus::Blocked && reason == Some(FailureCode::DependencyFailed)
    }

    /// The task that failed, for one that is stuck: however many stand between them, only that one can be
    /// tried again. The reason begins with it.
    pub fn failed_before(&self) -> Option<TaskId> {
        let reason = self.reason.as_ref().filter(|_| self.is_stuck())?;
        first_task(&reason.message)
    }
}
