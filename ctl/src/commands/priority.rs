//! `ctl priority`.

use std::{cell::RefCell, collections::BTreeMap};

use orchestra_proto::v1;
use orchestra_types::{Priority, TaskId, TaskStatus};

use crate::{
    app::App,
    changing,
    client::Client,
    commands::{
        Order, change, each_task_changed,
        tasks::StatusFilter,
        which::{Found, Which},
    },
    error::{Error, Result},
    exit::Exit,
    json::task::Task,
    values,
};

/// Give open tasks another priority: high, normal or low
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A waiting task takes its place among those of its new priority at once, as if it had been submitted
with it. One that runs keeps running; its next attempt counts with the new priority. One that needs review
is not open: first try it again.

Examples:
  ctl priority task_007 high
  ctl priority 3 4 5 low
  ctl priority --label area=docs low        every open task with this label
  ctl priority --status pending --submitter $USER high
  ctl priority --all normal                 every open task")]
#[command(allow_missing_positional = true)]
#[command(mut_arg("all", |arg| arg.help("Every open task")))]
#[command(mut_arg("label", |arg| arg.help("Every open one with this label; repeat it for more")))]
#[command(mut_arg("status", |arg| arg.help("Every one with this status: open, active, pending, or an exact status; repeat it or use commas")
    .value_parser(StatusFilter::named_for(StatusFilter::open))))]
#[command(mut_arg("submitter", |arg| arg.help("Every open one of this submitter: user@host, or the user on whatever machine")))]
#[command(mut_arg("project", |arg| arg.help("Every open one of this project, by name or id")))]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// How much they matter now
    #[arg(value_name = "PRIORITY", required = true, value_parser = values::priority(), hide_possible_values = true)]
    priority: Priority,
}

/// Changes the priority of the tasks.
pub async fn run(app: &App, args: Args) -> Result<Exit> {
    args.which.require_some()?;
    let client = app.connect().await?;
    let named = args.which.are_named();
    let Found { tasks, none } = args.which.find(&client, open).await?;
    if tasks.is_empty() && !app.ui.is_json() {
        app.ui.next(format!("{none}; no priority was changed"));
    }
    let before = RefCell::new(BTreeMap::new());
    let set_one = async |id: TaskId| {
        // Another person may change it in between: what is told is how it was a moment ago.
        let known = client.task(id).await?;
        before.borrow_mut().insert(id, known.priority);
        match set(&client, id, args.priority).await {
            // One that was only found by an option, and has ended since, is shown as it is.
            Err(error) if !named && error.exit() == Exit::Refused => client.task(id).await,
            set => set,
        }
    };
    each_task_changed(app, tasks, Order::Any, set_one, |task| {
        let before = before.borrow().get(&task.id).map(Priority::to_string);
        change("priority", before, task.priority.as_str())
    })
    .await
}

async fn set(client: &Client, id: TaskId, priority: Priority) -> Result<Task> {
    let request = v1::SetPriorityRequest {
        id: id.0,
        priority: v1::Priority::from(priority).into(),
    };
    Task::read(changing::patiently(async || client.admin().set_priority(request).await).await?)
}

/// What can have another priority of that.
fn open(filters: &[StatusFilter]) -> Result<Vec<TaskStatus>> {
    let statuses = StatusFilter::open(filters);
    if statuses.is_empty() {
        return Err(Error::usage("a task with this status is not open")
            .hint("first try it again: `ctl retry --status STATUS`"));
    }
    Ok(statuses)
}
