//! The one taxonomy of failures: code, whether a retry can help, whose fault, what to do.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{TaskId, Timestamp, id::ParseIdError};

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
    /// As many attempts work on the account as this cluster lets it have.
    AccountFull,
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
    /// The worker was shut out while the attempt ran, and has stopped it.
    WorkerRevoked,
    /// No event came from the agent for longer than the task allows.
    Stalled,
    /// It waited longer for a worker than it may.
    QueueTimeout,
    /// It ran on several workers that were lost, and may be what takes them down.
    Quarantined,
    /// The project's set-up command failed, before the agent began.
    SetupFailed,
    /// The kernel ended processes of it, for the memory that an attempt may use was used up.
    Oom,
    /// It had as many processes as an attempt may have, and wanted more.
    Pids,
    /// The disk that it works on is full, or its quota is used up.
    DiskFull,
    /// A budget of the task, of a task above it or of its project is used up.
    BudgetExceeded,
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
    pub const ALL: [Self; 29] = [
        Self::AgentFailed,
        Self::AgentCrashed,
        Self::Protocol,
        Self::SpawnFailed,
        Self::Auth,
        Self::RateLimited,
        Self::AccountFull,
        Self::QuotaExhausted,
        Self::ProviderUnavailable,
        Self::BadRequest,
        Self::ContextTooLong,
        Self::Refused,
        Self::Timeout,
        Self::WorkspaceFailed,
        Self::ResultFailed,
        Self::WorkerLost,
        Self::WorkerRevoked,
        Self::Stalled,
        Self::QueueTimeout,
        Self::Quarantined,
        Self::SetupFailed,
        Self::Oom,
        Self::Pids,
        Self::DiskFull,
        Self::BudgetExceeded,
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
            Self::AccountFull => "account_full",
            Self::QuotaExhausted => "quota_exhausted",
            Self::ProviderUnavailable => "provider_unavailable",
            Self::BadRequest => "bad_request",
            Self::ContextTooLong => "context_too_long",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::WorkspaceFailed => "workspace_failed",
            Self::ResultFailed => "result_failed",
            Self::WorkerLost => "worker_lost",
            Self::WorkerRevoked => "worker_revoked",
            Self::Stalled => "stalled",
            Self::QueueTimeout => "queue_timeout",
            Self::Quarantined => "quarantined",
            Self::SetupFailed => "setup_failed",
            Self::Oom => "oom",
            Self::Pids => "pids",
            Self::DiskFull => "disk_full",
            Self::BudgetExceeded => "budget_exceeded",
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
            | Self::AccountFull
            | Self::ProviderUnavailable
            | Self::Timeout
            | Self::WorkspaceFailed
            | Self::ResultFailed
            | Self::WorkerLost
            | Self::WorkerRevoked
            | Self::Stalled
            | Self::Oom
            | Self::DiskFull
            | Self::Internal => true,
            Self::SpawnFailed
            | Self::Auth
            | Self::QuotaExhausted
            | Self::BadRequest
            | Self::ContextTooLong
            | Self::Refused
            | Self::QueueTimeout
            | Self::Quarantined
            | Self::SetupFailed
            | Self::Pids
            | Self::BudgetExceeded
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
            | Self::Stalled
            | Self::Quarantined
            | Self::SetupFailed
            | Self::Oom
            | Self::Pids
            | Self::ApplyConflict
            | Self::DependencyFailed => Fault::Task,
            Self::Auth
            | Self::RateLimited
            | Self::QuotaExhausted
            | Self::ProviderUnavailable
            | Self::BadRequest => Fault::Provider,
            Self::SpawnFailed
            | Self::WorkspaceFailed
            | Self::ResultFailed
            | Self::WorkerLost
            | Self::DiskFull
            | Self::QueueTimeout => Fault::Worker,
            Self::AccountFull | Self::Cancelled | Self::BudgetExceeded | Self::WorkerRevoked => {
                Fault::Person
            }
            Self::Internal => Fault::Orchestra,
        }
    }

    /// What a person can do about it; fits after "hint:". `TASK` stands for the task's id:
    /// [`Self::advice_for`] puts it there.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Self::AgentFailed => {
                "read `ctl logs TASK`, then `ctl retry TASK`, or submit it with a clearer description"
            }
            Self::AgentCrashed => "see the end of `ctl logs TASK --raw`, then `ctl retry TASK`",
            Self::Protocol => {
                "`ctl logs TASK --raw` has what the CLI printed; check its version with `ctl workers -v`"
            }
            Self::SpawnFailed => {
                "check that the CLI, or the program of the command, is installed on the worker: `ctl workers -v`"
            }
            Self::Auth => "log the CLI in on the worker, or set its key, then `ctl retry TASK`",
            Self::RateLimited => {
                "it waits for the limit by itself; `ctl accounts` says until when its account is parked, or to how many attempts at once that is slowed"
            }
            Self::AccountFull => {
                "it begins by itself when an attempt on the account ends; `ctl accounts` shows how many there are, and `ctl accounts set ACCOUNT --max` with a higher number lets more begin"
            }
            Self::QuotaExhausted => {
                "it waits for the reset by itself (`ctl accounts` says until when), or for `ctl accounts resume ACCOUNT` once the account has credit again; once it has ended, raise the account's limit, then `ctl retry TASK`"
            }
            Self::ProviderUnavailable => "the provider has trouble; `ctl retry TASK` later",
            Self::BadRequest => {
                "the provider refused the request: check the runner's model and settings"
            }
            Self::ContextTooLong => "split the task or give it fewer context files",
            Self::Refused => "reword the description",
            Self::Timeout => "submit it with a longer `--timeout`, or split the task",
            Self::WorkspaceFailed => {
                "mend what the message names; where it names nothing, check disk space and git on the worker; then `ctl retry TASK`"
            }
            Self::ResultFailed => {
                "the message says what stood in the way, and where the agent's files are if they are kept; where it is the disk, check disk space on the worker and the head; then `ctl retry TASK`"
            }
            Self::WorkerLost => {
                "`ctl retry TASK` runs it again; where nobody stopped the worker, check its machine: `ctl workers` shows when it was last seen"
            }
            Self::WorkerRevoked => {
                "it is tried again by itself; `ctl workers` shows who can take it"
            }
            Self::Stalled => {
                "read the end of `ctl logs TASK`; give it a longer `--stall-timeout`, or `ctl retry TASK`"
            }
            Self::QueueTimeout => {
                "`ctl workers` shows who is free; `ctl retry TASK` lets it wait again"
            }
            Self::Quarantined => {
                "read `ctl show TASK` and `ctl logs TASK`; if the task is innocent, `ctl retry TASK`"
            }
            Self::SetupFailed => {
                "see in `ctl logs TASK` what `setup` of `.orchestra.yaml` said; mend it and submit the task anew, or `ctl retry TASK` if it can pass"
            }
            Self::Oom => {
                "split the task, or raise `worker.limits.memory` on the worker, then `ctl retry TASK`"
            }
            Self::Pids => {
                "see in `ctl logs TASK` what it starts, or raise `worker.limits.processes` on the worker, then `ctl retry TASK`"
            }
            Self::DiskFull => "free space on the worker's disk, then `ctl retry TASK`",
            Self::BudgetExceeded => {
                "raise the limit that is used up: `ctl budget` with the task or the project that the message names, and --tokens +100k, --usd +1, --time +1h or --attempts +1; it goes on from its kept work"
            }
            Self::ApplyConflict => {
                "what the reason says; edits of yours that are in the way: undo them, or commit them where there is a git repository, then `ctl apply TASK`; where another task is named, merge the branch `orchestra/TASK`; `ctl diff TASK` shows the change"
            }
            Self::DependencyFailed => {
                "`ctl retry` the task that it comes after, which `ctl show TASK` names; or, where it is blocked, `ctl release TASK` lets it go all the same"
            }
            Self::Cancelled => "`ctl retry TASK` runs it again",
            Self::Internal => {
                "this is a bug in Orchestra: please report it with `ctl show TASK` and the logs"
            }
        }
    }

    /// What a person can do about it, with the task's id in the commands.
    #[must_use]
    pub fn advice_for(self, task: TaskId) -> String {
        self.advice().replace("TASK", &task.to_string())
    }
}

