//! `ctl priority`.

use std::{cell::RefCell, collections::BTreeMap};

use orchestra_proto::v1;
use orchestra_types::{Priority, TaskId};

use crate::{
    app::App,
    changing,
    commands::{Order, change, each_task_changed},
    error::Result,
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
    let before = RefCell::new(BTreeMap::new());
    let set = async |id: TaskId| {
        // Another person may change it in between: what is told is how it was a moment ago.
        let known = client.task(id).await?.priority;
        before.borrow_mut().insert(id, known);
        let request = v1::SetPriorityRequest {
            id: id.0,
            priority: v1::Priority::from(args.priority).into(),
        };
        Task::read(changing::patiently(async || client.admin().set_priority(request).await).await?)
    };
    each_task_changed(app, args.tasks, Order::Any, set, |task| {
        let before = before.borrow().get(&task.id).map(Priority::to_string);
        change("priority", before, task.priority.as_str())
    })
    .await
}
