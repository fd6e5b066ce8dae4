//! Streams that the head produces: owned by the tracker, ended by the reader, the producer or the
//! shutdown.

use std::{future::Future, ops::Deref, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, mpsc},
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;

use super::{
    Services,
    status::{self, Result},
};

/// Answers of a stream that may wait for a slow reader; the producer then waits too.
const BOUND: usize = 8;

/// How long a reader may take nothing before its stream is ended.
const READER_WITHIN: Duration = Duration::from_secs(300);

/// Where a producer puts its answers. Sending waits for the reader.
#[derive(Debug)]
pub(super) struct Answers<T> {
    sender: mpsc::Sender<Result<T>>,
    /// Told when the reader is too slow.
    slow: Arc<Notify>,
}

impl<T> Clone for Answers<T> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            slow: Arc::clone(&self.slow),
        }
    }
}

impl<T> Answers<T> {
    /// The channel itself, for who waits for room by himself.
    pub fn sender(&self) -> mpsc::Sender<Result<T>> {
        self.sender.clone()
    }
}

impl<T> Deref for Answers<T> {
    type Target = mpsc::Sender<Result<T>>;

    fn deref(&self) -> &Self::Target {
        &self.sender
    }
}

/// What a streaming call answers.
pub(super) type Stream<T> = ReceiverStream<Result<T>>;

/// The reader of a stream is gone, or as good as.
#[derive(Debug)]
pub(super) struct Gone;

/// Sends an answer, unless the reader is gone. One that takes nothing for a long time is ended
/// with a status that says so: what it missed, it can ask for again.
pub(super) async fn send<T>(answers: &Answers<T>, answer: T) -> std::result::Result<(), Gone> {
    match timeout(READER_WITHIN, answers.sender.send(Ok(answer))).await {
        Ok(sent) => sent.map_err(|_| Gone),
        Err(_) => {
            answers.slow.notify_one();
            Err(Gone)
        }
    }
}

/// A channel for answers.
pub(super) fn answers<T>() -> (Answers<T>, mpsc::Receiver<Result<T>>) {
    let (sender, stream) = mpsc::channel(BOUND);
    let slow = Arc::default();
    (Answers { sender, slow }, stream)
}

/// Starts a producer. Its error is the stream's last answer.
pub(super) fn produce<T, F, P>(services: &Services, producer: P) -> Stream<T>
where
    T: Send + 'static,
    F: Future<Output = Result<()>> + Send + 'static,
    P: FnOnce(Answers<T>) -> F,
{
    let (answers, stream) = answers();
    let stop = services.stop.clone();
    // A future by itself: the task around it would hold room for it several times.
    let producing = Box::pin(producer(answers.clone()));
    services.tracker.spawn(async move {
        let ended = tokio::select! {
            ended = producing => ended,
            () = answers.closed() => return,
            () = stop.wished() => Err(status::stopping()),
            () = answers.slow.notified() => {
                tracing::warn!("nothing was read from a stream for five minutes; it is ended");
                Err(status::slow_reader())
            }
        };
        if let Err(status) = ended {
            tokio::select! {
                // The reader may be gone, and need not read.
                _ = answers.send(Err(status)) => {}
                () = stop.wished() => {}
            }
        }
    });
    ReceiverStream::new(stream)
}
