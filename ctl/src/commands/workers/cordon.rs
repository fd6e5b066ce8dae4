//! `ctl workers cordon`, `drain` and `uncordon`.

use orchestra_proto::v1;

use super::{Named, Workers, in_words, table};
use crate::{app::App, changing, client::Client, error::Result, exit::Exit, json::fleet::Worker};

/// What is done to workers.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Give workers nothing new; what they run goes on. Stays so over restarts
    Cordon(Named),
    /// The same, to empty a worker before it is stopped or updated: `drained` says that it is empty
    Drain(Named),
    /// Give workers tasks again
    Uncordon(Named),
}

/// Does it and lists the workers.
pub async fn run(app: &App, command: Command) -> Result<Exit> {
    let (named, availability) = match command {
        Command::Cordon(named) => (named, "cordoned"),
        Command::Drain(named) => (named, "draining"),
        Command::Uncordon(named) => (named, "open"),
    };
    let client = app.connect().await?;
    let known = client.workers().await?;
    let mut workers = Vec::new();
    for worker in named.of(&known)? {
        workers.push(set(&client, worker.id.to_string(), availability).await?);
    }
    let done = in_words(&workers, availability);
    app.show_done(
        &Workers { workers },
        || done,
        |document| {
            app.ui.table(&table(&document.workers))?;
            let empty = document.workers.iter().all(|w| w.attempts.is_empty());
            if availability == "draining" && !empty {
                app.ui.next(
                    "what runs there goes on; `ctl workers` shows `drained` when it has ended",
                );
            }
            Ok(())
        },
    )
}

async fn set(client: &Client, worker: String, availability: &str) -> Result<Worker> {
    let request = v1::SetAvailabilityRequest {
        worker,
        availability: availability.to_owned(),
    };
    let answer =
        changing::patiently(async || client.admin().set_availability(request.clone()).await);
    Worker::read(answer.await?)
}
