//! Orchestra's plain words, shared by every crate: ids, task specifications, outcomes, events,
//! manifests and the limits that both sides must agree on.
//!
//! Nothing here is async, touches the wire format, reads a clock or does I/O.
#![warn(missing_docs)]

pub mod account;
pub mod artifact;
pub mod budget;
pub mod collector;
pub mod event;
pub mod failure;
pub mod id;
pub mod limits;
pub mod manifest;
pub mod outcome;
pub mod runner;
mod schedule;
pub mod shell;
pub mod spec;
pub mod status;
pub mod time;

pub use account::{AccountName, Limited};
pub use artifact::{Artifact, ArtifactKind, Digest};
pub use budget::{Budget, BudgetChange, Limit, Measure, Spent};
pub use event::{Event, EventKind, Usage};
pub use failure::{Failure, FailureCode, Fault};
pub use id::{AttemptId, MachineId, ProjectId, RunnerName, ScheduleId, TaskId, WorkerId};
pub use manifest::{FileChange, Manifest, ManifestEntry, ManifestSummary};
pub use outcome::{ApplyResult, BuiltOn, Exit, Outcome};
pub use schedule::Recurrence;
pub use spec::{
    ContextFile, CopiedFile, OnDependencyFailure, Place, Priority, ProjectRef, SetUp, ShellCommand,
    TaskSpec,
};
pub use status::TaskStatus;
pub use time::Timestamp;
