//! `ctl watch`.

use std::{collections::BTreeMap, time::Duration};

use orchestra_types::{TaskId, TaskStatus};

use crate::{
    app::App,
    error::Result,
    exit::Exit,
    follow::Changes,
    json::task::Task,
    ui::{
        live::Live,
        status::counts,
        style::{Line, Style},
        task::{step, task_table},
        time::counted,
    },
};

/// Tasks that the table shows.
const SHOWN_MAX: usize = 30;

/// Show tasks as they change, until Ctrl-C
#[derive(Debug, clap::Args)]
#[command(after_help = "\
On a terminal a table that is always up to date; elsewhere, and with --json, one line for each
change.")]
pub struct Args {
    /// Only these tasks, as task_001 or 1. Default: all that are open, and new ones
    #[arg(value_name = "TASK")]
    tasks: Vec<TaskId>,
}

/// Watches.
pub async fn run(app: &App, args: Args) -> Result<Exit> {
    let client = app.connect().await?;
    let live = Live::plain(app.ui);
    let mut changes = Changes::open(&client, &args.tasks, live.voice()).await?;
    let names = client.worker_names().await?;
    let none = match args.tasks.is_empty() {
        true => none_open(&client.status().await?.tasks),
        false => String::new(),
    };
    let mut known = BTreeMap::new();
    let mut second = tokio::time::interval(Duration::from_secs(1));
    loop {
        if live.is_seen() && !app.ui.is_json() {
            live.show(&picture(app.ui.stderr.width, &known, &names, &none));
        }
        let news = tokio::select! {
            news = changes.next() => news?,
            _ = second.tick(), if live.is_seen() => continue,
        };
        if let Some(id) = news.forgotten.iter().find(|id| !known.contains_key(*id)) {
            // The same as everybody says of it.
            client.task(*id).await?;
        }
        for task in news.tasks {
            let state = |t: &Task| (t.status, t.attempt, t.cancel_requested);
            let news = known.get(&task.id).map(state) != Some(state(&task));
            if news && app.ui.is_json() {
                app.ui.document_line(&task)?;
            } else if news && !live.is_seen() {
                app.ui.line(&step(&task, app.ui.again))?;
            }
            known.insert(task.id, task);
        }
    }
}

fn picture(
    width: Option<usize>,
    known: &BTreeMap<TaskId, Task>,
    names: &BTreeMap<String, String>,
    none: &str,
) -> Vec<Line> {
    let mut by_status: BTreeMap<TaskStatus, u64> = BTreeMap::new();
    for task in known.values() {
        *by_status.entry(task.status).or_default() += 1;
    }
    let shown = latest(known);
    let mut lines = task_table(&shown, names).lines(width);
    lines.push(Line::default());
    let counts = match known.is_empty() {
        true => Line::of(Style::Dim, none),
        false => {
            let finishing = known.values().filter(|task| task.finishing);
            counts(by_status, finishing.count() as u64)
        }
    };
    lines.push(counts.with(Style::Dim, "   Ctrl-C ends the watch, not the tasks"));
    lines
}

/// What is said while no task is shown, where there were so many of each status; nothing while those that are
/// open are on their way.
fn none_open(by_status: &BTreeMap<String, u64>) -> String {
    let of = |ended: bool| -> u64 {
        let statuses = TaskStatus::ALL.iter().filter(|s| s.is_ended() == ended);
        statuses.filter_map(|s| by_status.get(s.as_str())).sum()
    };
    match (of(false), of(true)) {
        (0, 0) => "no tasks yet".to_owned(),
        (0, ended) => format!("no task is open; {} ended before", counted(ended, "task")),
        (_, _) => String::new(),
    }
}

/// The tasks that matter most in as many rows as there are: those that have not ended, then the
/// latest ones; in the order of their ids.
fn latest(known: &BTreeMap<TaskId, Task>) -> Vec<Task> {
    let mut tasks: Vec<&Task> = known.values().collect();
    tasks.sort_by_key(|task| (task.status.is_ended(), std::cmp::Reverse(task.id)));
    tasks.truncate(SHOWN_MAX);
    tasks.sort_by_key(|task| task.id);
    tasks.into_iter().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_its_colours_on_a_terminal() {
        let lines = picture(None, &BTreeMap::new(), &BTreeMap::new(), "no tasks yet");
        let titles = lines[0].render(true);
        assert!(titles.starts_with("\x1b[2mID\x1b[0m  "), "{titles:?}");
        assert!(!titles.contains("\\x1b"), "{titles:?}");
    }

    #[test]
    fn there_are_tasks_where_all_have_ended() {
        let said = |queued, succeeded| {
            let counts = [("queued", queued), ("succeeded", succeeded)];
            none_open(&counts.map(|(status, n)| (status.to_owned(), n)).into())
        };
        assert_eq!(said(0, 0), "no tasks yet");
        assert_eq!(said(0, 1), "no task is open; 1 task ended before");
        assert_eq!(said(2, 1), "", "those come at once");
    }
}
