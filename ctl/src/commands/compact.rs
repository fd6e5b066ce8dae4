//! `ctl compact`.

use orchestra_head::compaction::{self, Compacted};
use serde::Serialize;

use crate::{
    app::App,
    blocking::watched,
    error::{Error, Result},
    exit::Exit,
    ui::{
        style::{Line, Style},
        time::{bytes, counted},
    },
};

/// Give back the disk that rows which are gone still take in the head's store
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The head must be stopped: `ctl stop`, `ctl compact`, `ctl start`; what waits stays in the queue. The
store is written anew beside the old one, compared with it, and takes its place in one step, so it
needs as much free disk as its live rows take. Cut off at any moment, it changes nothing.")]
pub struct Args {}

/// `ctl compact --json`.
#[derive(Debug, Serialize)]
struct Done {
    rows: u64,
    live_bytes: u64,
    bytes_before: u64,
    bytes_after: u64,
    disk_bytes_before: u64,
    disk_bytes_after: u64,
}

/// Compacts.
pub async fn run(app: &App, _: Args) -> Result<Exit> {
    app.refuse_foreign_state()?;
    let state = app.state.clone();
    let compacted = watched(app, "compacting", move |progress| {
        compaction::compact(&state, progress).map_err(|e| refusal(&e))
    });
    let done = Done::from(compacted.await?);
    let compacted = || "the database is compacted".to_owned();
    app.show_done(&done, compacted, |done| {
        let text = format!(
            "{} before, {} now, for {} with {}",
            counted(done.disk_bytes_before, "byte"),
            counted(done.disk_bytes_after, "byte"),
            counted(done.rows, "row"),
            counted(done.live_bytes, "byte"),
        );
        app.ui.line(&Line::of(Style::Plain, text))?;
        app.ui.next(done.change());
        Ok(())
    })
}

impl Done {
    /// What it was good for: a store in which little was of rows that are gone may even grow.
    fn change(&self) -> String {
        let (before, after) = (self.disk_bytes_before, self.disk_bytes_after);
        match before.checked_sub(after) {
            Some(0) => "it takes as much as before".to_owned(),
            Some(less) => format!("{} are free again", bytes(less)),
            None => format!(
                "it takes {} more than before: hardly anything in it was of rows that are gone",
                bytes(after - before)
            ),
        }
    }
}

impl From<Compacted> for Done {
    fn from(done: Compacted) -> Self {
        Self {
            rows: done.rows,
            live_bytes: done.live,
            bytes_before: done.before,
            bytes_after: done.after,
            disk_bytes_before: done.disk_before,
            disk_bytes_after: done.disk_after,
        }
    }
}

fn refusal(error: &compaction::Error) -> Error {
    match error {
        compaction::Error::Nothing(_) => Error::new(Exit::NotFound, error.to_string())
            .hint("name the state directory with --state"),
        compaction::Error::Running(_) => Error::new(Exit::Refused, error.to_string())
            .hint("a store in use cannot be written anew: `ctl stop`, `ctl compact`, `ctl start`"),
        compaction::Error::Failed(error) => Error::failed(format!("{error:#}"))
            .hint("nothing was changed; `ctl check` says what is damaged"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_has_grown_is_said_to_have_grown() {
        let said = |before, after| {
            Done::from(Compacted {
                rows: 1,
                live: 1,
                before: 1,
                after: 1,
                disk_before: before,
                disk_after: after,
            })
            .change()
        };
        let mib = 1024 * 1024;
        assert_eq!(said(3 * mib, mib), "2.0 MiB are free again");
        assert_eq!(said(mib, mib), "it takes as much as before");
        let grown = said(mib, 3 * mib);
        assert!(
            grown.starts_with("it takes 2.0 MiB more than before"),
            "{grown}"
        );
    }
}
