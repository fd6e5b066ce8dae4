//! The one taxonomy of failures: code, whether a retry can help, whose fault, what to do.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Timestamp, id::ParseIdError};

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureCode {
    /// The agent ran and said, or showed by its exit, that it did not succeed.
    AgentFailed,
    /// The agent ended without saying how.
    AgentCrashed,
    /// The agent's output was not what its protocol says.
    Protocol,
    /// The CLI could not be started.
    SpawnFailed,
    /// The CLI is not logged in, or its key was refused.
    Auth,
    /// The provider limits the rate of requests.
    RateLimited,
    /// The account's quota, credit or budget is used up.
    QuotaExhausted,
    /// The provider is overloaded or has an internal error.
    ProviderUnavailable,
    /// The provider refused the request itself.
    BadRequest,
    /// The prompt does not fit the model.
    ContextTooLong,
    /// The model refused to do it.
    Refused,
    /// The attempt ran longer than its timeout.
    Timeout,
    /// The workspace could not be made.
    WorkspaceFailed,
    /// The result could not be collected or stored.
    ResultFailed,
    /// The worker was lost while the attempt ran.
    WorkerLost,
    /// The change could not be put into the user's checkout without a conflict.
    ApplyConflict,
    /// A task that this one comes after did not succeed.
    DependencyFailed,
    /// A person cancelled it.
    Cancelled,
    /// An error of Orchestra itself.
    Internal,
}

/// Whose doing a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The task or the agent's work on it.
    Task,
    /// The provider of the model or the account there.
    Provider,
    /// The worker or its machine.
    Worker,
    /// A person's decision.
    Person,
    /// Orchestra.
    Orchestra,
}

impl FailureCode {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::AgentFailed,
        Self::AgentCrashed,
        Self::Protocol,
        Self::SpawnFailed,
        Self::Auth,
        Self::RateLimited,
        Self::QuotaExhausted,
        Self::ProviderUnavailable,
        Self::BadRequest,
        Self::ContextTooLong,
        Self::Refused,
        Self::Timeout,
        Self::WorkspaceFailed,
        Self::ResultFailed,
        Self::WorkerLost,
        Self::ApplyConflict,
        Self::DependencyFailed,
        Self::Cancelled,
        Self::Internal,
    ];

    /// The name, as in `--json` and on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AgentFailed => "agent_failed",
            Self::AgentCrashed => "agent_crashed",
            Self::Protocol => "protocol",
            Self::SpawnFailed => "spawn_failed",
            Self::Auth => "auth",
            Self::RateLimited => "rate_limited",
            Self::QuotaExhausted => "quota_exhausted",
            Self::ProviderUnavailable => "provider_unavailable",
            Self::BadRequest => "bad_request",
            Self::ContextTooLong => "context_too_long",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::WorkspaceFailed => "workspace_failed",
            Self::ResultFailed => "result_failed",
            Self::WorkerLost => "worker_lost",
            Self::ApplyConflict => "apply_conflict",
            Self::DependencyFailed => "dependency_failed",
            Self::Cancelled => "cancelled",
            Self::Internal => "internal",
        }
    }

    /// Whether another attempt can help without a person doing something first.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        match self {
            Self::AgentFailed
            | Self::AgentCrashed
            | Self::Protocol
            | Self::RateLimited
            | Self::ProviderUnavailable
            | Self::Timeout
            | Self::WorkspaceFailed
            | Self::ResultFailed
            | Self::WorkerLost
            | Self::Internal => true,
            Self::SpawnFailed
            | Self::Auth
            | Self::QuotaExhausted
            | Self::BadRequest
            | Self::ContextTooLong
            | Self::Refused
            | Self::ApplyConflict
            | Self::DependencyFailed
            | Self::Cancelled => false,
        }
    }

    /// Whose doing it is.
    #[must_use]
    pub fn fault(self) -> Fault {
        match self {
            Self::AgentFailed
            | Self::AgentCrashed
            | Self::Protocol
            | Self::ContextTooLong
            | Self::Refused
            | Self::Timeout
            | Self::ApplyConflict
            | Self::DependencyFailed => Fault::Task,
            Self::Auth
            | Self::RateLimited
            | Self::QuotaExhausted
            | Self::ProviderUnavailable
            | Self::BadRequest => Fault::Provider,
            Self::SpawnFailed | Self::WorkspaceFailed | Self::ResultFailed | Self::WorkerLost => {
                Fault::Worker
            }
            Self::Cancelled => Fault::Person,
            Self::Internal => Fault::Orchestra,
        }
    }

    /// What a person can do about it; fits after "hint:".
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Self::AgentFailed => {
                "read `ctl logs`, then make the description clearer and `ctl retry`"
            }
            Self::AgentCrashed => "see the end of `ctl logs --raw`, then `ctl retry`",
            Self::Protocol => {
                "check the CLI's version with `ctl workers`; `ctl logs --raw` has what it printed"
            }
            Self::SpawnFailed => "check that the CLI is installed on the worker: `ctl workers`",
            Self::Auth => "log the CLI in on the worker, or set its key, then `ctl retry`",
            Self::RateLimited => "wait for the limit to reset, then `ctl retry`",
            Self::QuotaExhausted => {
                "raise the account's limit or wait for its reset, then `ctl retry`"
            }
            Self::ProviderUnavailable => "the provider has trouble; `ctl retry` later",
            Self::BadRequest => {
                "the provider refused the request: check the runner's model and settings"
            }
            Self::ContextTooLong => "split the task or give it fewer context files",
            Self::Refused => "reword the description",
            Self::Timeout => "give it more time with `--timeout`, or split the task",
            Self::WorkspaceFailed => "check disk space and git on the worker",
            Self::ResultFailed => "check disk space on the worker and the head",
            Self::WorkerLost => {
                "check the worker's machine; `ctl workers` shows when it was last seen"
            }
            Self::ApplyConflict => "commit or stash the named files, then `ctl apply`",
            Self::DependencyFailed => "`ctl retry` the task that it comes after, then this one",
            Self::Cancelled => "`ctl retry` runs it again",
            Self::Internal => {
                "this is a bug in Orchestra: please report it with `ctl show` and the logs"
            }
        }
    }
}

impl fmt::Display for FailureCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for FailureCode {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        Self::ALL
            .into_iter()
            .find(|c| c.as_str() == text)
            .ok_or_else(|| ParseIdError {
                text: text.chars().take(64).collect(),
                wanted: "failure code",
            })
    }
}

/// One failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What went wrong.
    pub code: FailureCode,
    /// What exactly, in a person's words, without secrets.
    pub message: String,
    /// When the provider says that it works again.
    pub resets_at: Option<Timestamp>,
}

impl Failure {
    /// A failure without a known end.
    pub fn new(code: FailureCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            resets_at: None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}
