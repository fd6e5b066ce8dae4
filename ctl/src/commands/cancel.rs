//! `ctl cancel`.

use orchestra_proto::v1;
use orchestra_types::TaskId;

use crate::{
    app::App,
    client::{Client, patiently},
    commands::{Order, add::pair, each_task, tasks::StatusFilter},
    error::{Error, Result},
    exit::Exit,
    json::task::Task,
};

/// How many tasks are asked for at a time.
const PAGE: u32 = 1000;

/// Cancel tasks; the work of a running agent so far is kept
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ctl cancel task_007 8
  ctl cancel --label area=docs          every task with this label that has not ended
  ctl cancel --status queued            everything that has not been given to a worker
  ctl cancel --all")]
pub struct Args {
    /// The tasks, as task_001 or 1
    #[arg(value_name = "TASK", required_unless_present_any = ["all", "label", "status", "project"])]
    tasks: Vec<TaskId>,
    /// Every task that has not ended
    #[arg(long, conflicts_with = "tasks")]
    all: bool,
    /// Every one with this label that has not ended; repeat it for more
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = pair, conflicts_with = "tasks")]
    label: Vec<(String, String)>,
    /// Every one with this status: active, pending, or an exact status; repeat it or use commas
    #[arg(
        long,
        short,
        value_name = "STATUS",
        value_delimiter = ',',
        conflicts_with = "tasks"
    )]
    status: Vec<StatusFilter>,
    /// Every one of this project, by name or id, that has not ended
    #[arg(long, value_name = "PROJECT", conflicts_with = "tasks")]
    project: Option<String>,
}

/// Cancels the tasks.
pub async fn run(app: &App, args: Args) -> Result<Exit> {
    let client = app.connect().await?;
    let named = !args.tasks.is_empty();
    let tasks = if named {
        args.tasks.clone()
    } else {
        chosen(&client, args).await?
    };
    if tasks.is_empty() && !app.ui.is_json() {
        app.ui.next("no such task; nothing was cancelled");
    }
    each_task(app, tasks, Order::Any, async |id| {
        let request = v1::CancelTaskRequest { id: id.0 };
        let answer = patiently(async || client.admin().cancel_task(request).await).await;
        match answer {
            // It ended between the question and the answer.
            Err(e) if !named && e.exit() == Exit::Refused => client.task(id).await,
            answer => Task::read(answer?),
        }
    })
    .await
}

/// The tasks that the options mean and that have not ended.
async fn chosen(client: &Client, args: Args) -> Result<Vec<TaskId>> {
    let statuses = StatusFilter::open(&args.status);
    if statuses.is_empty() {
        return Err(Error::usage("a task with this status has ended already"));
    }
    let mut request = v1::ListTasksRequest {
        statuses: statuses
            .into_iter()
            .map(|s| v1::TaskStatus::from(s).into())
            .collect(),
        labels: args.label.into_iter().collect(),
        project: args.project.unwrap_or_default(),
        limit: PAGE,
        ..Default::default()
    };
    let mut ids = Vec::new();
    loop {
        let page = patiently(async || client.admin().list_tasks(request.clone()).await).await?;
        ids.extend(page.tasks.iter().map(|task| TaskId(task.id)));
        if page.next_after_id == 0 {
            return Ok(ids);
        }
        request.after_id = page.next_after_id;
    }
}
