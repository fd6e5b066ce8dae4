//! `ctl workers revoke`.

use orchestra_proto::v1;
use orchestra_types::WorkerId;

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
    let mut with_new_key = 0;
    let ids: Vec<String> = match named.of(&known) {
        Ok(workers) => {
            let ids: Vec<_> = workers.iter().map(|w| w.id.to_string()).collect();
            for id in &ids {
                with_new_key += usize::from(revoke(&client, id).await?);
            }
            ids
        }
        Err(error) => {
            let (id, has_new_key) = removed(&client, &named, error).await?;
            with_new_key = usize::from(has_new_key);
            vec![id]
        }
    };
    let mut workers: Vec<Worker> = client.workers().await?;
    workers.retain(|worker| ids.iter().any(|id| id == worker.id.as_str()));
    let done = || format!("{}: revoked", ids.join(", "));
    app.show_done(&Workers { workers }, done, |document| {
        if !document.workers.is_empty() {
            app.ui.table(&table(&document.workers))?;
        }
        let is_listed = |id: &&String| document.workers.iter().any(|w| w.id.as_str() == **id);
        for id in ids.iter().filter(|id| !is_listed(id)) {
            app.ui.say(format!(
                "worker {id}, which the list has no more, is shut out from now on"
            ));
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

/// A worker that the list does not have any more: the head still knows the ids of those that have joined.
/// With whether it has a new key already.
async fn removed(client: &Client, named: &Named, error: Error) -> Result<(String, bool)> {
    let [id] = named.as_typed() else {
        return Err(error);
    };
    if error.exit() != Exit::NotFound {
        return Err(error);
    }
    if id.parse::<WorkerId>().is_err() {
        return Err(not_listed(error));
    }
    match revoke(client, id).await {
        Ok(has_new_key) => Ok((id.clone(), has_new_key)),
        Err(refused) if refused.exit() == Exit::NotFound => Err(not_listed(error)),
        Err(refused) => Err(refused),
    }
}

/// It may be one that was removed, whose name nobody knows any more.
fn not_listed(error: Error) -> Error {
    error.hint(
        "`ctl workers` lists all that are known; one that was removed is revoked by its id: the head's log \
         has it (\"worker removed\"), and on the worker's machine its own log and the file `worker/id` of \
         its state directory",
    )
}

/// Whether it has a new key already: the worker of the head's machine has.
async fn revoke(client: &Client, id: &str) -> Result<bool> {
    let request = v1::RevokeWorkerRequest {
        worker: id.to_owned(),
    };
    let answer = changing::patiently(async || client.admin().revoke_worker(request.clone()).await);
    answer.await.map(|revoked| revoked.has_new_key)
}
