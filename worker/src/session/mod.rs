//! The worker's session with the head: one control stream, dialled by us, made again for ever.
//!
//! It runs on an operating system thread of its own with its own runtime, so that no load of
//! running attempts can starve heartbeats and the lease that depends on them.
//!
//! ```text
//! dial -> Hello -> Welcome -> orders down, reports and heartbeats up -> broken -> back off -> dial
//! ```

mod absence;
mod backoff;
mod pace;
mod stream;
mod usurped;

use std::{sync::Arc, thread, time::Duration};

use orchestra_proto::client::ConnectError;
use orchestra_types::runner::WorkerInfo;
use tokio::{
    sync::{Notify, oneshot, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::{
    bulk::{DialError, Target},
    clock, fleet, housekeeping,
    installation::Installation,
    interim::Interims,
    lease::WorkerLease,
    meter::Meters,
    spool,
};
use absence::{Absence, Away, GOOD_AFTER};
use backoff::Backoff;
use pace::Pace;

/// Why one stream ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The head cannot be reached.
    #[error(transparent)]
    Dial(#[from] crate::bulk::DialError),
    /// The stream broke or was refused.
    #[error("the control stream ended: {}", .0.message())]
    Stream(Box<tonic::Status>),
    /// Another installation has the worker's identity, as the head says.
    #[error("the head refused this worker: {0}")]
    Twin(String),
    /// The worker is nobody's any more, as the head says: it was revoked.
    #[error("the head refuses this worker: {0}")]
    ShutOut(String),
    /// The credentials are somebody else's, as a client's: no later dial is heard either.
    #[error(
        "these are no worker's credentials: {0}; a worker gets its own by `orchestra-worker join`"
    )]
    NoWorker(String),
    /// The head ended it in order.
    #[error("the head ended the control stream")]
    Ended,
    /// The head did not behave as the protocol says.
    #[error("the head broke the protocol: {0}")]
    Protocol(&'static str),
    /// Nothing was heard for too long, although the connection seems to be there.
    #[error("the head did not answer within {} ms", .0.as_millis())]
    Silent(Duration),
    /// The worker itself is stopping.
    #[error("the worker is stopping")]
    Stopping,
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        match status.code() {
            Code::Unauthenticated => Self::ShutOut(status.message().to_owned()),
            Code::PermissionDenied if status.message().contains("may not call") => {
                Self::NoWorker(status.message().to_owned())
            }
            _ => Self::Stream(Box::new(status)),
        }
    }
}

impl From<fleet::Closed> for Error {
    fn from(_: fleet::Closed) -> Self {
        Self::Stopping
    }
}

/// What a session needs.
#[derive(Debug)]
pub struct Session {
    /// Where the head is.
    pub target: Target,
    /// The worker as it describes itself; every change is sent.
    pub info: watch::Receiver<WorkerInfo>,
    /// Which installation this is.
    pub installation: Arc<Installation>,
    /// Whether the head has welcomed this process before.
    pub welcomed: bool,
    /// The last report that was ever sent.
    pub sent: u64,
    /// Told of each welcome.
    pub found: Arc<Notify>,
    /// What a person does when the certificate has expired.
    pub rejoin: String,
    /// The reports.
    pub spool: spool::Handle,
    /// The attempts.
    pub fleet: fleet::Handle,
    /// Whether the head counts on this worker.
    pub lease: WorkerLease,
    /// What attempts have used.
    pub meters: Meters,
    /// What attempts have changed.
    pub interims: Interims,
    /// Whom a person asks for housekeeping.
    pub housekeeping: housekeeping::Handle,
    /// Ends it.
    pub stop: CancellationToken,
}

/// A session that was started.
#[derive(Debug)]
pub struct Started {
    /// Says when it has ended.
    pub ended: oneshot::Receiver<()>,
    /// Says why it ended of itself: nothing that it could wait for lets this worker in.
    pub refused: oneshot::Receiver<Error>,
}

