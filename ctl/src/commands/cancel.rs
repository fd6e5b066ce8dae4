//! `ctl cancel`.

use std::cmp::Reverse;

use futures::{StreamExt, stream};
use orchestra_proto::{
    Refused,
    v1::{self, cancelled::Answer},
};
use orchestra_types::{TaskId, limits};
use tonic::{Code, Status};

use crate::{
    app::App,
    client::{Client, patiently, status_error},
    commands::{add::pair, each_once, show_answers, tasks::StatusFilter},
    error::{Error, Result},
    exit::Exit,
    json::{refused, task::Task},
};

/// How many tasks are asked for at a time.
const PAGE: u32 = 1000;
/// How many calls wait for their answer at a time.
const AT_ONCE: usize = 8;

/// Cancel tasks; the work of a running agent so far is kept
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ctl cancel task_007 8
  ctl cancel --label area=docs          every task with this label that has not ended
  ctl cancel --status queued            everything that has not been given to a worker
  ctl cancel --status needs_review      everything that waits for a person: nothing more is wanted of it
  ctl cancel --all")]
pub struct Args {
    /// The tasks, as task_001 or 1
    #[arg(value_name = "TASK")]
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

impl Args {
    fn means_nothing(&self) -> bool {
        let chosen = self.all || !self.label.is_empty() || !self.status.is_empty();
        self.tasks.is_empty() && !chosen && self.project.is_none()
    }
}

/// Cancels the tasks.
pub async fn run(app: &App, args: Args) -> Result<Exit> {
    if args.means_nothing() {
        return Err(Error::usage("which tasks?").hint(
            "name them, or choose with --label KEY=VALUE, --status STATUS, --project PROJECT or --all",
        ));
    }
    let client = app.connect().await?;
    let named = !args.tasks.is_empty();
    let tasks = if named {
        each_once(args.tasks)
    } else {
        chosen(&client, args).await?
    };
    if tasks.is_empty() && !app.ui.is_json() {
        app.ui.next("no such task; nothing was cancelled");
    }
    let answers = cancel_all(&client, &tasks, named).await;
    show_answers(app, stream::iter(answers)).await
}

/// Cancels all, and answers in the same order. The latest go first: each task that a cancelled one
/// keeps back is told of it, and those of a chain that are gone before need not be.
async fn cancel_all(client: &Client, tasks: &[TaskId], named: bool) -> Vec<Result<Task>> {
    let mut places: Vec<usize> = (0..tasks.len()).collect();
    places.sort_by_key(|place| Reverse(tasks[*place]));
    let answers = stream::iter(places.chunks(limits::CANCEL_TASKS_MAX))
        .map(async |places| {
            let ids: Vec<TaskId> = places.iter().map(|place| tasks[*place]).collect();
            places.iter().zip(cancel(client, &ids, named).await)
        })
        .buffered(AT_ONCE)
        .flat_map(stream::iter);
    let mut answers: Vec<(&usize, Result<Task>)> = answers.collect().await;
    answers.sort_by_key(|(place, _)| *place);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

/// Cancels some tasks in one call. What is said of one that ended before it could be cancelled
/// depends on whether it was `named`: one that was only found by an option is shown as it is.
async fn cancel(client: &Client, ids: &[TaskId], named: bool) -> Vec<Result<Task>> {
    let request = v1::CancelTasksRequest {
        ids: ids.iter().map(|id| id.0).collect(),
    };
    let call = patiently(async || client.admin().cancel_tasks(request.clone()).await).await;
    let answers = match call {
        Ok(response) if response.answers.len() == ids.len() => response.answers,
        Ok(_) => {
            return vec![Err(refused(Refused::new(
                "answers",
                "not one for each task",
            )))];
        }
        Err(error) => return vec![Err(error)],
    };
    let mut tasks = Vec::with_capacity(ids.len());
    for (&id, cancelled) in ids.iter().zip(answers) {
        tasks.push(match cancelled.answer {
            Some(Answer::Task(task)) => Task::read(task),
            Some(Answer::Refused(why)) if !named && has_ended(&why) => client.task(id).await,
            Some(Answer::Refused(why)) => Err(refusal(why)),
            None => Err(refused(Refused::new("answer", "is missing"))),
        });
    }
    tasks
}

fn has_ended(why: &v1::Refusal) -> bool {
    Code::from_i32(why.code) == Code::FailedPrecondition
}

fn refusal(why: v1::Refusal) -> Error {
    status_error(&Status::new(Code::from_i32(why.code), why.message))
}

/// The tasks that the options mean and that can be cancelled.
async fn chosen(client: &Client, args: Args) -> Result<Vec<TaskId>> {
    let statuses = StatusFilter::cancellable(&args.status);
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
