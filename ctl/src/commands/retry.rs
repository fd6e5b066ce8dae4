//! `ctl retry`.

use orchestra_proto::v1;
use orchestra_types::{Budget, BudgetChange, TaskId};

use crate::{
    app::App,
    client::status_error,
    commands::budget::set_task,
    commands::{Order, each_task},
    error::{Error, Result},
    exit::Exit,
    json::task::Task,
};

/// Run tasks again that have ended without success
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The tasks, as task_001 or 1
    #[arg(value_name = "TASK", required = true)]
    tasks: Vec<TaskId>,
    /// First add this to the limits that each of them has, as 100k-tokens,2usd,30m. One that lacks such a
    /// limit is not tried again, and ctl says which budget holds it
    #[arg(long, value_name = "BUDGET")]
    budget: Option<Budget>,
}

/// Retries the tasks.
pub async fn run(app: &App, args: Args) -> Result<Exit> {
    let client = app.connect().await?;
    each_task(app, args.tasks, Order::AsNamed, async |id| {
        if let Some(budget) = args.budget {
            let raised = set_task(&client, id, BudgetChange::Add(budget)).await;
            let task = raised.map_err(|e| not_raised(e, id))?;
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

fn not_raised(error: Error, id: TaskId) -> Error {
    match error.exit() {
        Exit::Refused => error.hint(format!("`ctl retry {id}` tries it again without a raise")),
        _ => error,
    }
}
