//! `ctl retry`.

use futures::stream;
use orchestra_proto::{
    Refused,
    v1::{self, retried::Answer},
};
use orchestra_types::{Budget, BudgetChange, TaskId, limits};

use crate::{
    app::App,
    client::{Client, status_error},
    commands::budget::set_task,
    commands::{
        Order,
        add::pair,
        each_once, each_task, refusal, show_answers,
        tasks::{StatusFilter, find},
    },
    error::{Error, Result},
    exit::Exit,
    json::{refused, task::Task},
    ui::time::counted,
};

/// Run tasks again that have ended without success
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ctl retry task_007 8
  ctl retry --label area=docs             every failed task with this label
  ctl retry --status cancelled --project shop
  ctl retry --all                         every failed task
  ctl retry task_007 --budget 2usd        and first raise what it may use")]
pub struct Args {
    /// The tasks, as task_001 or 1
    #[arg(value_name = "TASK")]
    tasks: Vec<TaskId>,
    /// Every task that has failed
    #[arg(long, conflicts_with = "tasks")]
    all: bool,
    /// Every one with this label that has failed; repeat it for more
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = pair, conflicts_with = "tasks")]
    label: Vec<(String, String)>,
    /// Every one with this status: failed, cancelled or needs_review; repeat it or use commas
    #[arg(
        long,
        short,
        value_name = "STATUS",
        value_delimiter = ',',
        value_parser = StatusFilter::named(),
        hide_possible_values = true,
        conflicts_with = "tasks"
    )]
    status: Vec<StatusFilter>,
    /// Every one of this project, by name or id, that has failed
    #[arg(long, value_name = "PROJECT", conflicts_with = "tasks")]
    project: Option<String>,
    /// First add this to the limits that each of them has, as 100k-tokens,2usd,30m. One that lacks such a
    /// limit is not tried again, and ctl says which budget holds it
    #[arg(long, value_name = "BUDGET")]
    budget: Option<Budget>,
}

impl Args {
    fn means_nothing(&self) -> bool {
        let chosen = self.all || !self.label.is_empty() || !self.status.is_empty();
        self.tasks.is_empty() && !chosen && self.project.is_none()
    }
}

/// Retries the tasks.
pub async fn run(app: &App, args: Args) -> Result<Exit> {
    if args.means_nothing() {
        return Err(Error::usage("which tasks?").hint(
            "name them, or choose with --label KEY=VALUE, --status STATUS, --project PROJECT or --all",
        ));
    }
    let client = app.connect().await?;
    let (named, budget) = (!args.tasks.is_empty(), args.budget);
    let tasks = if named {
        each_once(args.tasks)
    } else {
        chosen(&client, args).await?
    };
    if tasks.is_empty() && !app.ui.is_json() {
        app.ui.next("no such task; nothing is tried again");
    }
    if let Some(budget) = budget {
        return each_task(app, tasks, Order::AsNamed, async |id| {
            raise_and_retry(&client, id, budget).await
        })
        .await;
    }
    let answers = retry_all(&client, &tasks).await;
    let again = answers.iter().filter(|answer| answer.is_ok()).count();
    if !named && again > 0 && !app.ui.is_json() {
        let again = counted(again as u64, "task");
        app.ui.next(format!("to be tried again: {again}"));
    }
    show_answers(app, stream::iter(answers)).await
}

/// The tasks that the options mean and that can be tried again.
async fn chosen(client: &Client, args: Args) -> Result<Vec<TaskId>> {
    let statuses = StatusFilter::retryable(&args.status);
    if statuses.is_empty() {
        return Err(
            Error::usage("no task with this status can be tried again").hint(
                "--status failed, cancelled or needs_review; `ctl cancel` ends what has not ended",
            ),
        );
    }
    find(client, statuses, args.label, args.project).await
}

/// Tries all again, in this order: one that comes after another one is refused before that one.
async fn retry_all(client: &Client, tasks: &[TaskId]) -> Vec<Result<Task>> {
    let mut answers = Vec::with_capacity(tasks.len());
    for ids in tasks.chunks(limits::CHANGE_TASKS_MAX) {
        match retry_some(client, ids).await {
            Ok(some) => answers.extend(some),
            Err(error) => {
                answers.push(Err(error));
                break;
            }
        }
    }
    answers
}

async fn retry_some(client: &Client, ids: &[TaskId]) -> Result<Vec<Result<Task>>> {
    let request = v1::RetryTasksRequest {
        ids: ids.iter().map(|id| id.0).collect(),
    };
    // Not repeated by itself: a second retry could be another attempt.
    let answer = client.admin().retry_tasks(request).await;
    let answers = answer.map_err(|s| status_error(&s))?.into_inner().answers;
    if answers.len() != ids.len() {
        return Err(refused(Refused::new("answers", "not one for each task")));
    }
    let answers = answers.into_iter().map(|retried| match retried.answer {
        Some(Answer::Task(task)) => Task::read(task),
        Some(Answer::Refused(why)) => Err(refusal(why)),
        None => Err(refused(Refused::new("answer", "is missing"))),
    });
    Ok(answers.collect())
}

async fn raise_and_retry(client: &Client, id: TaskId, budget: Budget) -> Result<Task> {
    let raised = set_task(client, id, BudgetChange::Add(budget)).await;
    let task = raised.map_err(|e| not_raised(e, id))?;
    if !task.status.is_ended() {
        return Ok(task); // It goes on by that alone.
    }
    let request = v1::RetryTaskRequest { id: id.0 };
    let answer = client.admin().retry_task(request).await;
    Task::read(answer.map_err(|s| status_error(&s))?.into_inner())
}

fn not_raised(error: Error, id: TaskId) -> Error {
    match error.exit() {
        Exit::Refused => error.hint(format!("`ctl retry {id}` tries it again without a raise")),
        _ => error,
    }
}
