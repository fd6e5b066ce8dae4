//! Pushes one attempt's events to the head, in order, until it has them all.
//!
//! The journal on disk is the source: after a broken stream the next one begins behind the last
//! acknowledged event.

use std::{path::PathBuf, time::Duration};

use orchestra_proto::{batch::encode, v1};
use orchestra_types::{AttemptId, limits};
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::journal::{self, Reader};
use crate::{
    blocking::blocking,
    bulk::{Bulk, DialError, RETRY_AFTER},
};

/// How long the first event of a batch waits for company.
const BATCH_DELAY: Duration = Duration::from_millis(50);
/// So many events do not wait.
const BATCH_FULL: u64 = 64;
/// About how large a batch may be: 1 MiB.
const BATCH_BYTES: usize = 1024 * 1024;
/// How long a sign of life may take.
const SIGNED_WITHIN: Duration = Duration::from_secs(5);
/// Batches that may wait for the network.
const BATCHES_BOUND: usize = 4;

/// How far the head has an attempt's events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pushed {
    /// Durable up to here.
    pub up_to: u64,
    /// The head does not want them: the attempt is not ours.
    pub refused: bool,
}

impl Pushed {
    /// Whether nothing is left to push of the events up to `last`.
    #[must_use]
    pub fn is_done(self, last: u64) -> bool {
        self.refused || self.up_to >= last
    }
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("the stream of events broke: {}", .0.message())]
    Stream(Box<tonic::Status>),
    #[error("the head ended the stream of events")]
    Ended,
    #[error("the head has fewer events than it said; they are sent again")]
    Behind,
    #[error(transparent)]
    Journal(#[from] journal::Error),
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        Self::Stream(Box::new(status))
    }
}

/// Which events are pushed, and when.
#[derive(Clone, Debug)]
pub struct Source {
    /// Whose.
    pub attempt: AttemptId,
    /// The journal.
    pub journal: PathBuf,
    /// The number of the last event in it.
    pub last: watch::Receiver<u64>,
    /// Somebody waits for what is there: nothing waits for company any more.
    pub hurry: CancellationToken,
}

/// Pushes for ever, or until the head refuses. `pushed` tells how far it has come; the owner drops
/// this future when that is the end of the journal.
pub async fn push(bulk: Bulk, source: Source, pushed: watch::Sender<Pushed>) {
    let attempt = source.attempt;
    loop {
        // No stream for an attempt that has nothing to say.
        let mut last = source.last.clone();
        let sent = pushed.borrow().up_to;
        company(&mut last, sent, &source.hurry).await;
        let Err(error) = one_stream(&bulk, source.clone(), &pushed).await else {
            return;
        };
        if let Error::Stream(_) | Error::Ended = &error {
            bulk.forget().await;
        }
        tracing::debug!(%attempt, %error, "events wait for the head");
        sleep(RETRY_AFTER).await;
    }
}

/// `Ok` when the head refuses.
async fn one_stream(
    bulk: &Bulk,
    source: Source,
    pushed: &watch::Sender<Pushed>,
) -> Result<(), Error> {
    let attempt = source.attempt;
    let (journal, after) = (source.journal.clone(), pushed.borrow().up_to);
    let reader = match after {
        0 => Reader::open(&journal, after)?,
        // What lies before may be long.
        _ => blocking(move || Reader::open(&journal, after)).await?,
    };
    let (batches, outgoing) = mpsc::channel(BATCHES_BOUND);
    tokio::select! {
        error = feed(source, reader, batches) => Err(error),
        done = receive(bulk, attempt, outgoing, pushed) => done,
    }
}

/// Sends what the journal has, as long as it grows.
async fn feed(source: Source, mut reader: Reader, batches: mpsc::Sender<v1::EventUpload>) -> Error {
    let Source {
        attempt,
        journal: _,
        mut last,
        hurry,
    } = source;
    loop {
        let batch = match reader.batch(limits::EVENT_BATCH_MAX, BATCH_BYTES) {
            Ok(batch) => batch,
            Err(error) => return error.into(),
        };
        let Some(newest) = batch.last() else {
            let known = *last.borrow();
            until(&mut last, known + 1).await;
            continue;
        };
        let sent = newest.seq;
        let upload = v1::EventUpload {
            attempt: Some(attempt.into()),
            events: encode(&batch),
        };
        if batches.send(upload).await.is_err() {
            return Error::Ended;
        }
        company(&mut last, sent, &hurry).await;
    }
}

/// Waits for an event behind `sent`, and lets a few come together, unless many have already or
/// somebody waits.
async fn company(last: &mut watch::Receiver<u64>, sent: u64, hurry: &CancellationToken) {
    until(last, sent + 1).await;
    tokio::select! {
        () = hurry.cancelled() => {}
        () = until(last, sent + BATCH_FULL) => {}
        () = sleep(BATCH_DELAY) => {}
    }
}

/// Waits until the journal has an event. One that is closed never has it: when everything is sent,
/// the acknowledgements end the pusher.
async fn until(last: &mut watch::Receiver<u64>, event: u64) {
    if last.wait_for(|last| *last >= event).await.is_err() {
        std::future::pending().await
    }
}

/// Tells the head that an attempt goes on although nothing is said of it: an upload without events. One
/// that does not arrive is followed by the next.
pub async fn sign(bulk: &Bulk, attempt: AttemptId) {
    match timeout(SIGNED_WITHIN, sign_once(bulk, attempt)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            bulk.forget().await;
            tracing::debug!(%attempt, %error, "a sign of life did not reach the head");
        }
        Err(_) => tracing::debug!(%attempt, "the head did not take a sign of life in time"),
    }
}

async fn sign_once(bulk: &Bulk, attempt: AttemptId) -> Result<(), Error> {
    let upload = v1::EventUpload {
        attempt: Some(attempt.into()),
        events: Vec::new(),
    };
    let mut client = bulk.client().await?;
    let answer = client.push_events(tokio_stream::once(upload)).await?;
    answer.into_inner().message().await?;
    Ok(())
}

async fn receive(
    bulk: &Bulk,
    attempt: AttemptId,
    outgoing: mpsc::Receiver<v1::EventUpload>,
    pushed: &watch::Sender<Pushed>,
) -> Result<(), Error> {
    let mut client = bulk.client().await?;
    let answer = client.push_events(ReceiverStream::new(outgoing)).await?;
    let mut acks = answer.into_inner();
    while let Some(ack) = acks.message().await? {
        if ack.attempt != Some(attempt.into()) {
            continue;
        }
        // A head that has less than it said comes from a backup: it gets the rest again, from the
        // journal, by the next stream.
        let has_less = ack.up_to < pushed.borrow().up_to && !ack.refused;
        pushed.send_modify(|pushed| {
            pushed.up_to = ack.up_to;
            pushed.refused |= ack.refused;
        });
        if ack.refused {
            return Ok(());
        }
        if has_less {
            return Err(Error::Behind);
        }
    }
    Err(Error::Ended)
}
