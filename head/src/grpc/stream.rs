//! Streams that the head produces: owned by the tracker, ended by the reader, the producer or the
//! shutdown.

use std::{
    future::Future,
    ops::Deref,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::timeout,
};

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
    let (end, ends) = oneshot::channel();
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
        // The reader may be gone, and need not be told.
        end.send(ended).unwrap_or_default();
    });
    Stream {
        answers: stream,
        end: Some(ends),
    }
}

/// What a streaming call answers. It ends well only if its producer has: whoever reads it takes the end
/// for the end of what there is.
#[derive(Debug)]
pub(super) struct Stream<T> {
    answers: mpsc::Receiver<Result<T>>,
    /// How it ends, for which there is always room; none once that was said.
    end: Option<oneshot::Receiver<Result<()>>>,
}

impl<T> tokio_stream::Stream for Stream<T> {
    type Item = Result<T>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<T>>> {
        if let Some(answer) = ready!(self.answers.poll_recv(context)) {
            return Poll::Ready(Some(answer));
        }
        let Some(end) = &mut self.end else {
            return Poll::Ready(None);
        };
        let ended = ready!(Pin::new(end).poll(context));
        self.end = None;
        // A producer that was ended by others, as at a shutdown, has not said how.
        let ended = ended.unwrap_or_else(|_| Err(status::stopping()));
        Poll::Ready(ended.err().map(Err))
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt;

    use super::*;

    fn stream(
        answered: usize,
    ) -> (
        mpsc::Sender<Result<usize>>,
        oneshot::Sender<Result<()>>,
        Stream<usize>,
    ) {
        let (sender, answers) = mpsc::channel(BOUND);
        let (end, ends) = oneshot::channel();
        for answer in 0..answered {
            sender.try_send(Ok(answer)).unwrap();
        }
        let end_of = Some(ends);
        (
            sender,
            end,
            Stream {
                answers,
                end: end_of,
            },
        )
    }

    /// How many answers come, and the code of the error at the end.
    async fn read(mut stream: Stream<usize>) -> (usize, Option<tonic::Code>) {
        let mut answers = 0;
        while let Some(answer) = stream.next().await {
            match answer {
                Ok(_) => answers += 1,
                Err(status) => {
                    assert!(stream.next().await.is_none(), "more after the end");
                    return (answers, Some(status.code()));
                }
            }
        }
        (answers, None)
    }

    #[tokio::test]
    async fn a_stream_says_how_it_ended_however_many_answers_wait_for_its_reader() {
        for answered in [0, 1, BOUND] {
            let (sender, end, stream) = stream(answered);
            end.send(Err(status::stopping())).unwrap();
            drop(sender);
            let code = Some(status::stopping().code());
            assert_eq!(read(stream).await, (answered, code));
        }
    }

    #[tokio::test]
    async fn a_stream_ends_well_only_if_its_producer_says_so() {
        let (sender, end, whole) = stream(2);
        end.send(Ok(())).unwrap();
        drop(sender);
        assert_eq!(read(whole).await, (2, None));
        let (sender, end, cut) = stream(2);
        drop((sender, end));
        assert_eq!(read(cut).await, (2, Some(status::stopping().code())));
    }
}
