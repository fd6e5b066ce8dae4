//! An agent that waits for its own task waits for its own end.

use std::path::Path;

use orchestra_types::TaskId;

use crate::{
    app::App,
    error::{Error, Result},
    exit::Exit,
    json::task::Task,
};

/// The task of this cluster whose agent calls, if one does: ids are a cluster's own.
pub fn own_task(app: &App) -> Option<TaskId> {
    let state = std::env::var_os("ORCHESTRA_STATE")?;
    let is_its_own = Path::new(&state) == app.state.path() && !app.names_head();
    let task = std::env::var("ORCHESTRA_TASK").ok()?;
    task.parse().ok().filter(|_| is_its_own)
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

/// Refuses to wait without an end for tasks of which one is the caller's own, and goes on.
pub fn refuse_own(app: &App, tasks: &[Task]) -> Result<()> {
    let goes_on = |own: &TaskId| {
        let mut tasks = tasks.iter();
        tasks.any(|task| task.id == *own && !task.status.is_ended())
    };
    match own_task(app).filter(goes_on) {
        Some(own) => Err(waits_for_itself(own, "the waiting")),
        None => Ok(()),
    }
}
