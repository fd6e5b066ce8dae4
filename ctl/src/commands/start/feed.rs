//! What `ctl start` shows in the foreground: one line for each step of a task.

use std::collections::BTreeMap;

use orchestra_proto::v1;
use orchestra_types::{TaskId, TaskStatus};

use crate::{
    client::{Client, status_error},
    error::{Error, Result},
    exit::Exit,
    json::task::Task,
    ui::{Ui, task::step},
};

/// Shows steps until the head goes away.
pub async fn follow(ui: &Ui, client: &Client) -> Result<()> {
    let request = v1::WatchTasksRequest { ids: Vec::new() };
    let answer = client
        .admin()
        .watch_tasks(request)
        .await
        .map_err(|s| status_error(&s))?;
    let mut changes = answer.into_inner();
    let mut known = BTreeMap::new();
    while let Ok(Some(change)) = changes.message().await {
        for task in change.tasks {
            let task = Task::read(task)?;
            if is_news(&mut known, &task) {
                show(ui, &task)?;
            }
        }
    }
    Err(Error::new(Exit::HeadNotRunning, "the head has ended")
        .hint("its log is `head/head.log` in the state directory"))
}

/// Whether the task has another status or attempt than when it was last seen.
fn is_news(known: &mut BTreeMap<TaskId, (TaskStatus, u32)>, task: &Task) -> bool {
    let state = (task.status, task.attempt);
    known.insert(task.id, state) != Some(state)
}

fn show(ui: &Ui, task: &Task) -> Result<()> {
    if ui.is_json() {
        ui.document_line(task)
    } else {
        ui.line(&step(task, ui.again))
    }
}
