//! A task in one line, and the pieces of it that several commands show.

use std::collections::BTreeMap;

use orchestra_types::{Priority, TaskStatus, Timestamp, limits::cut};

use super::{
    again::Again,
    escape::line,
    now,
    reason::Why,
    status,
    style::{Line, Style},
    table::{Cell, Table},
    time::ago,
    width::fit,
};
use crate::json::task::Task;

/// How much is shown of the id of a worker that has no name.
const ID_BYTES_SHOWN: usize = 8;

/// The description in one line of at most `max` columns.
pub fn summary(task: &Task, max: usize) -> String {
    fit(&line(&task.description), max)
}

/// The time of day in the local time zone: `14:13:20`.
pub fn clock(moment: Timestamp) -> String {
    let moment = i64::try_from(moment.0)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let zoned = moment
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
        .to_zoned(jiff::tz::TimeZone::system());
    zoned.strftime("%H:%M:%S").to_string()
}

/// A table of tasks; `names` are the workers' names by id.
pub fn task_table(tasks: &[Task], names: &BTreeMap<String, String>) -> Table {
    let now = now();
    let mut table = Table::new(&[
        "ID",
        "STATUS",
        "PRIORITY",
        "RUNNER",
        "WORKER",
        ">AGE",
        "DESCRIPTION…",
    ])
    .sparing(&["PRIORITY", "WORKER", "AGE", "RUNNER"]);
    for task in tasks {
        table.row(vec![
            Cell::new(task.id.to_string(), Style::Bold),
            Cell::new(status::told(task), status::style(task.status)),
            Cell::new(task.priority.as_str(), priority_style(task)),
            line(task.runner.as_deref().unwrap_or("any"))
                .into_owned()
                .into(),
            worker_name(task, names).into(),
            Cell::new(age(task, now), Style::Dim),
            described(task).into(),
        ]);
    }
    table
}

/// The name of the task's worker; `-` before it has one.
pub fn worker_name(task: &Task, names: &BTreeMap<String, String>) -> String {
    let Some(id) = &task.worker else {
        return "-".to_owned();
    };
    worker_called(id, names)
}

/// What people call a worker. The id of one whose name nobody knows any more says little, and is long.
pub fn worker_called(id: &str, names: &BTreeMap<String, String>) -> String {
    let unnamed = || cut(id, ID_BYTES_SHOWN);
    line(&names.get(id).cloned().unwrap_or_else(unnamed)).into_owned()
}

/// How long it has been in its present state, about.
fn age(task: &Task, now: Timestamp) -> String {
    let since = task
        .finished_at
        .or(task.started_at)
        .unwrap_or(task.created_at);
    ago(since.0, now)
}

/// The description, and why the task is not simply going on; what can be typed has no room here.
fn described(task: &Task) -> String {
    let description = line(&task.description);
    match Why::of(task) {
        Some(Why { what, .. })
            if !what.is_empty()
                && !matches!(task.status, TaskStatus::Succeeded | TaskStatus::Cancelled) =>
        {
            format!("{}  ({what})", fit(&description, 48))
        }
        Some(_) | None => description.into_owned(),
    }
}

fn priority_style(task: &Task) -> Style {
    match task.priority {
        Priority::High => Style::Attention,
        Priority::Normal => Style::Plain,
        Priority::Low => Style::Dim,
    }
}

/// One step of a task, for a feed: `14:13:20  ● running  task_001  Create README.md`.
pub fn step(task: &Task, again: Again) -> Line {
    let status = format!(
        "  {} {:<13}",
        status::symbol(task.status),
        status::words(task.status)
    );
    let line = Line::of(Style::Dim, clock(now()))
        .with(status::style(task.status), status)
        .with(Style::Bold, format!("{}  ", task.id))
        .with(Style::Plain, summary(task, 60));
    match Why::of(task) {
        Some(why) => line.with(Style::Dim, format!("  {}", why.whole(again))),
        None => line,
    }
}
