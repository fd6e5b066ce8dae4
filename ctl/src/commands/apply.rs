//! `ctl apply`.

use std::path::PathBuf;

use orchestra_types::TaskId;
use serde_json::{Value, json};

use crate::{
    app::App,
    apply::{self, Applied, Done, How},
    error::Result,
    exit::Exit,
    ui::{
        Ui,
        style::{Line, Style},
        time::counted,
    },
};

/// Put a task's change into your checkout
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Three-way where your HEAD has moved on. Never over uncommitted edits of the same file: then nothing
is touched, the files are named, and the exit code is 5. Index, HEAD and your branches stay as they
are; the change is also the branch orchestra/TASK.

Examples:
  ctl diff task_001 && ctl apply task_001
  ctl apply task_001 --branch && git merge orchestra/task_001")]
pub struct Args {
    /// The task, as task_001 or 1
    #[arg(value_name = "TASK")]
    task: TaskId,
    /// Only make the branch orchestra/TASK; no file changes
    #[arg(long)]
    branch: bool,
    /// The checkout. Default: the current directory's, else the one that the task came from
    #[arg(long, value_name = "DIR")]
    repo: Option<PathBuf>,
}

/// Applies the change.
pub async fn run(app: &App, args: Args) -> Result<Exit> {
    let client = app.connect().await?;
    let task = client.task(args.task).await?;
    let how = if args.branch {
        How::Branch
    } else {
        How::WorkTree
    };
    let applied = apply::apply(app, &client, &task, args.repo.as_deref(), how).await?;
    match (applied, app.ui.is_json()) {
        (applied, true) => app.ui.document(&document(task.id, applied))?,
        (Applied::Change(done), false) => tell(&app.ui, &done)?,
        (Applied::Nothing, false) => {
            let id = task.id;
            app.ui
                .next(format!("{id} changed no files; there is nothing to apply"));
        }
    }
    Ok(Exit::Ok)
}

/// `ctl apply --json`.
fn document(id: TaskId, applied: Applied) -> Value {
    match applied {
        Applied::Change(Done {
            checkout,
            branch,
            files,
        }) => json!({ "id": id, "checkout": checkout, "branch": branch, "files": files }),
        Applied::Nothing => json!({ "id": id, "checkout": null, "branch": null, "files": 0 }),
    }
}

/// Says what was done.
fn tell(ui: &Ui, done: &Done) -> Result<()> {
    let dir = done.checkout.display();
    let said = |what: &str, name: String, place: String| {
        let line = Line::of(Style::Good, what).with(Style::Plain, name);
        ui.line(&line.with(Style::Dim, place))
    };
    match (done.files, &done.branch) {
        (Some(files), Some(branch)) => {
            let place = format!("  in {dir}; also the branch {branch}");
            said("✓ applied ", counted(files, "file"), place)?;
            ui.next("next: git diff");
        }
        (Some(files), None) => {
            said("✓ applied ", counted(files, "file"), format!("  in {dir}"))?;
        }
        (None, branch) => {
            let branch = branch.as_deref().unwrap_or_default();
            said("✓ branch ", branch.to_owned(), format!("  in {dir}"))?;
            ui.next(format!("next: git merge {branch}"));
        }
    }
    Ok(())
}
