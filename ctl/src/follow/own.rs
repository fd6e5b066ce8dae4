//! An agent that waits for its own task waits for its own end.

use orchestra_types::TaskId;

use crate::{
    error::{Error, Result},
    exit::Exit,
};

/// The task whose agent calls, if one does.
pub fn own_task() -> Option<TaskId> {
    std::env::var("ORCHESTRA_TASK").ok()?.parse().ok()
}

/// That `what` would never end.
pub fn waits_for_itself(own: TaskId, what: &str) -> Error {
    let message = format!(
        "{own} is the task of the agent that calls this: it ends after this call, so that {what} would never end"
    );
    Error::new(Exit::Refused, message).hint(
        "wait for subtasks, by the ids that `ctl add` has printed; what comes after this task needs no waiting here",
    )
}

/// Refuses to wait for tasks of which one is the caller's own.
pub fn refuse_own(tasks: &[TaskId]) -> Result<()> {
    match own_task().filter(|own| tasks.contains(own)) {
        Some(own) => Err(waits_for_itself(own, "the waiting")),
        None => Ok(()),
    }
}
