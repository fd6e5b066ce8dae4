//! `ctl release`.

use orchestra_proto::v1;
use orchestra_types::TaskId;

use crate::{
    app::App,
    changing,
    client::Client,
    commands::{Order, each_task},
    error::Result,
    exit::Exit,
    json::task::Task,
};

/// Let blocked tasks go although a task before them failed
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A task that comes after one that failed, or was cancelled, is blocked unless it was added with
--on-dependency-failure cancel or run: a person decides. This is the decision to go on all the same,
as if it had been added with --on-dependency-failure run. What the failed one left does not come
along; what the others left does. A task that comes after several still waits for those that have
not ended, and goes on then however they end.

`ctl retry` of the task before it is the other way: when that succeeds, those after it go on.

Examples:
  ctl release task_007
  ctl release 7 8 9                       in this order, each after the one before it")]
pub struct Args {
    /// The tasks, as task_001 or 1
    #[arg(value_name = "TASK", required = true)]
    tasks: Vec<TaskId>,
}

/// Lets the tasks go.
pub async fn run(app: &App, args: Args) -> Result<Exit> {
    let client = app.connect().await?;
    each_task(app, args.tasks, Order::AsNamed, async |id| {
        release(&client, id).await
    })
    .await
}

/// To let one go twice does no more.
async fn release(client: &Client, id: TaskId) -> Result<Task> {
    let request = v1::ReleaseTaskRequest { id: id.0 };
    Task::read(changing::patiently(async || client.admin().release_task(request).await).await?)
}
