//! Calls that were let in and go on: they end when their caller is revoked.

use std::{
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::watch;
use tonic::{Status, body::Body, codegen::http};

use super::{known::Holder, refusal::Denied, revoked::Refusals};

/// What is refused, as it changes.
pub(super) type Watch = watch::Receiver<Arc<Refusals>>;

/// Ends when `holder` is refused.
async fn refused(mut watch: Watch, holder: Holder) -> Denied {
    loop {
        if watch.borrow_and_update().refuse(&holder) {
            return Denied::Revoked(holder.identity);
        }
        if watch.changed().await.is_err() {
            // The list has gone with the head, and with it the calls.
            std::future::pending::<()>().await;
        }
    }
}

/// The answer of a call, and behind it the messages of its stream, for as long as the caller is let in.
pub(super) async fn guard<E>(
    answer: impl Future<Output = Result<http::Response<Body>, E>>,
    watch: Watch,
    holder: Holder,
    from: Option<SocketAddr>,
) -> Result<http::Response<Body>, E> {
    let mut refused: Pin<Box<dyn Future<Output = Denied> + Send>> =
        Box::pin(refused(watch, holder));
    tokio::select! {
        biased;
        denied = &mut refused => Ok(told(denied, from).into_http()),
        answer = answer => Ok(answer?.map(|inner| {
            let refused = Some(refused);
            Body::new(Guarded {
                inner,
                refused,
                from,
            })
        })),
    }
}

fn told(denied: Denied, from: Option<SocketAddr>) -> Status {
    let from = from.map(tracing::field::display);
    tracing::warn!(from, reason = %denied, "call ended");
    denied.into()
}

/// See [`guard`].
struct Guarded {
    inner: Body,
    /// None when that was told.
    refused: Option<Pin<Box<dyn Future<Output = Denied> + Send>>>,
    from: Option<SocketAddr>,
}

impl http_body::Body for Guarded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(refused) = &mut self.refused else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(denied) = refused.as_mut().poll(context) {
            self.refused = None;
            // Whoever produces for this caller is told that nobody reads.
            self.inner = Body::empty();
            let mut trailers = http::HeaderMap::new();
            told(denied, self.from).add_header(&mut trailers)?;
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.refused.is_none() || self.inner.is_end_stream()
    }

    /// It may end before its time.
    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::future::{pending, poll_fn, ready};
    use http_body::Body as _;
    use orchestra_types::{Digest, WorkerId};

    use super::*;
    use crate::security::{Identity, revoked::Revoked};

    /// A stream that is open and has nothing to say; it says when it is let go.
    struct Open(Option<tokio::sync::oneshot::Sender<()>>);

    impl http_body::Body for Open {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            Poll::Pending
        }
    }

    impl Drop for Open {
        fn drop(&mut self) {
            let _ = self.0.take().unwrap().send(());
        }
    }

    fn worker() -> Holder {
        Holder {
            identity: Identity::Worker("w1".parse().unwrap()),
            key: Digest([1; 32]),
        }
    }

    fn revoked(worker: &str) -> Arc<Refusals> {
        let worker: WorkerId = worker.parse().unwrap();
        let mut revoked = Revoked::default();
        revoked.revoke_worker(&worker, None, orchestra_types::Timestamp(0));
        Arc::new(revoked.refusals(&std::collections::BTreeMap::new()))
    }

    fn told(headers: &http::HeaderMap) -> Option<Status> {
        Status::from_header_map(headers)
    }

    #[tokio::test]
    async fn an_open_stream_ends_when_its_caller_is_revoked_and_is_let_go() {
        let (refusals, watch) = watch::channel(Arc::default());
        let (gone, is_gone) = tokio::sync::oneshot::channel();
        let answer = http::Response::new(Body::new(Open(Some(gone))));
        let answer = guard(ready(Ok::<_, Infallible>(answer)), watch, worker(), None).await;
        let mut body = answer.unwrap().into_body();
        let mut next = poll_fn(|context| Pin::new(&mut body).poll_frame(context));
        refusals.send_replace(revoked("another"));
        assert!(futures::poll!(&mut next).is_pending());
        refusals.send_replace(revoked("w1"));
        let frame = next.await.unwrap().unwrap();
        let status = told(frame.trailers_ref().unwrap()).unwrap();
        assert_eq!(status.code(), tonic::Code::Unauthenticated);
        is_gone.await.unwrap();
        assert!(body.is_end_stream());
        let after = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        assert!(after.is_none());
    }

    #[tokio::test]
    async fn a_call_that_was_not_answered_yet_is_refused() {
        let (refusals, watch) = watch::channel(Arc::default());
        let answer = pending::<Result<http::Response<Body>, Infallible>>();
        let mut answer = Box::pin(guard(answer, watch, worker(), None));
        assert!(futures::poll!(&mut answer).is_pending());
        refusals.send_replace(revoked("w1"));
        let answer = answer.await.unwrap();
        let status = told(answer.headers()).unwrap();
        assert_eq!(status.code(), tonic::Code::Unauthenticated);
    }
}
