//! `ctl show`.

use orchestra_types::{TaskId, TaskStatus};

use crate::{
    app::App,
    apply,
    error::Result,
    exit::Exit,
    ui::{detail, queued},
    warned,
};

/// Show one task in full: what was asked, each attempt, what came out, what to do next
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The task, as task_001 or 1
    #[arg(value_name = "TASK")]
    pub(super) task: TaskId,
}

/// Shows a task.
pub async fn run(app: &App, args: Args) -> Result<Exit> {
    let client = app.connect().await?;
    let mut task = client.whole_task(args.task).await?;
    if app.ui.is_json() {
        queued::explain(&client, std::slice::from_mut(&mut task)).await?;
        app.ui.document(&task)?;
        return Ok(Exit::Ok);
    }
    apply::look_for_branch(app, &mut task).await;
    let (workers, names) = client.workers_and_names().await?;
    let ui = &app.ui;
    detail::lines(&task, &names, ui.again, ui.stdout.width)
        .iter()
        .try_for_each(|line| app.ui.line(line))?;
    warned::say(app, &client, &task).await;
    if task.status == TaskStatus::Queued {
        let status = client.status().await?;
        if status.stopping_since.is_some() {
            app.ui.warn_of_stop(&status);
            return Ok(Exit::Ok);
        }
    }
    if let Some(text) = queued::runs_on(&task, &workers) {
        app.ui.warn(text);
    }
    match queued::why(&task, &workers) {
        Some(why) => app.ui.next(format!("\nit waits: {why}")),
        None => {
            if let Some(next) = detail::next_step(&task) {
                app.ui.next(format!("\nnext: {next}"));
            }
        }
    }
    Ok(Exit::Ok)
}
