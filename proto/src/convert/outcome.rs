//! How attempts ended.

use orchestra_types::{BuiltOn, Exit, Failure, FailureCode, Outcome, TaskId, Usage, limits};

use super::{Refused, Result, artifact, task_id, text, timestamp};
use crate::v1;

/// Longest message of a failure.
const MESSAGE_MAX: usize = 16 * 1024;
/// Most artifacts of one outcome.
const ARTIFACTS_MAX: usize = 64;
/// Longest session id, model, branch.
const SHORT_MAX: usize = 1024;

impl TryFrom<v1::Outcome> for Outcome {
    type Error = Refused;

    fn try_from(wire: v1::Outcome) -> Result<Self> {
        if wire.artifacts.len() > ARTIFACTS_MAX {
            return Err(Refused::new("artifacts", "more than 64"));
        }
        let artifacts = wire
            .artifacts
            .into_iter()
            .map(|a| artifact("artifacts", Some(a)));
        Ok(Self {
            exit: exit(wire.exit)?,
            failure: wire.failure.map(Failure::try_from).transpose()?,
            text: text("text", wire.text, limits::OUTCOME_TEXT_BYTES_MAX)?,
            usage: wire.usage.map(Usage::from).unwrap_or_default(),
            session: text("session", wire.session, SHORT_MAX)?,
            model: text("model", wire.model, SHORT_MAX)?,
            files: wire.files.map(Into::into).unwrap_or_default(),
            branch: text("branch", wire.branch, SHORT_MAX)?,
            commit: text("commit", wire.commit, SHORT_MAX)?,
            built_on: wire
                .built_on
                .map(BuiltOn::try_from)
                .transpose()?
                .unwrap_or_default(),
            artifacts: artifacts.collect::<Result<_>>()?,
            started_at: timestamp(wire.started_at_ms),
            finished_at: timestamp(wire.finished_at_ms),
        })
    }
}

impl From<Outcome> for v1::Outcome {
    fn from(outcome: Outcome) -> Self {
        Self {
            exit: Some(outcome.exit.into()),
            failure: outcome.failure.map(Into::into),
            text: outcome.text,
            usage: Some(outcome.usage.into()),
            session: outcome.session,
            model: outcome.model,
            files: Some(outcome.files.into()),
            branch: outcome.branch,
            commit: outcome.commit,
            built_on: (outcome.built_on != BuiltOn::default()).then(|| outcome.built_on.into()),
            artifacts: outcome.artifacts.into_iter().map(Into::into).collect(),
            started_at_ms: outcome.started_at.0,
            finished_at_ms: outcome.finished_at.0,
        }
    }
}

impl TryFrom<v1::BuiltOn> for BuiltOn {
    type Error = Refused;

    fn try_from(wire: v1::BuiltOn) -> Result<Self> {
        let tasks = |ids: Vec<u64>| -> Result<Vec<TaskId>> {
            if ids.len() > limits::AFTER_MAX {
                let why = format!("more than {} tasks", limits::AFTER_MAX);
                return Err(Refused::new("built_on", why));
            }
            ids.into_iter().map(|id| task_id("built_on", id)).collect()
        };
        Ok(Self {
            commit: text("built_on", wire.commit, SHORT_MAX)?,
            tasks: tasks(wire.tasks)?,
            left_out: tasks(wire.left_out)?,
        })
    }
}

impl From<BuiltOn> for v1::BuiltOn {
    fn from(built_on: BuiltOn) -> Self {
        let ids = |tasks: Vec<TaskId>| tasks.into_iter().map(|task| task.0).collect();
        Self {
            commit: built_on.commit,
            tasks: ids(built_on.tasks),
            left_out: ids(built_on.left_out),
        }
    }
}

impl TryFrom<v1::Failure> for Failure {
    type Error = Refused;

    fn try_from(wire: v1::Failure) -> Result<Self> {
        // A newer peer may know a code that we do not: keep its words.
        let code = wire.code.parse().unwrap_or(FailureCode::Internal);
        let message = text("failure", wire.message, MESSAGE_MAX)?;
        Ok(Self {
            code,
            message,
            resets_at: wire.resets_at_ms.map(timestamp),
        })
    }
}

impl From<Failure> for v1::Failure {
    fn from(failure: Failure) -> Self {
        Self {
            code: failure.code.as_str().to_owned(),
            message: limits::cut(&failure.message, MESSAGE_MAX),
            resets_at_ms: failure.resets_at.map(|t| t.0),
        }
    }
}

impl From<Exit> for v1::Exit {
    fn from(exit: Exit) -> Self {
        let exit = match exit {
            Exit::NotStarted { reason } => v1::exit::Exit::NotStarted(reason),
            Exit::Code(code) => v1::exit::Exit::Code(code),
            Exit::Signal(signal) => v1::exit::Exit::Signal(signal),
            Exit::Stopped => v1::exit::Exit::Stopped(true),
            Exit::Unknown => v1::exit::Exit::Unknown(true),
        };
        Self { exit: Some(exit) }
    }
}

impl From<Usage> for v1::Usage {
    fn from(usage: Usage) -> Self {
        Self {
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
            cached_tokens: usage.cached_tokens,
            cost_microusd: usage.cost_microusd,
            turns: usage.turns,
        }
    }
}

impl From<v1::Usage> for Usage {
    fn from(wire: v1::Usage) -> Self {
        Self {
            input_tokens: wire.input_tokens,
            output_tokens: wire.output_tokens,
            cached_tokens: wire.cached_tokens,
            cost_microusd: wire.cost_microusd,
            turns: wire.turns,
        }
        .with_known_cost()
    }
}

fn exit(wire: Option<v1::Exit>) -> Result<Exit> {
    let exit = wire
        .and_then(|e| e.exit)
        .ok_or_else(|| Refused::new("exit", "is missing"))?;
    Ok(match exit {
        v1::exit::Exit::NotStarted(reason) => Exit::NotStarted {
            reason: text("exit", reason, MESSAGE_MAX)?,
        },
        v1::exit::Exit::Code(code) => Exit::Code(code),
        v1::exit::Exit::Signal(signal) => Exit::Signal(signal),
        v1::exit::Exit::Stopped(_) => Exit::Stopped,
        v1::exit::Exit::Unknown(_) => Exit::Unknown,
    })
}
