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
    /// What could not be removed, and why.
    failed: Vec<Row>,
    /// Failures beside those listed.
    unlisted_failed: u64,
    /// Damaged repositories that stay, and on a full disk workspaces, and why.
    kept: Vec<Row>,
    /// What stays beside what is listed in `kept`.
    unlisted_kept: u64,
    /// What was put aside of attempts, and stays.
    aside: Vec<Aside>,
    /// What was put aside beside what is listed.
    unlisted_aside: u64,
}

impl Document {
    fn of(worker: Option<String>, dry_run: bool, garbage: v1::Garbage) -> Self {
        let rows = |removals: Vec<v1::Removal>| removals.into_iter().map(row).collect();
        Self {
            worker,
            dry_run,
            bytes: garbage.bytes,
            removals: rows(garbage.removals),
            unlisted: garbage.unlisted,
            failed: rows(garbage.failed),
            unlisted_failed: garbage.unlisted_failed,
            kept: rows(garbage.kept),
            unlisted_kept: garbage.unlisted_kept,
            aside: garbage.aside.into_iter().map(aside).collect(),
            unlisted_aside: garbage.unlisted_aside,
        }
    }
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
    let document = Document::of(worker, dry_run, garbage);
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
    what_stays(document)
        .into_iter()
        .for_each(|said| app.ui.next(said));
    if document.removals.is_empty() {
        app.ui.next(match name {
            Some(name) if document.failed.is_empty() => format!("nothing to remove on {name}"),
            None if document.failed.is_empty() => nothing_here(&app.state.worker()),
            Some(_) | None => "nothing was removed".to_owned(),
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

/// What stays there, and why; of what was put aside also how to get at it.
fn what_stays(document: &Document) -> Vec<String> {
    let mut said: Vec<String> = document.failed.iter().map(failed_in_words).collect();
    said.extend(beyond(
        document.unlisted_failed,
        "that could not be removed",
    ));
    said.extend(document.kept.iter().map(kept_in_words));
    said.extend(beyond(document.unlisted_kept, "that stay"));
    said.extend(document.aside.iter().map(in_words));
    said.extend(beyond(
        document.unlisted_aside,
        "that were put aside, and are kept for longer",
    ));
    if !document.aside.is_empty() {
        let machine = match document.worker.as_deref() {
            Some(name) => format!("the machine of {}", line(name)),
            None => "this machine".to_owned(),
        };
        said.push(format!(
            "where `workspace` is there, the files of the agent are in it: copy on {machine} what is wanted, before it \
             goes"
        ));
    }
    said
}

/// That there are more than a list names.
fn beyond(more: u64, what: &str) -> Option<String> {
    (more > 0).then(|| format!("and {more} more {what}, not listed here"))
}

fn kept_in_words(kept: &Row) -> String {
    let (path, why, size) = (path(&kept.path), line(&kept.why), bytes(kept.bytes));
    format!("the {} `{path}` ({size}) stays: {why}", line(&kept.kind))
}

fn failed_in_words(failed: &Row) -> String {
    let (path, why, size) = (path(&failed.path), line(&failed.why), bytes(failed.bytes));
    let kind = line(&failed.kind);
    format!("failed to remove `{path}` ({kind}, {size}): {why}; the worker tries it again")
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
    fn what_is_not_listed_and_what_could_not_be_removed_is_said() {
        let removal = v1::Removal {
            path: "/w/aside/task_031.1".to_owned(),
            kind: "aside".to_owned(),
            bytes: 2048,
            why: "Operation not permitted (os error 1)".to_owned(),
        };
        let garbage = v1::Garbage {
            failed: vec![removal.clone()],
            kept: vec![v1::Removal {
                kind: "workspace".to_owned(),
                why: "its attempt runs".to_owned(),
                ..removal
            }],
            unlisted_kept: 2,
            unlisted_aside: 234,
            ..v1::Garbage::default()
        };
        let document = Document::of(None, false, garbage);
        assert_eq!(
            what_stays(&document),
            [
                "failed to remove `/w/aside/task_031.1` (aside, 2.0 KiB): Operation not permitted (os error 1); the \
                 worker tries it again",
                "the workspace `/w/aside/task_031.1` (2.0 KiB) stays: its attempt runs",
                "and 2 more that stay, not listed here",
                "and 234 more that were put aside, and are kept for longer, not listed here",
            ]
        );
        let json = serde_json::to_value(&document).unwrap();
        let counts = ["unlisted_failed", "unlisted_kept", "unlisted_aside"];
        assert_eq!(
            counts.map(|name| json[name].as_u64()),
            [0, 2, 234].map(Some)
        );
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
