//! `ctl workers gc`.

use std::{fs, io, path::Path};

use orchestra_proto::v1;
use orchestra_worker::gc::{self, Places};
use serde::Serialize;

use super::named;
use crate::{
    app::App,
    blocking::blocking,
    client::patiently,
    error::{Error, Result},
    exit::Exit,
    ui::{
        escape::{line, path},
        table::Table,
        time::bytes,
    },
};

/// Remove what a worker keeps and nobody needs any more
///
/// Caches go when they were not used for long, when there is more than 20 GiB, or when the disk is
/// full; attempts whose files could not be collected go after 14 days. `worker.keep` in the worker's
/// configuration sets other limits. What a running attempt needs stays. A project's repository that was found
/// damaged, and replaced, goes as soon as no attempt borrows from it; one that stays is named, and on a full disk
/// the workspaces of attempts are. A worker does the same by itself:
/// at its start, every six hours, and when its disk becomes full.
///
/// Without a name it is about the worker of this machine, which need not run.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The worker, by name or id; it must be connected [default: the one of this machine]
    worker: Option<String>,
    /// Only show what would be removed, and why
    #[arg(long)]
    dry_run: bool,
}

/// `ctl workers gc --json`.
#[derive(Debug, Serialize)]
struct Document {
    /// The worker that was asked by its name.
    worker: Option<String>,
    dry_run: bool,
    bytes: u64,
    removals: Vec<Row>,
    /// Removals beside those listed.
    unlisted: u64,
    /// Damaged repositories that stay, and on a full disk workspaces, and why.
    kept: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    path: String,
    kind: String,
    bytes: u64,
    why: String,
}

/// Removes it, or shows what would be.
pub async fn run(app: &App, args: Args) -> Result<Exit> {
    let Args { worker, dry_run } = args;
    let (worker, garbage) = match worker {
        Some(name) => there(app, &name, dry_run).await?,
        None => (None, here(app, dry_run).await?),
    };
    let document = Document {
        worker,
        dry_run,
        bytes: garbage.bytes,
        removals: garbage.removals.into_iter().map(row).collect(),
        unlisted: garbage.unlisted,
        kept: garbage.kept.into_iter().map(row).collect(),
    };
    match dry_run {
        true => app.show(&document, |document| show(app, document)),
        false => {
            let done = || format!("{} bytes removed", document.bytes);
            app.show_done(&document, done, |document| show(app, document))
        }
    }
}

async fn here(app: &App, dry_run: bool) -> Result<v1::Garbage> {
    let dir = app.state.worker();
    match fs::read_dir(&dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            let why = format!("failed to read `{}`", dir.display());
            return Err(Error::failed(why).because(error));
        }
        Ok(_) | Err(_) => {}
    }
    let config = app.config()?.worker;
    let (places, keep) = (Places::below(&dir, config.workspaces), config.keep);
    blocking(move || Ok(gc::collect(&places, &keep, dry_run))).await
}

/// Of a worker on whatever machine, which the head asks.
async fn there(app: &App, name: &str, dry_run: bool) -> Result<(Option<String>, v1::Garbage)> {
    let client = app.connect().await?;
    let known = client.workers().await?;
    let worker = named::find(&known, name)?;
    let request = v1::CollectGarbageRequest {
        worker: worker.id.to_string(),
        dry_run,
    };
    let garbage = patiently(async || client.admin().collect_garbage(request.clone()).await).await?;
    Ok((Some(worker.name.clone()), garbage))
}

fn show(app: &App, document: &Document) -> Result<()> {
    let name = document.worker.as_deref().map(line);
    for kept in &document.kept {
        let (path, why, size) = (path(&kept.path), line(&kept.why), bytes(kept.bytes));
        let what = line(&kept.kind);
        app.ui
            .next(format!("the {what} `{path}` ({size}) stays: {why}"));
    }
    if document.removals.is_empty() {
        app.ui.next(match name {
            Some(name) => format!("nothing to remove on {name}"),
            None => nothing_here(&app.state.worker()),
        });
        return Ok(());
    }
    app.ui.table(&table(&document.removals))?;
    if document.unlisted > 0 {
        app.ui.next(format!("and {} more", document.unlisted));
    }
    let size = bytes(document.bytes);
    let name = name.map(|name| format!(" {name}")).unwrap_or_default();
    app.ui.next(match document.dry_run {
        true => format!("{size} would be freed; `ctl workers gc{name}` removes it"),
        false => format!("{size} are free again"),
    });
    Ok(())
}

/// Where no worker has been, the one that was meant is on another machine, or of another state directory.
fn nothing_here(dir: &Path) -> String {
    match dir.exists() {
        true => "nothing to remove of the worker of this machine; `ctl workers gc WORKER` asks another one"
            .to_owned(),
        false => format!(
            "no worker has been started here: there is no `{}`; `ctl workers gc WORKER` asks one elsewhere, \
             `ctl workers` lists them",
            path(&dir.to_string_lossy())
        ),
    }
}

fn row(removal: v1::Removal) -> Row {
    let v1::Removal {
        path,
        kind,
        bytes,
        why,
    } = removal;
    Row {
        path,
        kind,
        bytes,
        why,
    }
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(&["KIND", ">SIZE", "WHY", "PATH…"]);
    for row in rows {
        table.row(vec![
            line(&row.kind).into_owned().into(),
            bytes(row.bytes).into(),
            line(&row.why).into_owned().into(),
            path(&row.path).into_owned().into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_no_worker_has_been_another_one_can_be_named() {
        let dir = tempfile::tempdir().unwrap();
        let here = nothing_here(dir.path());
        assert!(
            here.starts_with("nothing to remove of the worker of this machine;"),
            "{here}"
        );
        let none = nothing_here(&dir.path().join("worker"));
        assert!(
            none.starts_with("no worker has been started here: "),
            "{none}"
        );
        assert!(none.contains("`ctl workers gc WORKER`"), "{none}");
    }
}
