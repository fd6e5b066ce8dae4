//! The door before the server: accepts connections, makes TLS with them, and keeps strangers few.
//!
//! ```text
//! accept ─► place ─► TLS 1.3 ─┬─ with a certificate of the cluster ─► server, as long as it is heard
//!              \              └─ without ─► server, for a minute (`Join`)
//!               refused: no place
//! ```
//!
//! A stranger is who has not shown a certificate (yet). All strangers together have a part of the places
//! only, and the oldest of them gives way: they cannot lock out who belongs here.

mod idle;
mod places;

#[cfg(test)]
mod tests;

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::Stream;
use orchestra_types::limits;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig, server::TlsStream};

pub use idle::Peer;
pub use places::Places;

use crate::sparing::Sparing;
use places::Place;

/// How long a TLS handshake may take.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// How long a peer may say nothing. Honest ones answer a ping in that time; for those that do not, the
/// server's own keepalive is first.
const HEARD_WITHIN: Duration = limits::KEEPALIVE_EVERY
    .saturating_add(limits::KEEPALIVE_TIMEOUT)
    .saturating_add(Duration::from_secs(15));
/// How long a connection without a certificate lives: joining is one call.
const STRANGER_WITHIN: Duration = Duration::from_secs(60);
/// How long nothing is accepted after it failed, as for want of open files.
const PAUSE: Duration = Duration::from_millis(100);

/// The connections that a server gets.
pub struct Door {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    places: Places,
    handshakes: JoinSet<io::Result<TlsStream<Peer>>>,
    pause: Option<Pin<Box<Sleep>>>,
    refused: Sparing,
}

impl Door {
    /// Opens the door. Who has no place is logged by way of `refused`.
    #[must_use]
    pub fn new(
        listener: TcpListener,
        tls: Arc<ServerConfig>,
        places: Places,
        refused: Sparing,
    ) -> Self {
        Self {
            listener,
            acceptor: tls.into(),
            places,
            handshakes: JoinSet::new(),
            pause: None,
            refused,
        }
    }

    fn admit(&mut self, tcp: TcpStream, from: SocketAddr) {
        let Some(place) = self.places.take() else {
            if let Some(left_out) = self.refused.may() {
                tracing::warn!(%from, left_out, "connection refused: there are too many");
            }
            return;
        };
        if let Err(error) = prepare(&tcp) {
            tracing::debug!(%from, %error, "a connection was gone at once");
            return;
        }
        let acceptor = self.acceptor.clone();
        self.handshakes.spawn(shake(acceptor, tcp, place));
    }

    /// After a failure that concerns all connections nothing is accepted for a moment.
    fn on_failure(&mut self, error: &io::Error) {
        use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
        if matches!(
            error.kind(),
            ConnectionAborted | ConnectionReset | Interrupted
        ) {
            return;
        }
        if let Some(left_out) = self.refused.may() {
            tracing::warn!(%error, left_out, "failed to accept a connection");
        }
        self.pause = Some(Box::pin(sleep(PAUSE)));
    }

    fn poll_handshakes(&mut self, context: &mut Context<'_>) -> Option<TlsStream<Peer>> {
        while let Poll::Ready(Some(done)) = self.handshakes.poll_join_next(context) {
            match done.map_err(io::Error::other).flatten() {
                Ok(stream) => return Some(stream),
                Err(error) => tracing::debug!(%error, "no TLS with a peer"),
            }
        }
        None
    }
}

impl Stream for Door {
    type Item = io::Result<TlsStream<Peer>>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(stream) = this.poll_handshakes(context) {
                return Poll::Ready(Some(Ok(stream)));
            }
            if let Some(pause) = &mut this.pause {
                ready!(pause.as_mut().poll(context));
                this.pause = None;
            }
            match ready!(this.listener.poll_accept(context)) {
                Ok((tcp, from)) => this.admit(tcp, from),
                Err(error) => this.on_failure(&error),
            }
        }
    }
}

/// What a connection needs before anything is said.
fn prepare(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    rustix::net::sockopt::set_socket_keepalive(tcp, true)?;
    Ok(rustix::net::sockopt::set_tcp_keepidle(
        tcp,
        limits::KEEPALIVE_EVERY,
    )?)
}

async fn shake(acceptor: TlsAcceptor, tcp: TcpStream, place: Place) -> io::Result<TlsStream<Peer>> {
    let peer = Peer::new(tcp, HEARD_WITHIN, place);
    let mut stream = timeout(HANDSHAKE_WITHIN, acceptor.accept(peer)).await??;
    let (peer, session) = stream.get_mut();
    if session.peer_certificates().is_some() {
        peer.belongs_here();
    } else {
        peer.live_for(STRANGER_WITHIN);
    }
    Ok(stream)
}
