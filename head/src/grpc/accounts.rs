//! Accounts: how much each bears, and until when nothing is started on it.

use orchestra_core::{AccountView, Reply};
use orchestra_proto::{convert, v1};
use orchestra_types::AccountName;

use super::{
    Services,
    status::{self, Result},
};
use crate::engine::AskError;

pub(super) async fn list(services: &Services) -> Result<v1::ListAccountsResponse> {
    let read = services
        .engine
        .read(|view| Ok(view.core.accounts().iter().map(account).collect()));
    let accounts = read.await.map_err(status::read)?;
    Ok(v1::ListAccountsResponse { accounts })
}

pub(super) async fn set(
    services: &Services,
    request: v1::SetAccountRequest,
) -> Result<v1::Account> {
    let name = name(&request.name)?;
    let reply = services.engine.set_account(name, request.max).await;
    answer(services, reply).await
}

pub(super) async fn resume(services: &Services, wire: &str) -> Result<v1::Account> {
    let reply = services.engine.resume_account(name(wire)?).await;
    answer(services, reply).await
}

fn name(wire: &str) -> Result<AccountName> {
    convert::name("name", wire).map_err(|e| status::refused(&e))
}

async fn answer(
    services: &Services,
    reply: std::result::Result<Reply, AskError>,
) -> Result<v1::Account> {
    let name = status::account_done(reply.map_err(status::asked)?)?;
    let wanted = name.clone();
    let read = services
        .engine
        .read(move |view| Ok(view.core.account(&wanted).as_ref().map(account)));
    let known = read.await.map_err(status::read)?;
    // A resumed account that no worker has any more is forgotten.
    Ok(known.unwrap_or_else(|| v1::Account {
        name: name.to_string(),
        ..v1::Account::default()
    }))
}

/// An account, as wire.
pub(super) fn account(view: &AccountView<'_>) -> v1::Account {
    v1::Account {
        name: view.name.to_string(),
        in_use: view.in_use,
        max: view.max,
        slowed_to: view.slowed_to,
        parked_until_ms: view.parked_until.map(|at| at.0),
        why: view.why.to_owned(),
        runners: view.runners.iter().map(ToString::to_string).collect(),
        workers: view.workers.iter().map(ToString::to_string).collect(),
    }
}
