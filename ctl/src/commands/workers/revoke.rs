//! `ctl workers revoke`.

use orchestra_proto::v1;

use super::{Named, Workers, table};
use crate::{
    app::App,
    changing,
    client::Client,
    error::{Error, Result},
    exit::Exit,
    json::fleet::Worker,
};

/// Does it, and shows them.
pub async fn run(app: &App, named: Named) -> Result<Exit> {
    let client = app.connect().await?;
    let known = client.workers().await?;
    let ids = match named.of(&known) {
        Ok(workers) => workers.iter().map(|w| w.id.to_string()).collect(),
        Err(error) => removed(&client, &named, error).await?,
    };
    let mut with_new_key = 0;
    for id in &ids {
        with_new_key += usize::from(revoke(&client, id).await?);
    }
    let mut workers: Vec<Worker> = client.workers().await?;
    workers.retain(|worker| ids.iter().any(|id| id == worker.id.as_str()));
    let done = || format!("{}: revoked", ids.join(", "));
    app.show_done(&Workers { workers }, done, |document| {
        if !document.workers.is_empty() {
            app.ui.table(&table(&document.workers))?;
        }
        if document.workers.iter().any(|w| !w.attempts.is_empty()) {
            app.ui
                .next("what ran there is tried again: by other workers when its lease ends, or once it has joined again");
        }
        if with_new_key > 0 {
            app.ui
                .next("`ctl start` starts the worker of the head's machine again, with a new key");
        }
        if with_new_key < ids.len() {
            app.ui
                .next("`ctl token create` lets such a machine join again, with a new key");
        }
        Ok(())
    })
}

/// Workers that the list does not have any more: the head still knows the ids of those that have joined.
async fn removed(client: &Client, named: &Named, error: Error) -> Result<Vec<String>> {
    let [id] = named.as_typed() else {
        return Err(error);
    };
    match revoke(client, id).await {
        Ok(_) => Ok(vec![id.clone()]),
        Err(_) => Err(error),
    }
}

/// Whether it has a new key already: the worker of the head's machine has.
async fn revoke(client: &Client, id: &str) -> Result<bool> {
    let request = v1::RevokeWorkerRequest {
        worker: id.to_owned(),
    };
    let answer = changing::patiently(async || client.admin().revoke_worker(request.clone()).await);
    answer.await.map(|revoked| revoked.has_new_key)
}
