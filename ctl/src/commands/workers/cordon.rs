//! `ctl workers cordon`, `drain` and `uncordon`.

use orchestra_proto::v1;

use super::{Workers, table};
use crate::{
    app::App,
    client::{Client, patiently},
    error::{Error, Result},
    exit::Exit,
    json::fleet::Worker,
    ui::suggest::did_you_mean,
};

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

/// Which workers.
#[derive(Debug, clap::Args)]
pub struct Named {
    /// The workers, by name or id
    #[arg(value_name = "WORKER", required = true)]
    workers: Vec<String>,
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
    let ids = named.workers.iter().map(|name| find(&known, name));
    let ids: Vec<String> = ids.collect::<Result<_>>()?;
    let mut workers = Vec::new();
    for worker in ids {
        workers.push(set(&client, worker, availability).await?);
    }
    app.show(&Workers { workers }, |document| {
        app.ui.table(&table(&document.workers))?;
        let empty = document.workers.iter().all(|w| w.attempts.is_empty());
        if availability == "draining" && !empty {
            app.ui
                .next("what runs there goes on; `ctl workers` shows `drained` when it has ended");
        }
        Ok(())
    })
}

async fn set(client: &Client, worker: String, availability: &str) -> Result<Worker> {
    let request = v1::SetAvailabilityRequest {
        worker,
        availability: availability.to_owned(),
    };
    let answer = patiently(async || client.admin().set_availability(request.clone()).await);
    Worker::read(answer.await?)
}

/// The id of the worker with this name or id.
fn find(known: &[Worker], name: &str) -> Result<String> {
    let by_id = known.iter().find(|w| w.id.as_str() == name);
    let mut by_name = known.iter().filter(|w| w.name == name);
    match (by_id.or_else(|| by_name.next()), by_name.next()) {
        (Some(worker), None) => Ok(worker.id.to_string()),
        (Some(_), Some(_)) => Err(Error::new(
            Exit::Refused,
            format!("several workers have the name `{name}`"),
        )
        .hint("use the id: `ctl workers -v` shows it")),
        (None, _) => {
            let guess = did_you_mean(name, known.iter().map(|w| w.name.as_str()));
            Err(Error::new(
                Exit::NotFound,
                format!("there is no worker `{name}`{guess}"),
            )
            .hint("`ctl workers` lists all of them"))
        }
    }
}
