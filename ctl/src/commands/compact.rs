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
        time::counted,
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
            counted(done.bytes_before, "byte"),
            counted(done.bytes_after, "byte"),
            counted(done.rows, "row"),
            counted(done.live_bytes, "byte"),
        );
        app.ui.line(&Line::of(Style::Plain, text))
    })
}

impl From<Compacted> for Done {
    fn from(done: Compacted) -> Self {
        Self {
            rows: done.rows,
            live_bytes: done.live,
            bytes_before: done.before,
            bytes_after: done.after,
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
