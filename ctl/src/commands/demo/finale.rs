//! What the demo ends with: the tasks, the diff, where everything lies, what to type next.

use std::path::Path;

use orchestra_types::TaskId;
use serde_json::json;

use super::{cluster::Cluster, stage::Stage};
use crate::{
    app::App,
    commands::diff,
    error::Result,
    json::task::Task,
    ui::{
        style::{Line, Style},
        task::task_table,
    },
};

/// The tasks and what they changed.
pub async fn show(app: &App, cluster: &Cluster, stage: &Stage, ids: &[TaskId]) -> Result<()> {
    let mut tasks = Vec::new();
    for id in ids {
        tasks.push(cluster.client.whole_task(*id).await?);
    }
    if app.ui.is_json() {
        app.ui
            .document(&json!({ "tasks": tasks, "dir": stage.dir(), "model": "scripted" }))?;
        return Ok(());
    }
    let names = cluster.client.worker_names().await?;
    app.ui.say("");
    app.ui.table(&task_table(&tasks, &names))?;
    for task in tasks.iter().filter(|task| changed_files(task)) {
        app.ui.say("");
        app.ui
            .note(&Line::of(Style::Bold, format!("ctl diff {}", task.id)));
        diff::show(app, &cluster.client, task, None).await?;
    }
    app.ui.say("");
    Ok(())
}

fn changed_files(task: &Task) -> bool {
    task.changes.is_some_and(|changes| changes.files > 0)
}

/// Where everything lies, and what to type next.
pub fn next_steps(app: &App, stage: &Stage, ended_well: bool) {
    let ctl = program() + app.ui.again.options();
    let (dir, repo, state) = (stage.dir(), stage.repo(), stage.cluster());
    let lines = [
        "Everything is stopped. Only the model was scripted; what it did is kept:".to_owned(),
        format!(
            "  {}  the changed repository, with context/",
            repo.display()
        ),
        format!("  {}  queue, events, results, logs", state.display()),
        format!("  {}  what the model was asked", stage.record().display()),
        format!("  rm -r {}  when you have seen enough", dir.display()),
        String::new(),
        "Next, with your own claude, codex, gemini, opencode or goose on PATH:".to_owned(),
        "  cd ~/your/project".to_owned(),
        format!("  {ctl} start --detach"),
        format!("  {ctl} add \"Create a CONTRIBUTING.md for this project\" --follow"),
    ];
    let shown = if ended_well { &lines[..] } else { &lines[..5] };
    shown.iter().for_each(|line| app.ui.say(line));
}

/// How this program is called: `ctl` where PATH leads to it, else its path.
fn program() -> String {
    let Ok(me) = std::env::current_exe() else {
        return "ctl".to_owned();
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_me = |dir: std::path::PathBuf| same(&dir.join("ctl"), &me);
    if std::env::split_paths(&path).any(is_me) {
        "ctl".to_owned()
    } else {
        me.display().to_string()
    }
}

fn same(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}
