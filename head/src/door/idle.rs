//! A connection that ends when nothing is heard from its peer, before TLS and HTTP/2 and after.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep},
};
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::{
    places::Place,
    refused::{Knock, Reason},
};

/// A peer's connection.
pub struct Peer {
    tcp: TcpStream,
    quiet: Quiet,
    place: Place,
    /// As long as it is a stranger's, and was not refused.
    knock: Option<Knock>,
}

/// How long nothing was read.
#[derive(Debug)]
struct Quiet {
    within: Duration,
    heard: Instant,
    /// When it ends, whatever is heard.
    end: Option<Instant>,
    /// Set anew only when it has fired: a read costs nothing but a look at the clock.
    timer: Pin<Box<Sleep>>,
}

impl Peer {
    pub(super) fn new(tcp: TcpStream, within: Duration, place: Place, knock: Knock) -> Self {
        Self {
            tcp,
            quiet: Quiet::new(within),
            place,
            knock: Some(knock),
        }
    }

    /// Why it has to end now, for a task that is woken when it has to.
    fn must_end(&mut self, context: &mut Context<'_>, waits: bool) -> Option<Reason> {
        let ended = self.quiet.end.is_some_and(|end| end <= Instant::now());
        if ended || (waits && self.quiet.is_over(context)) {
            return Some(Reason::NoCertificate);
        }
        (waits && self.place.must_go(context)).then_some(Reason::GaveWay)
    }

    /// Its peer has shown a certificate of the cluster.
    pub(super) fn belongs_here(&mut self) {
        self.place.is_known();
        self.knock = None;
    }

    /// It ends after this time, whatever is heard.
    pub(super) fn live_for(&mut self, time: Duration) {
        self.quiet.end = Some(Instant::now() + time);
        // The one that is set may be later.
        self.quiet.timer = Box::pin(sleep(time.min(self.quiet.within)));
    }

    /// Whether it ends whatever is heard.
    #[cfg(test)]
    pub(super) fn ends(&self) -> bool {
        self.quiet.end.is_some()
    }
}

impl Quiet {
    fn new(within: Duration) -> Self {
        Self {
            within,
            heard: Instant::now(),
            end: None,
            timer: Box::pin(sleep(within)),
        }
    }

    fn over_at(&self) -> Instant {
        let quiet = self.heard + self.within;
        self.end.map_or(quiet, |end| quiet.min(end))
    }

    /// Whether it is time to end, for a task that is woken when it is.
    fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        while self.timer.as_mut().poll(context).is_ready() {
            let over_at = self.over_at();
            if over_at <= Instant::now() {
                return true;
            }
            self.timer.as_mut().reset(over_at);
        }
        false
    }
}

impl AsyncRead for Peer {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.tcp).poll_read(context, buffer);
        if buffer.filled().len() > before {
            this.quiet.heard = Instant::now();
        }
        if let Some(reason) = this.must_end(context, read.is_pending()) {
            if let Some(knock) = this.knock.take() {
                knock.refuse(reason);
            }
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl AsyncWrite for Peer {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().tcp).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().tcp).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(context)
    }
}

impl Connected for Peer {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.tcp.connect_info()
    }
}
