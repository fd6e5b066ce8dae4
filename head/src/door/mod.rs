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
mod refused;

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
pub use refused::Reason;

use crate::{metrics::Metrics, sparing::Sparing};
use refused::Refused;

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
    /// Who was refused is noted where that happens.
    handshakes: JoinSet<Option<TlsStream<Peer>>>,
    pause: Option<Pin<Box<Sleep>>>,
    refused: Refused,
    failures: Sparing,
}

impl Door {
    /// Opens the door. Who is refused is counted in `metrics`.
    #[must_use]
    pub fn new(
        listener: TcpListener,
        tls: Arc<ServerConfig>,
        places: Places,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            listener,
            acceptor: tls.into(),
            places,
            handshakes: JoinSet::new(),
            pause: None,
            refused: Refused::new(metrics),
            failures: Sparing::default(),
        }
    }

    fn admit(&mut self, tcp: TcpStream, from: SocketAddr) {
        let Some(place) = self.places.take() else {
            self.refused.note(Reason::Full, from, None);
            return;
        };
        if let Err(error) = prepare(&tcp) {
            self.refused.note(Reason::Closed, from, Some(&error));
            return;
        }
        let acceptor = self.acceptor.clone();
        let (refused, knock) = (self.refused.clone(), self.refused.knock(from));
        self.handshakes.spawn(async move {
            let peer = Peer::new(tcp, HEARD_WITHIN, place, knock);
            match shake(acceptor, peer).await {
                Ok(stream) => Some(stream),
                Err(Failed::Noted) => None,
                Err(Failed::Tls(error)) => {
                    refused.note(Reason::of(&error), from, Some(&error));
                    None
                }
                Err(Failed::Late) => {
                    refused.note(Reason::Handshake, from, None);
                    None
                }
            }
        });
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
        if let Some(left_out) = self.failures.may() {
            tracing::warn!(%error, left_out, "failed to accept a connection");
        }
        self.pause = Some(Box::pin(sleep(PAUSE)));
    }

    fn poll_handshakes(&mut self, context: &mut Context<'_>) -> Option<TlsStream<Peer>> {
        while let Poll::Ready(Some(done)) = self.handshakes.poll_join_next(context) {
            match done {
                Ok(Some(stream)) => return Some(stream),
                Ok(None) => {}
                Err(error) => tracing::error!(%error, "the TLS handshake of a peer broke"),
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

/// Why a peer did not get in.
enum Failed {
    /// The peer's connection has ended itself and said why.
    Noted,
    Tls(io::Error),
    Late,
}

impl Failed {
    fn of(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::TimedOut {
            Self::Noted
        } else {
            Self::Tls(error)
        }
    }
}

async fn shake(acceptor: TlsAcceptor, peer: Peer) -> Result<TlsStream<Peer>, Failed> {
    let shaking = timeout(HANDSHAKE_WITHIN, acceptor.accept(peer));
    let shaken = shaking.await.map_err(|_| Failed::Late)?;
    let mut stream = shaken.map_err(Failed::of)?;
    let (peer, session) = stream.get_mut();
    if session.peer_certificates().is_some() {
        peer.belongs_here();
    } else {
        peer.live_for(STRANGER_WITHIN);
    }
    Ok(stream)
}
