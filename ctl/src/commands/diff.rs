//! `ctl diff`.

mod stat;

use orchestra_types::{Artifact, ArtifactKind, TaskId};
use serde_json::json;

use self::stat::Stat;
use crate::{
    app::App,
    client::Client,
    error::{Error, Result},
    exit::Exit,
    json::{
        attempt::Attempt,
        task::{Task, Workplace},
    },
    stored,
    ui::{
        Ui,
        escape::{block, naming},
        style::{Line, Style},
        time::counted,
    },
};

/// Largest patch that is shown on a terminal or in a document: 64 MiB.
const SHOWN_MAX: u64 = 64 * 1024 * 1024;

/// Show a task's change as a patch
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ctl diff task_001
  ctl diff task_001 --stat                   only the files, with the lines of each and of all
  ctl diff task_001 | git apply --check      byte for byte when not on a terminal")]
pub struct Args {
    /// The task, as task_001 or 1
    #[arg(value_name = "TASK")]
    pub(super) task: TaskId,
    /// Which attempt. Default: the latest that has left anything
    #[arg(long, value_name = "N")]
    attempt: Option<u32>,
    /// Show the changed files with their added and removed lines, and the sum, instead of the patch
    #[arg(long)]
    stat: bool,
}

/// Shows the patch.
pub async fn run(app: &App, args: Args) -> Result<Exit> {
    let client = app.connect().await?;
    let task = client.task(args.task).await?;
    if args.stat {
        return show_stat(app, &client, &task, args.attempt).await;
    }
    show(app, &client, &task, args.attempt).await
}

/// Shows the patch of an attempt of a task, or of the one that its result is of.
pub async fn show(app: &App, client: &Client, task: &Task, attempt: Option<u32>) -> Result<Exit> {
    let attempt = task.meant(&app.ui, attempt)?;
    match patch_of(task, attempt)? {
        patch if app.ui.is_json() => {
            let text = match patch {
                Some(patch) => stored::read(client, patch, SHOWN_MAX).await?,
                None => Vec::new(),
            };
            let text = String::from_utf8_lossy(&text);
            app.ui
                .document(&json!({ "id": task.id, "attempt": attempt.number, "patch": text }))?;
        }
        None => say_unchanged(&app.ui, task, attempt),
        Some(patch) if app.ui.stdout.terminal => {
            let text = stored::read(client, patch, SHOWN_MAX).await?;
            let text = block(&String::from_utf8_lossy(&text)).into_owned();
            text.lines()
                .try_for_each(|line| app.ui.line(&coloured(line)))?;
        }
        Some(patch) => stored::print(app, client, patch).await?,
    }
    Ok(Exit::Ok)
}

/// Shows the files of the patch.
async fn show_stat(app: &App, client: &Client, task: &Task, attempt: Option<u32>) -> Result<Exit> {
    let attempt = task.meant(&app.ui, attempt)?;
    // Where there is no patch, this says so as the patch itself does.
    patch_of(task, attempt)?;
    let stat = Stat::of(client.files(task.id, attempt.number).await?);
    app.show(&stat, |stat| {
        let warnings = stat.warnings().iter();
        warnings.for_each(|warning| app.ui.warn(naming(warning)));
        if stat.is_empty() {
            app.ui.next(unchanged(task));
            return Ok(());
        }
        stat.lines().iter().try_for_each(|line| app.ui.line(line))
    })
}

/// The patch of an attempt; none where it changed nothing.
fn patch_of(task: &Task, attempt: &Attempt) -> Result<Option<Artifact>> {
    match attempt.artifact(ArtifactKind::Patch) {
        Some(patch) => Ok(Some(patch)),
        None if attempt.changed_nothing() => Ok(None),
        None => Err(no_patch(task)),
    }
}

/// Says why there is nothing to see. A warning is no change, but worth a word.
fn say_unchanged(ui: &Ui, task: &Task, attempt: &Attempt) {
    let warnings = attempt.changes.map_or(0, |changes| changes.warnings);
    if warnings > 0 {
        let warnings = counted(warnings, "warning");
        let id = task.id;
        ui.warn(format!("its changes have {warnings}: `ctl files {id}`"));
    }
    ui.next(unchanged(task));
}

fn unchanged(task: &Task) -> String {
    format!("{} changed no files", task.id)
}

fn no_patch(task: &Task) -> Error {
    let id = task.id;
    match (task.status.is_ended(), &task.place) {
        (false, _) => Error::new(
            Exit::NotFound,
            format!("{id} has no diff yet: it has not ended{}", task.kept_by()),
        )
        .hint(task.until_it_ends(|id| format!("`ctl wait {id}` waits for it"))),
        (true, Workplace::Repository { .. }) => {
            Error::new(Exit::NotFound, format!("{id} has no diff"))
                .hint(format!("`ctl show {id}` says how it ended"))
        }
        (true, Workplace::InPlace { .. } | Workplace::Empty) => Error::new(
            Exit::NotFound,
            format!("{id} has no diff: it did not work on a repository's snapshot"),
        )
        .hint(format!("`ctl files {id}` lists the files that it changed")),
    }
}

fn coloured(line: &str) -> Line {
    let style = match line.as_bytes() {
        [b'd', b'i', b'f', b'f', ..] => Style::Bold,
        [b'+', b'+', b'+', ..] | [b'-', b'-', b'-', ..] => Style::Bold,
        [b'@', b'@', ..] => Style::Active,
        [b'+', ..] => Style::Good,
        [b'-', ..] => Style::Bad,
        [b'i', b'n', b'd', b'e', b'x', ..] => Style::Dim,
        _ => Style::Plain,
    };
    Line::of(style, line)
}
