//! Why a task, or one of its attempts, is as it is, and what a person can do.

use orchestra_types::{Failure, FailureCode, Fault, TaskId, TaskStatus};
use serde::Serialize;

use crate::json::time::Time;

/// Why something is as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// A word of the taxonomy, as `rate_limited`.
    pub code: FailureCode,
    /// What exactly.
    pub message: String,
    /// Whether another attempt can help without a person doing something first.
    pub retryable: bool,
    /// Whose doing it is: `task`, `provider`, `worker`, `person`, `orchestra`.
    pub fault: Fault,
    /// What a person can do.
    pub advice: String,
    /// When the provider says that it works again.
    pub resets_at: Option<Time>,
}

impl Reason {
    /// The failure of a task, or of one of its attempts.
    pub(crate) fn of(task: TaskId, failure: Failure) -> Self {
        let advice = match failure.code {
            // Nothing in the checkout is in the way then.
            FailureCode::ApplyConflict if failure.message.contains("`ctl apply") => {
                format!("`ctl apply {task}` puts the change there; `ctl diff {task}` shows it")
            }
            FailureCode::DependencyFailed => match first_task(&failure.message) {
                Some(before) => format!(
                    "`ctl retry {before}` first, since {task} comes after it; `ctl show {before}` says why it ended so"
                ),
                None => failure.code.advice_for(task),
            },
            code => code.advice_for(task),
        };
        Self {
            code: failure.code,
            message: failure.message,
            retryable: failure.code.is_retryable(),
            fault: failure.code.fault(),
            advice,
            resets_at: failure.resets_at.map(Time),
        }
    }

    /// With the other way that a task has which is blocked by one that it directly comes after.
    pub(super) fn or_go_without(
        mut self,
        task: TaskId,
        status: TaskStatus,
        after: &[TaskId],
    ) -> Self {
        let is_blocked = status == TaskStatus::Blocked;
        let failed = self.code == FailureCode::DependencyFailed;
        let before = first_task(&self.message).filter(|before| after.contains(before));
        if is_blocked && failed && before.is_some() {
            self.advice += &format!("; or `ctl release {task}` lets it go all the same");
        }
        self
    }

    /// Nobody needs to do what happens by itself, nor could: a task that is not at its end cannot be retried.
    pub(super) fn of_one_tried_again(mut self, task: TaskId, status: TaskStatus) -> Self {
        let again = matches!(
            status,
            TaskStatus::Queued | TaskStatus::Assigned | TaskStatus::Running
        );
        if again && self.advice.contains(&format!("`ctl retry {task}`")) {
            self.advice = format!(
                "it is tried again by itself; if it fails again: {}",
                self.advice
            );
        }
        self
    }
}

/// The task that a reason begins with.
pub(super) fn first_task(message: &str) -> Option<TaskId> {
    message.split(' ').next()?.parse().ok()
}
