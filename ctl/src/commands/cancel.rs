//! `ctl cancel`.

use orchestra_proto::v1;
use orchestra_types::TaskId;

use crate::{
    app::App, client::patiently, commands::each_task, error::Result, exit::Exit, json::task::Task,
};

/// Cancel tasks; the work of a running agent so far is kept
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The tasks, as task_001 or 1
    #[arg(value_name = "TASK", required = true)]
    tasks: Vec<TaskId>,
}

/// Cancels the tasks.
pub async fn run(app: &App, args: Args) -> Result<Exit> {
    let client = app.connect().await?;
    each_task(app, args.tasks, async |id| {
        let request = v1::CancelTaskRequest { id: id.0 };
        Task::read(patiently(async || client.admin().cancel_task(request).await).await?)
    })
    .await
}
