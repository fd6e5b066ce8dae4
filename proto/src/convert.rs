//! Turns wire into our words or refuses it, and our words into wire.
//!
//! Every message from a peer passes here before anything else looks at it. A refusal names the
//! field. Nothing here panics, allocates by a number that the peer chose, or reads a clock.

mod account;
mod budget;
mod event;
mod manifest;
mod outcome;
mod schedule;
mod spec;
mod worker;

use std::collections::BTreeMap;

use orchestra_types::{
    Artifact, AttemptId, Digest, TaskId, TaskStatus, Timestamp, id::is_name, limits,
};

use crate::v1;
pub use budget::{budget_change, budget_to_wire, known_budget, new_project};
pub use orchestra_types::time::millis;
pub use schedule::{recurrence, recurrence_to_wire};
pub use spec::{NO_READER, on_dependency_failure, optional_duration, priority, submitted_spec};

/// Why a message from a peer is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct Refused {
    /// Which field.
    pub field: &'static str,
    /// What is wrong with it.
    pub why: String,
}

impl Refused {
    /// A refusal of `field`.
    pub fn new(field: &'static str, why: impl Into<String>) -> Self {
        Self {
            field,
            why: why.into(),
        }
    }
}

/// What a conversion from the wire gives.
pub type Result<T> = std::result::Result<T, Refused>;

/// Reads a task id.
pub fn task_id(field: &'static str, wire: u64) -> Result<TaskId> {
    if wire == 0 {
        Err(Refused::new(field, "a task id is at least 1"))
    } else {
        Ok(TaskId(wire))
    }
}

/// Reads an attempt id that must be there.
pub fn attempt_id(field: &'static str, wire: Option<v1::AttemptId>) -> Result<AttemptId> {
    let wire = wire.ok_or_else(|| Refused::new(field, "is missing"))?;
    if wire.number == 0 {
        return Err(Refused::new(field, "an attempt's number is at least 1"));
    }
    Ok(AttemptId {
        task: task_id(field, wire.task)?,
        number: wire.number,
    })
}

impl From<AttemptId> for v1::AttemptId {
    fn from(id: AttemptId) -> Self {
        Self {
            task: id.task.0,
            number: id.number,
        }
    }
}

/// Reads a SHA-256 digest.
pub fn digest(field: &'static str, wire: &[u8]) -> Result<Digest> {
    let bytes = wire
        .try_into()
        .map_err(|_| Refused::new(field, "a digest has 32 bytes"))?;
    Ok(Digest(bytes))
}

/// Reads an artifact that must be there.
pub fn artifact(field: &'static str, wire: Option<v1::Artifact>) -> Result<Artifact> {
    let wire = wire.ok_or_else(|| Refused::new(field, "is missing"))?;
    if wire.size > limits::ARTIFACT_BYTES_MAX {
        return Err(Refused::new(field, "is larger than the limit of 8 GiB"));
    }
    let kind = wire
        .kind
        .parse()
        .map_err(|e| Refused::new(field, format!("{e}")))?;
    Ok(Artifact {
        kind,
        digest: digest(field, &wire.digest)?,
        size: wire.size,
    })
}

impl From<Artifact> for v1::Artifact {
    fn from(a: Artifact) -> Self {
        Self {
            kind: a.kind.as_str().to_owned(),
            digest: a.digest.0.to_vec(),
            size: a.size,
        }
    }
}

/// Reads a name: runner, project, worker, machine.
pub fn name<T>(field: &'static str, wire: &str) -> Result<T>
where
    T: std::str::FromStr<Err = orchestra_types::id::ParseIdError>,
{
    wire.parse()
        .map_err(|e| Refused::new(field, format!("{e}")))
}

/// Reads a name that may be absent, which the wire says by an empty text.
pub fn optional_name<T>(field: &'static str, wire: &str) -> Result<Option<T>>
where
    T: std::str::FromStr<Err = orchestra_types::id::ParseIdError>,
{
    if wire.is_empty() {
        Ok(None)
    } else {
        name(field, wire).map(Some)
    }
}

/// Reads labels.
pub fn labels(
    field: &'static str,
    wire: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>> {
    if wire.len() > limits::LABELS_MAX {
        return Err(Refused::new(
            field,
            format!("more than {} labels", limits::LABELS_MAX),
        ));
    }
    for (key, value) in &wire {
        if !is_name(key) {
            return Err(Refused::new(
                field,
                "a label's key is 1 to 128 of A-Z a-z 0-9 . _ -",
            ));
        }
        if value.len() > limits::LABEL_VALUE_BYTES_MAX || value.chars().any(char::is_control) {
            let why = format!("the value of label `{key}` is too long or has control characters");
            return Err(Refused::new(field, why));
        }
    }
    Ok(wire)
}

/// Reads a text with a limit.
pub fn text(field: &'static str, wire: String, max: usize) -> Result<String> {
    if wire.len() > max {
        return Err(Refused::new(
            field,
            format!("{} bytes, the limit is {max}", wire.len()),
        ));
    }
    Ok(wire)
}

/// Reads a moment.
#[must_use]
pub fn timestamp(wire: u64) -> Timestamp {
    Timestamp(wire)
}

impl From<TaskStatus> for v1::TaskStatus {
    fn from(status: TaskStatus) -> Self {
        match status {
            TaskStatus::Blocked => Self::Blocked,
            TaskStatus::Queued => Self::Queued,
            TaskStatus::Assigned => Self::Assigned,
            TaskStatus::Running => Self::Running,
            TaskStatus::Succeeded => Self::Succeeded,
            TaskStatus::Failed => Self::Failed,
            TaskStatus::Cancelled => Self::Cancelled,
            TaskStatus::NeedsReview => Self::NeedsReview,
        }
    }
}

/// Reads a status that must be there.
pub fn task_status(field: &'static str, wire: i32) -> Result<TaskStatus> {
    let unknown = || Refused::new(field, format!("unknown status {wire}"));
    match v1::TaskStatus::try_from(wire).map_err(|_| unknown())? {
        v1::TaskStatus::Unspecified => Err(unknown()),
        v1::TaskStatus::Blocked => Ok(TaskStatus::Blocked),
        v1::TaskStatus::Queued => Ok(TaskStatus::Queued),
        v1::TaskStatus::Assigned => Ok(TaskStatus::Assigned),
        v1::TaskStatus::Running => Ok(TaskStatus::Running),
        v1::TaskStatus::Succeeded => Ok(TaskStatus::Succeeded),
        v1::TaskStatus::Failed => Ok(TaskStatus::Failed),
        v1::TaskStatus::Cancelled => Ok(TaskStatus::Cancelled),
        v1::TaskStatus::NeedsReview => Ok(TaskStatus::NeedsReview),
    }
}

#[cfg(test)]
mod tests;