/// Starts the session's thread.
pub fn start(mut session: Session) -> std::io::Result<Started> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (done, ended) = oneshot::channel();
    let (refuse, refused) = oneshot::channel();
    thread::Builder::new()
        .name("session".to_owned())
        .spawn(move || {
            // IMPORTANT: before the session is dropped, which ends the fleet as if there were no more to do.
            if let Err(error) = runtime.block_on(session.run()) {
                refuse.send(error).unwrap_or_default();
            }
            // The daemon may have stopped waiting for it.
            done.send(()).unwrap_or_default();
        })?;
    Ok(Started { ended, refused })
}

impl Session {
    async fn run(&mut self) -> Result<(), Error> {
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            done = self.keep_connected() => done,
        }
    }

    async fn keep_connected(&mut self) -> Result<(), Error> {
        let mut backoff = Backoff::default();
        let mut pace = Pace::of(Duration::ZERO);
        let mut absence = Absence::default();
        loop {
            let began = clock::since_boot();
            let error = stream::run(self, &mut pace, &mut absence).await;
            match error {
                Error::Stopping => return Ok(()),
                // One that was welcomed before is no copy: it waits until the other one has gone.
                Error::Twin(_) if !self.welcomed => return Err(error),
                Error::ShutOut(_) | Error::NoWorker(_) => return Err(error),
                _ => {}
            }
            let now = clock::since_boot();
            if now.saturating_sub(began) > GOOD_AFTER {
                backoff = Backoff::default();
            }
            let wait = backoff.next(jitter(), pace.dial_again_within);
            let expired = matches!(&error, Error::Dial(error) if error.has_expired());
            if let Some(away) = absence.ended(began, now, expired) {
                self.warn(error, expired, away, now);
            }
            sleep(wait).await;
        }
    }
}

impl Session {
    fn warn(&self, error: Error, expired: bool, away: Away, now: Duration) {
        let next = next_step(&error);
        let error = format!("{:#}", anyhow::Error::new(error));
        let (away_s, dials) = (away.lasted(now).as_secs(), away.dials);
        match expired {
            true => tracing::error!(
                error,
                away_s,
                dials,
                "no session with the head; {}",
                self.rejoin
            ),
            false => tracing::warn!(
                error,
                away_s,
                dials,
                "no session with the head; the worker goes on dialling, and says when it is back; {next}"
            ),
        }
    }
}

/// What a person can do about a head that is not reached.
fn next_step(error: &Error) -> &'static str {
    let elsewhere =
        "if it is at another address now, say so with `orchestra-worker join --head HOST:PORT`";
    let Error::Dial(DialError::Connect(error)) = error else {
        return elsewhere;
    };
    match error {
        ConnectError::Endpoint { .. }
        | ConnectError::NotRunning { .. }
        | ConnectError::Unreachable { .. }
        | ConnectError::Timeout { .. }
        | ConnectError::WrongHead { .. }
        | ConnectError::Broken { .. } => elsewhere,
        ConnectError::Credentials { .. }
        | ConnectError::HeadOutOfDate { .. }
        | ConnectError::Expired { .. }
        | ConnectError::CertificateRefused { .. } => error.advice(),
    }
}

/// A random part of one, from the random bits of a fresh identifier.
fn jitter() -> f64 {
    let (bits, _) = uuid::Uuid::new_v4().as_u64_pair();
    f64::from(u32::try_from(bits >> 32).expect("32 bits are left")) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_of_no_worker_end_it_and_other_refusals_are_waited_over() {
        let of = |status: tonic::Status| Error::from(status);
        let client = of(tonic::Status::permission_denied(
            "admin/root may not call orchestra.v1.Fleet",
        ));
        assert!(matches!(&client, Error::NoWorker(_)), "{client}");
        assert!(client.to_string().contains("`orchestra-worker join`"));
        let revoked = of(tonic::Status::unauthenticated("revoked"));
        assert!(matches!(revoked, Error::ShutOut(_)));
        let other = of(tonic::Status::permission_denied("not now"));
        assert!(matches!(other, Error::Stream(_)));
    }
}
