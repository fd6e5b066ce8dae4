//! `ctl workers gc`.

use orchestra_worker::gc::{self, Places, Removal};
use serde::Serialize;

use crate::{
    app::App,
    blocking::blocking,
    error::Result,
    exit::Exit,
    ui::{escape::line, table::Table, time::bytes},
};

/// Remove what this machine's worker keeps and nobody needs any more
///
/// Caches go when they were not used for long, or when there is more than 20 GiB; attempts whose files
/// could not be collected go after 14 days. What a running attempt needs stays. A worker does the same
/// by itself, at its start and every six hours.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only show what would be removed, and why
    #[arg(long)]
    dry_run: bool,
}

/// `ctl workers gc --json`.
#[derive(Debug, Serialize)]
struct Document {
    dry_run: bool,
    bytes: u64,
    removals: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    path: String,
    kind: &'static str,
    bytes: u64,
    why: String,
}

/// Removes it, or shows what would be.
pub async fn run(app: &App, args: Args) -> Result<Exit> {
    let places = Places::below(&app.state.worker());
    let dry_run = args.dry_run;
    let (removals, freed) = blocking(move || {
        let removals = gc::look(&places);
        let freed = if dry_run { 0 } else { gc::sweep(&removals) };
        Ok((removals, freed))
    })
    .await?;
    let planned = removals.iter().map(|removal| removal.item.bytes).sum();
    let document = Document {
        dry_run,
        bytes: if dry_run { planned } else { freed },
        removals: removals.iter().map(row).collect(),
    };
    app.show(&document, |document| {
        if document.removals.is_empty() {
            app.ui.next("nothing to remove on this machine");
            return Ok(());
        }
        app.ui.table(&table(&document.removals))?;
        let size = bytes(document.bytes);
        app.ui.next(match document.dry_run {
            true => format!("{size} would be freed; `ctl workers gc` removes it"),
            false => format!("{size} are free again"),
        });
        Ok(())
    })
}

fn row(removal: &Removal) -> Row {
    Row {
        path: removal.item.path.to_string_lossy().into_owned(),
        kind: removal.item.kind.as_str(),
        bytes: removal.item.bytes,
        why: removal.why.to_string(),
    }
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(&["KIND", ">SIZE", "WHY", "PATH…"]);
    for row in rows {
        table.row(vec![
            row.kind.into(),
            bytes(row.bytes).into(),
            row.why.clone().into(),
            line(&row.path).into_owned().into(),
        ]);
    }
    table
}
