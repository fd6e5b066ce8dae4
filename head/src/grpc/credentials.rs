//! Who may call: tokens to join with, workers that are shut out, new keys for administrators.

use std::time::Duration;

use orchestra_config::StateDir;
use orchestra_proto::{convert, v1};
use orchestra_types::{WorkerId, limits};

use super::{
    Services,
    cluster::find_worker,
    status::{self, Result},
};
use crate::security::{self, Identity, Issued, TokenState};

pub(super) async fn create_token(
    services: &Services,
    request: v1::CreateTokenRequest,
) -> Result<v1::CreateTokenResponse> {
    let ttl = match request.ttl_ms {
        0 => limits::TOKEN_TTL,
        ms => Duration::from_millis(ms).min(limits::TOKEN_TTL_MAX),
    };
    let (security, head) = (services.security.clone(), services.about.advertise.clone());
    let now = services.engine.wall_now();
    // The book of tokens is written to disk.
    let made = tokio::task::spawn_blocking(move || security.create_token(&head, ttl, now)).await;
    let made = made.map_err(|_| status::internal("failed to make a token"))?;
    let (token, expires_at) = made.map_err(|error| status::token(&error))?;
    Ok(v1::CreateTokenResponse {
        head: services.about.advertise.clone(),
        id: token.secret.id(),
        token: token.encode(),
        expires_at_ms: expires_at.0,
    })
}

/// The tokens that were made.
pub(super) fn list_tokens(services: &Services) -> v1::ListTokensResponse {
    let tokens = services.security.tokens(services.engine.wall_now());
    v1::ListTokensResponse {
        tokens: tokens.into_iter().map(issued).collect(),
    }
}

/// Ends a token. One that is ended already is shown as it is, for whoever asks again because no answer came.
pub(super) async fn revoke_token(
    services: &Services,
    request: v1::RevokeTokenRequest,
) -> Result<v1::IssuedToken> {
    let (security, now) = (services.security.clone(), services.engine.wall_now());
    let id = request.id;
    let wanted = id.clone();
    let revoked = change(move || security.revoke_token(&wanted, now)).await?;
    let revoked = revoked.ok_or_else(|| status::no_token(&id))?;
    tracing::info!(token = %revoked.id, "join token revoked");
    Ok(issued(revoked))
}

fn issued(token: Issued) -> v1::IssuedToken {
    let state = match token.state {
        TokenState::Open => v1::TokenState::Open,
        TokenState::Used => v1::TokenState::Used,
        TokenState::Expired => v1::TokenState::Expired,
        TokenState::Revoked => v1::TokenState::Revoked,
    };
    v1::IssuedToken {
        id: token.id,
        state: state.into(),
        created_at_ms: token.created_at.map(|at| at.0),
        expires_at_ms: token.expires_at.0,
        used_by: token.used_by.map_or_else(String::new, |id| id.to_string()),
    }
}

/// Shuts a worker out. What it has runs out with its lease. This machine's own worker has a new key at
/// once, since nobody would give it a token.
pub(super) async fn revoke_worker(
    services: &Services,
    request: v1::RevokeWorkerRequest,
) -> Result<v1::RevokeWorkerResponse> {
    let id: WorkerId = convert::name("worker", &request.worker).map_err(|e| status::refused(&e))?;
    // One that was removed is known by its key only, and one that was revoked before by that: whoever asks
    // again because no answer came is told the same.
    if !services.security.knows_worker(&id) && !services.security.shuts_out(&id) {
        find_worker(services, &id).await?;
    }
    let (security, worker) = (services.security.clone(), id.clone());
    let dir = StateDir::new(services.about.state_dir.clone()).worker();
    let now = services.engine.wall_now();
    let revoke = move || {
        security.revoke_worker(&worker, now)?;
        match orchestra_config::worker_id(&dir) {
            Ok(own) if own == worker => security
                .ensure_worker(&dir.join("pki"), &own, now)
                .map(|_| true),
            Ok(_) | Err(_) => Ok(false),
        }
    };
    let has_new_key = change(revoke).await?;
    tracing::info!(worker = %id, "worker revoked");
    Ok(v1::RevokeWorkerResponse { has_new_key })
}

/// New credentials for administrators, beside the head's own files.
pub(super) async fn rotate(
    services: &Services,
    caller: &Identity,
) -> Result<v1::RotateCredentialsResponse> {
    let name = match caller {
        Identity::Admin(name) => name.clone(),
        Identity::Worker(_) | Identity::Head => return Err(status::internal("not an admin")),
    };
    let dir = StateDir::new(services.about.state_dir.clone()).client();
    let (security, now) = (services.security.clone(), services.engine.wall_now());
    let rotate = move || {
        security.rotate_admins(&dir, &name, now)?;
        // Here: the call ends with its caller's key, before it could say so.
        tracing::info!("administrators have new credentials; the earlier ones are refused");
        Ok(())
    };
    change(rotate).await?;
    Ok(v1::RotateCredentialsResponse {})
}

/// Changes files of certificates, which may wait for the disk.
async fn change<T: Send + 'static>(
    change: impl FnOnce() -> std::result::Result<T, security::Error> + Send + 'static,
) -> Result<T> {
    let changed = tokio::task::spawn_blocking(change).await;
    let changed = changed.map_err(|_| status::internal("failed to change who may call"))?;
    changed.map_err(|error| status::credentials(&error))
}
