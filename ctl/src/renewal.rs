//! The client's own certificate, made anew by the head when a third of its life is left: also that of a
//! copied directory. Nobody is told, and no command fails by it: there is time until the next one.

use std::{path::Path, time::Duration};

use orchestra_proto::client::{self, Credentials};
use orchestra_types::Timestamp;
use tonic::transport::Channel;

use crate::{
    blocking::blocking,
    error::{Error, Result},
};

/// How long a command waits for it at most.
const RENEW_WITHIN: Duration = Duration::from_secs(5);

/// The credentials to go on with: those in `dir`, or new ones, which are there then if that can be.
pub async fn if_due(
    dir: &Path,
    credentials: Credentials,
    channel: &Channel,
    now: Timestamp,
) -> Credentials {
    if !credentials.life().is_some_and(|life| life.is_due(now)) {
        return credentials;
    }
    match renew(dir, &credentials, channel).await {
        Ok(renewed) => renewed,
        Err(error) => {
            tracing::debug!(%error, "certificate not renewed");
            credentials
        }
    }
}

async fn renew(dir: &Path, credentials: &Credentials, channel: &Channel) -> Result<Credentials> {
    let renewed = client::renew(channel.clone(), credentials, RENEW_WITHIN).await;
    let renewed = renewed.map_err(|error| Error::failed(error.to_string()))?;
    let (fresh, dir) = (renewed.credentials().clone(), dir.to_owned());
    let kept = blocking(move || {
        let kept = renewed.save(&dir);
        kept.map_err(|error| Error::failed("failed to keep the new certificate").because(error))
    });
    kept.await?;
    Ok(fresh)
}
