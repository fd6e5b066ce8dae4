//! `ctl workers gc`.

use std::{fs, io, path::Path, time::Duration};

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
    json::time::Time,
    ui::{
        detail::here as here_at,
        escape::{line, path},
        now,
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
/// What was put aside and stays is named with its place and until when it is kept: it is nowhere else. Among it is
/// what an attempt has done of which the head does not know, as after `ctl restore`.
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
    /// What was put aside of attempts, and stays.
    aside: Vec<Aside>,
}

#[derive(Debug, Serialize)]
struct Aside {
    /// None where its name does not say.
    attempt: Option<String>,
    path: String,
    bytes: u64,
    until: Time,
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
        aside: garbage.aside.into_iter().map(aside).collect(),
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
    say_aside(app, document);
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

/// What was put aside, and how to get at it.
fn say_aside(app: &App, document: &Document) {
    for aside in &document.aside {
        app.ui.next(in_words(aside));
    }
    if !document.aside.is_empty() {
        let machine = match document.worker.as_deref() {
            Some(name) => format!("the machine of {}", line(name)),
            None => "this machine".to_owned(),
        };
        app.ui.next(format!(
            "where `workspace` is there, the files of the agent are in it: copy on {machine} what is wanted, before it \
             goes"
        ));
    }
}

fn in_words(aside: &Aside) -> String {
    let what = match &aside.attempt {
        Some(attempt) => format!("what {} has done", line(attempt)),
        None => "something".to_owned(),
    };
    let (path, size, until) = (path(&aside.path), bytes(aside.bytes), here_at(aside.until));
    format!("{what} was put aside: `{path}` ({size}), kept until {until}")
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

fn aside(wire: v1::Aside) -> Aside {
    let v1::Aside {
        attempt,
        path,
        bytes,
        kept_for_ms,
    } = wire;
    Aside {
        attempt: Some(attempt).filter(|attempt| !attempt.is_empty()),
        path,
        bytes,
        until: Time(now().plus(Duration::from_millis(kept_for_ms))),
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
    fn what_was_put_aside_is_named_with_its_size_and_until_when() {
        let wire = v1::Aside {
            attempt: "task_031.1".to_owned(),
            path: "/w/aside/task_031.1".to_owned(),
            bytes: 2048,
            kept_for_ms: 1,
        };
        let said = in_words(&aside(wire.clone()));
        let start =
            "what task_031.1 has done was put aside: `/w/aside/task_031.1` (2.0 KiB), kept until 2";
        assert!(said.starts_with(start), "{said}");
        let unnamed = aside(v1::Aside {
            attempt: String::new(),
            ..wire
        });
        assert_eq!(unnamed.attempt, None);
        assert!(in_words(&unnamed).starts_with("something was put aside: "));
    }

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
