//! `ctl retry`.

use futures::stream;
use orchestra_proto::{
    Refused,
    v1::{self, retried::Answer},
};
use orchestra_types::{Budget, BudgetChange, FailureCode, Measure, TaskId, TaskStatus, limits};

use crate::{
    app::App,
    changing,
    client::Client,
    commands::budget::{set_task, used_up},
    commands::{
        Order, each_task, refusal, show_answers,
        tasks::StatusFilter,
        which::{Found, Which},
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
  ctl retry --submitter $USER             your own failed tasks, on a shared cluster
  ctl retry --all                         every failed task
  ctl retry task_007 --budget 2usd        and first raise what it may use")]
#[command(mut_arg("all", |arg| arg.help("Every task that has failed")))]
#[command(mut_arg("label", |arg| arg.help("Every one with this label that has failed; repeat it for more")))]
#[command(mut_arg("status", |arg| arg.help("Every one with this status: failed, cancelled or needs_review; repeat it or use commas")
    .value_parser(StatusFilter::named_for(StatusFilter::retryable))))]
#[command(mut_arg("submitter", |arg| arg.help("Every one of this submitter that has failed: user@host, or the user on whatever machine")))]
#[command(mut_arg("project", |arg| arg.help("Every one of this project, by name or id, that has failed")))]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// First add this to the limits that each of them has, as 100k-tokens,2usd,30m. One that lacks such a
    /// limit is not tried again, and ctl says which budget holds it
    #[arg(long, value_name = "BUDGET", allow_hyphen_values = true)]
    budget: Option<Budget>,
}

/// Whoever has no answer sees by it what is tried again.
const LOOK: &str =
    "look first, `ctl tasks` shows what is tried again: to say it twice could be two attempts";

/// Retries the tasks.
pub async fn run(app: &App, args: Args) -> Result<Exit> {
    args.which.require_some()?;
    let client = app.connect().await?;
    let (named, budget) = (args.which.are_named(), args.budget);
    let Found { tasks, none } = args.which.find(&client, retryable).await?;
    if tasks.is_empty() && !app.ui.is_json() {
        app.ui.next(format!("{none}; nothing is tried again"));
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

/// What can be tried again of that.
fn retryable(filters: &[StatusFilter]) -> Result<Vec<TaskStatus>> {
    let statuses = StatusFilter::retryable(filters);
    if statuses.is_empty() {
        return Err(
            Error::usage("no task with this status can be tried again").hint(
                "--status failed, cancelled or needs_review; `ctl cancel` ends what has not ended",
            ),
        );
    }
    Ok(statuses)
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
    // A second retry could be another attempt.
    let call = async { client.admin().retry_tasks(request).await };
    let answers = changing::once(call, LOOK).await?.answers;
    if answers.len() != ids.len() {
        return Err(refused(Refused::new("answers", "not one for each task")));
    }
    let answers = answers.into_iter().map(|retried| match retried.answer {
        Some(Answer::Task(task)) => Task::read(task),
        Some(Answer::Refused(why)) => Err(refusal(why)),
        None => Err(refused(Refused::new("answer", "is missing"))),
    });
    let each = ids.iter().zip(answers);
    Ok(each
        .map(|(id, answer)| answer.map_err(|e| e.about(*id)))
        .collect())
}

async fn raise_and_retry(client: &Client, id: TaskId, budget: Budget) -> Result<Task> {
    let now = client.task(id).await?;
    if may_be_refused_anyway(&now) && has_limits(&now, budget) {
        // First, so that nothing is raised in vain: subtasks would go on by it.
        retry(client, id).await?;
        return set_task(client, id, BudgetChange::Add(budget)).await;
    }
    let task = match set_task(client, id, BudgetChange::Add(budget)).await {
        Ok(task) => task,
        Err(error) if error.exit() == Exit::Refused => {
            let task = client.task(id).await.ok();
            return Err(not_raised(error, task.as_ref()));
        }
        Err(error) => return Err(error),
    };
    if !task.status.is_ended() {
        return Ok(task); // It goes on by that alone.
    }
    retry(client, id).await
}

async fn retry(client: &Client, id: TaskId) -> Result<Task> {
    let request = v1::RetryTaskRequest { id: id.0 };
    Task::read(changing::once(async { client.admin().retry_task(request).await }, LOOK).await?)
}

/// Whether it may be refused for something else than a budget: it has succeeded, or is cancelled and comes after one
/// that has not.
fn may_be_refused_anyway(task: &Task) -> bool {
    task.status == TaskStatus::Succeeded
        || task.status == TaskStatus::Cancelled && !task.waits_for.is_empty()
}

/// Whether it has each limit that is to be raised, so that the raise is not refused.
fn has_limits(task: &Task, raise: Budget) -> bool {
    let has = task
        .budget
        .map(|budget| budget.budget())
        .unwrap_or_default();
    Measure::ALL
        .into_iter()
        .all(|measure| has.limits(measure) || !raise.limits(measure))
}

/// Without a raise it is tried again where no budget stands against that; the error itself says what else
/// there is to do. What a task above it may use is not known here.
fn not_raised(error: Error, task: Option<&Task>) -> Error {
    let free = |task: &&Task| {
        let may_be_retried = match task.status {
            TaskStatus::Failed | TaskStatus::Cancelled | TaskStatus::NeedsReview => true,
            TaskStatus::Blocked
            | TaskStatus::Queued
            | TaskStatus::Assigned
            | TaskStatus::Running
            | TaskStatus::Succeeded => false,
        };
        let stopped = task.reason.as_ref();
        let stopped = stopped.is_some_and(|why| why.code == FailureCode::BudgetExceeded);
        may_be_retried && !stopped && task.parent.is_none() && used_up(task).is_none()
    };
    match task.filter(free) {
        Some(Task { id, .. }) => {
            error.hint(format!("`ctl retry {id}` tries it again without a raise"))
        }
        None => error,
    }
}
