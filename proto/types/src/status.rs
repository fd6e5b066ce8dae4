//! The statuses that people see.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Where a task is in its life.
///
/// ```text
/// blocked -> queued -> assigned -> running -> succeeded | failed | cancelled | needs_review
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskStatus {
    /// Waits for tasks that it comes after.
    Blocked,
    /// Waits for a worker, or for the delay of a retry.
    Queued,
    /// Given to a worker that has not started it yet.
    Assigned,
    /// An agent works on it, or its result is being put in place.
    Running,
    /// Done; the result is durable.
    Succeeded,
    /// Ended without success and will not be retried by itself.
    Failed,
    /// Ended because a person asked for it.
    Cancelled,
    /// Waits for a person: the reason says what to do.
    NeedsReview,
}

impl TaskStatus {
    /// All of them, in the order of a task's life.
    pub const ALL: [Self; 8] = [
        Self::Blocked,
        Self::Queued,
        Self::Assigned,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::NeedsReview,
    ];

    /// The name, as in `--json`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Queued => "queued",
            Self::Assigned => "assigned",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::NeedsReview => "needs_review",
        }
    }

    /// Whether nothing more happens unless a person acts.
    #[must_use]
    pub fn is_ended(self) -> bool {
        match self {
            Self::Blocked | Self::Queued | Self::Assigned | Self::Running => false,
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::NeedsReview => true,
        }
    }
}

impl fmt::Display for TaskStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for TaskStatus {
    type Err = crate::id::ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|s| s.as_str() == text).ok_or_else(|| crate::id::ParseIdError {
            text: text.chars().take(64).collect(),
            wanted: "status (blocked queued assigned running succeeded failed cancelled needs_review)",
        })
    }
}
