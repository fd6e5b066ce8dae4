//! Streams that the head produces: owned by the tracker, ended by the reader, the producer or the
//! shutdown.

use std::future::Future;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{
    Services,
    status::{self, Result},
};

/// Answers of a stream that may wait for a slow reader; the producer then waits too.
const BOUND: usize = 8;

/// Where a producer puts its answers. Sending waits for the reader.
pub(super) type Answers<T> = mpsc::Sender<Result<T>>;
/// What a streaming call answers.
pub(super) type Stream<T> = ReceiverStream<Result<T>>;

/// The reader of a stream is gone.
#[derive(Debug)]
pub(super) struct Gone;

/// Sends an answer, unless the reader is gone.
pub(super) async fn send<T>(answers: &Answers<T>, answer: T) -> std::result::Result<(), Gone> {
    answers.send(Ok(answer)).await.map_err(|_| Gone)
}

/// Starts a producer. Its error is the stream's last answer.
pub(super) fn produce<T, F, P>(services: &Services, producer: P) -> Stream<T>
where
    T: Send + 'static,
    F: Future<Output = Result<()>> + Send + 'static,
    P: FnOnce(Answers<T>) -> F,
{
    let (answers, stream) = mpsc::channel(BOUND);
    let stop = services.stop.clone();
    let producing = producer(answers.clone());
    services.tracker.spawn(async move {
        let ended = tokio::select! {
            ended = producing => ended,
            () = answers.closed() => return,
            () = stop.wished() => Err(status::stopping()),
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
