//! Tasks that an agent queued in its own workspace.

use orchestra_types::{AttemptId, ProjectRef, TaskSpec};

/// The attempt in whose workspace an agent queued the task, if one did: that is called as the attempt.
pub fn queued_in(spec: &TaskSpec, project: &ProjectRef) -> Option<AttemptId> {
    let name = project.dir.file_name()?.to_str()?;
    let attempt: AttemptId = name.parse().ok()?;
    (Some(attempt.task) == spec.parent).then_some(attempt)
}
