//! How a client reaches the head: credentials, TLS, and errors that say what to do.
//!
//! Every connection is TLS 1.3 with both sides authenticated by the cluster's CA. A worker that
//! joins has no certificate yet: it knows the head by the fingerprint of that CA.
//!
//! ```text
//! connect          ca.pem + cert.pem + key.pem   every service that the certificate may use
//! connect_to_beat  the same                      the same, without a keepalive
//! connect_pinned   fingerprint of the CA         Join only
//! ```

mod credentials;
mod dial;
mod error;
mod life;
mod pinned;
mod renewal;
mod whereabouts;

use std::{sync::Arc, time::Duration};

use orchestra_types::{Digest, limits};
use rustls::ClientConfig;
use tonic::transport::{Channel, Endpoint};

pub use credentials::{Credentials, CredentialsError};
pub use dial::fingerprint;
pub use error::ConnectError;
pub use life::{Life, day};
pub use renewal::{RenewError, Renewed, renew};
pub use whereabouts::Whereabouts;

use dial::Dialer;

/// The name that the head's certificate carries, whatever its address.
pub const HEAD_NAME: &str = "orchestra-head";

/// How long TCP, TLS and the head's first frame may take together.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects to the head at `head` (`HOST:PORT`, or where a file says), authenticated by `credentials`.
///
/// When this returns, the head has accepted the certificate. The channel connects again by
/// itself, to where the head is then; a call that finds no head then fails with a status whose source is a `ConnectError`.
pub async fn connect(
    credentials: &Credentials,
    head: impl Into<Whereabouts>,
) -> Result<Channel, ConnectError> {
    let life = credentials.life();
    channel(credentials.client_config()?, life, head.into(), keepalive).await
}

/// As [`connect`], for a caller who sends heartbeats more often than a keepalive would ping, and gives
/// the connection up when no answer comes: without a keepalive, which would only wake it once more.
pub async fn connect_to_beat(
    credentials: &Credentials,
    endpoint: &str,
) -> Result<Channel, ConnectError> {
    let life = credentials.life();
    channel(
        credentials.client_config()?,
        life,
        endpoint.into(),
        |plain| plain,
    )
    .await
}

/// Connects to the head at `endpoint` that belongs to the CA with this SHA-256 fingerprint.
pub async fn connect_pinned(
    endpoint: &str,
    ca_fingerprint: Digest,
) -> Result<Channel, ConnectError> {
    channel(
        pinned::client_config(ca_fingerprint)?,
        None,
        endpoint.into(),
        keepalive,
    )
    .await
}

fn keepalive(plain: Endpoint) -> Endpoint {
    plain
        .http2_keep_alive_interval(limits::KEEPALIVE_EVERY)
        .keep_alive_timeout(limits::KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
}

async fn channel(
    config: ClientConfig,
    life: Option<Life>,
    head: Whereabouts,
    with: impl FnOnce(Endpoint) -> Endpoint,
) -> Result<Channel, ConnectError> {
    let dialer = Arc::new(Dialer::new(config, life, head.clone()));
    let first = dialer.dial().await?;
    // The scheme is plain because the connector below brings TLS itself.
    with(Endpoint::from_static("http://orchestra-head"))
        .connect_with_connector(dial::connector(dialer, first))
        .await
        .map_err(|source| ConnectError::Broken {
            endpoint: head.now(),
            source: std::io::Error::other(source),
        })
}