impl Fault {
    /// The name, as in `--json`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Provider => "provider",
            Self::Worker => "worker",
            Self::Person => "person",
            Self::Orchestra => "orchestra",
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The row of a code in `docs/failures.md`.
    fn row(code: FailureCode) -> String {
        let retried = if code.is_retryable() { "yes" } else { "no" };
        let (name, whose, advice) = (code.as_str(), code.fault().as_str(), code.advice());
        format!("| `{name}` | {retried} | {whose} | {advice} |")
    }

    #[test]
    fn the_page_of_failures_has_every_code_as_it_is() {
        let page = include_str!("../../../docs/failures.md");
        for code in FailureCode::ALL {
            assert!(
                page.contains(&row(code)),
                "docs/failures.md lacks\n{}",
                row(code)
            );
        }
        let rows = page.lines().filter(|line| line.starts_with("| `")).count();
        assert_eq!(rows, FailureCode::ALL.len(), "a row of no code");
    }

    #[test]
    fn every_code_is_listed_once_and_reads_back() {
        for code in FailureCode::ALL {
            assert_eq!(code.as_str().parse(), Ok(code));
            assert_eq!(FailureCode::ALL.iter().filter(|c| **c == code).count(), 1);
        }
    }

    #[test]
    fn an_advice_names_the_task_in_its_commands() {
        let advice = FailureCode::AgentCrashed.advice_for(TaskId(7));
        assert_eq!(
            advice,
            "see the end of `ctl logs task_007 --raw`, then `ctl retry task_007`"
        );
    }
}
