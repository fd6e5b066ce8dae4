//! Keeps this worker's certificate good: the head makes it anew when a third of its life is left.
//!
//! The head is asked on a connection of its own, so that nothing here waits in front of the control
//! stream. A failure is tried again later, and when the head has been found again.

use std::{sync::Arc, time::Duration};

use orchestra_proto::client::{self, Credentials, CredentialsError, Life, RenewError};
use orchestra_types::Timestamp;
use tokio::sync::Notify;

use crate::{
    bulk::{DialError, Target},
    clock,
};

/// How often the certificate is looked at, at least: it may be another one, and so may the time be.
const LOOK_EVERY: Duration = Duration::from_secs(6 * 3600);
/// How long the head may take to answer.
const RENEW_WITHIN: Duration = Duration::from_secs(30);
/// How long it rests after the first try, and after any other one at least.
const REST: Duration = Duration::from_secs(60);
/// How long it rests at most.
const REST_MAX: Duration = Duration::from_secs(3600);

/// Why the certificate is the old one.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(transparent)]
    Renew(#[from] RenewError),
    #[error("failed to keep the new certificate")]
    Keep(#[from] CredentialsError),
    #[error("another process writes the credentials at this moment")]
    Busy,
    #[error("the thread that writes the new certificate failed")]
    Thread(#[from] tokio::task::JoinError),
}

/// What is to be done about a certificate.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Renew,
    Wait(Duration),
}

/// What is to be done about a certificate of this life; none when there is none that can be read.
fn next(life: Option<Life>, now: Timestamp) -> Next {
    match life {
        Some(life) if life.is_due(now) => Next::Renew,
        Some(life) => Next::Wait(life.until_due(now).min(LOOK_EVERY)),
        // The session says so.
        None => Next::Wait(LOOK_EVERY),
    }
}

/// How long it rests after so many tries in a row.
fn rest(tries: u32) -> Duration {
    let doublings = tries.saturating_sub(1).min(16);
    (REST * (1 << doublings)).min(REST_MAX)
}

/// Looks at the certificate for ever. `found` says that the head has welcomed this worker.
pub async fn keep(target: Target, found: Arc<Notify>) {
    let mut tries = 0;
    loop {
        let credentials = Credentials::load(&target.credentials).ok();
        let wait = match next(credentials.and_then(|c| c.life()), clock::now()) {
            Next::Wait(time) => {
                tries = 0;
                time
            }
            Next::Renew => {
                tries += 1;
                let rest = rest(tries);
                match renew(&target).await {
                    Ok(ends) => tracing::info!(until = client::day(ends), "certificate renewed"),
                    Err(error) => {
                        let error = format!("{:#}", anyhow::Error::new(error));
                        tracing::warn!(error, rest_s = rest.as_secs(), "certificate not renewed");
                    }
                }
                // Also when it was: by a clock that is years ahead it is due again at once.
                clock::wait(REST).await;
                rest - REST
            }
        };
        tokio::select! {
            () = clock::wait(wait) => {}
            () = found.notified() => {}
        }
    }
}

/// Until when the new one is good.
async fn renew(target: &Target) -> Result<Timestamp, Error> {
    let credentials = Credentials::load(&target.credentials).map_err(DialError::from)?;
    let channel = target.connect().await?;
    let renewed = client::renew(channel, &credentials, RENEW_WITHIN).await?;
    let (dir, ends) = (target.credentials.clone(), renewed.ends());
    let kept = tokio::task::spawn_blocking(move || renewed.save(&dir)).await??;
    kept.then_some(ends).ok_or(Error::Busy)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Life = Life {
        begins: Timestamp(0),
        ends: Timestamp(3 * 30 * 24 * 3_600_000),
    };

    #[test]
    fn a_certificate_is_renewed_when_a_third_of_it_is_left_and_also_when_it_has_ended() {
        let due = LIFE.due();
        assert_eq!(next(Some(LIFE), due), Next::Renew);
        assert_eq!(next(Some(LIFE), LIFE.ends.plus(LOOK_EVERY)), Next::Renew);
        let before = Timestamp(due.0 - 1);
        assert_eq!(
            next(Some(LIFE), before),
            Next::Wait(Duration::from_millis(1))
        );
    }

    #[test]
    fn it_is_looked_at_now_and_then_and_not_often() {
        assert_eq!(next(Some(LIFE), Timestamp(0)), Next::Wait(LOOK_EVERY));
        assert_eq!(next(None, Timestamp(0)), Next::Wait(LOOK_EVERY));
    }

    #[test]
    fn it_is_tried_again_at_a_bounded_rate() {
        let minutes = [1, 2, 4, 8, 16, 32, 60, 60];
        for (tries, minutes) in (1..).zip(minutes) {
            assert_eq!(rest(tries), Duration::from_secs(minutes * 60));
        }
        assert_eq!(rest(u32::MAX), REST_MAX);
    }
}
