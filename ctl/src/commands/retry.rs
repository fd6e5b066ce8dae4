//! `ctl retry`.

use orchestra_proto::v1;
use orchestra_types::{Budget, TaskId};

use crate::{
    app::App,
    client::status_error,
    commands::budget::set_task,
    commands::{Order, each_task},
    error::Result,
    exit::Exit,
    json::task::Task,
};

/// Run tasks again that have ended without success
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The tasks, as task_001 or 1
    #[arg(value_name = "TASK", required = true)]
    tasks: Vec<TaskId>,
    /// Raise what each of them may use first, as 100k-tokens,2usd,30m
    #[arg(long, value_name = "BUDGET")]
    budget: Option<Budget>,
}

/// Retries the tasks.
pub async fn run(app: &App, args: Args) -> Result<Exit> {
    let client = app.connect().await?;
    each_task(app, args.tasks, Order::AsNamed, async |id| {
        if let Some(budget) = args.budget {
            let task = set_task(&client, id, budget, true).await?;
            if !task.status.is_ended() {
                return Ok(task); // It goes on by that alone.
            }
        }
        // Not repeated by itself: a second retry would be another attempt.
        let answer = client
            .admin()
            .retry_task(v1::RetryTaskRequest { id: id.0 })
            .await;
        Task::read(answer.map_err(|s| status_error(&s))?.into_inner())
    })
    .await
}
