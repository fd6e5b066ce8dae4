//! What `--wait` and `--follow` end with.

use orchestra_types::TaskStatus;
use serde_json::json;

use super::Then;
use crate::{
    app::App,
    apply::{self, How},
    client::Client,
    error::Result,
    exit::Exit,
    follow::{closing, ended_well},
    json::task::Task,
    ui::detail,
};

/// Applies what ctl is to apply, shows how the tasks ended, and says so by the exit code.
pub async fn end(
    app: &App,
    client: &Client,
    mut tasks: Vec<Task>,
    then: Then,
    own: &[bool],
) -> Result<Exit> {
    let mut refused = None;
    for (task, _) in tasks.iter_mut().zip(own).filter(|(_, own)| **own) {
        if task.status != TaskStatus::Succeeded || task.branch.is_none() {
            continue;
        }
        match apply::apply(app, client, task, None, How::WorkTree).await {
            Ok(_) => *task = client.whole_task(task.id).await?,
            Err(e) => refused = Some(e),
        }
    }
    match (app.ui.is_json(), then) {
        (true, Then::Follow) => tasks
            .iter()
            .try_for_each(|task| app.ui.document_line(task))?,
        (true, _) => app.ui.document(&json!({ "tasks": tasks }))?,
        (false, _) => tasks.iter().try_for_each(|task| show_end(app, task))?,
    }
    refused.map_or_else(|| Ok(ended_well(&tasks)), Err)
}

fn show_end(app: &App, task: &Task) -> Result<()> {
    closing(task, app.ui.again)
        .iter()
        .try_for_each(|line| app.ui.line(line))?;
    if let Some(next) = detail::next_step(task) {
        app.ui.next(format!("next: {next}"));
    }
    Ok(())
}
