//! `ctl priority`.

use orchestra_proto::v1;
use orchestra_types::{Priority, TaskId};

use crate::{
    app::App,
    client::patiently,
    commands::{Order, each_task},
    error::Result,
    exit::Exit,
    json::task::Task,
    values,
};

/// Give tasks that have not ended another priority: high, normal or low
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A waiting task takes its place among those of its new priority at once, as if it had been submitted
with it. One that runs keeps running; its next attempt counts with the new priority.

Examples:
  ctl priority task_007 high
  ctl priority 3 4 5 low")]
pub struct Args {
    /// The tasks, as task_001 or 1
    #[arg(value_name = "TASK", required = true)]
    tasks: Vec<TaskId>,
    /// How much they matter now
    #[arg(value_name = "PRIORITY", required = true, value_parser = values::priority(), hide_possible_values = true)]
    priority: Priority,
}

/// Changes the priority of the tasks.
pub async fn run(app: &App, args: Args) -> Result<Exit> {
    let client = app.connect().await?;
    each_task(app, args.tasks, Order::Any, async |id| {
        let request = v1::SetPriorityRequest {
            id: id.0,
            priority: v1::Priority::from(args.priority).into(),
        };
        Task::read(patiently(async || client.admin().set_priority(request).await).await?)
    })
    .await
}
