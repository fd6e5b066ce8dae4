//! One connection: TCP, TLS, and the head's first frame.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use hyper_util::rt::TokioIo;
use orchestra_types::{Digest, Timestamp, time};
use rustls::{ClientConfig, pki_types::ServerName};
use sha2::Digest as _;
use tokio::{io::AsyncBufReadExt, net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::codegen::{Service, http::Uri};

use super::{CONNECT_TIMEOUT, ConnectError, HEAD_NAME, Life, Whereabouts};

/// What a connection runs over.
pub(super) type Stream = TlsStream<TcpStream>;

/// Knows how to reach one head.
pub(super) struct Dialer {
    head: Whereabouts,
    tls: TlsConnector,
    /// Of our certificate.
    life: Option<Life>,
    patience: Duration,
}

impl Dialer {
    /// A dialer to `head`; `life` is that of our certificate.
    pub(super) fn new(mut config: ClientConfig, life: Option<Life>, head: Whereabouts) -> Self {
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self {
            head,
            tls: TlsConnector::from(Arc::new(config)),
            life,
            patience: CONNECT_TIMEOUT,
        }
    }

    /// Connects within `CONNECT_TIMEOUT` to where the head is now, `HOST:PORT` or `[V6]:PORT`.
    pub(super) async fn dial(&self) -> Result<Stream, ConnectError> {
        let endpoint = self.head.now();
        timeout(self.patience, self.handshake(&endpoint))
            .await
            .unwrap_or_else(|_| {
                Err(ConnectError::Timeout {
                    after: self.patience,
                    endpoint,
                })
            })
    }

    /// When our certificate ended, if it has.
    fn ended(&self) -> Option<Timestamp> {
        let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let now = Timestamp(time::millis(since));
        self.life
            .filter(|life| life.is_over(now))
            .map(|life| life.ends)
    }

    async fn handshake(&self, endpoint: &str) -> Result<Stream, ConnectError> {
        let place = split(endpoint).ok_or_else(|| ConnectError::Endpoint {
            endpoint: endpoint.to_owned(),
        })?;
        let tcp_failed = |e| ConnectError::of_tcp(endpoint, e);
        let tls_failed = |e| ConnectError::of_tls(endpoint, self.ended(), e);
        let tcp = TcpStream::connect(place).await.map_err(tcp_failed)?;
        tcp.set_nodelay(true).map_err(tcp_failed)?;
        let name = ServerName::try_from(HEAD_NAME).expect("the constant is a DNS name");
        let mut stream = self.tls.connect(name, tcp).await.map_err(tls_failed)?;
        wait_for_acceptance(&mut stream).await.map_err(tls_failed)?;
        Ok(stream)
    }
}

/// Waits for the head's first frame without consuming it.
///
/// In TLS 1.3 the client is done before the server has looked at its certificate. The refusal
/// comes where the first frame should be; without this wait the first call would find it.
async fn wait_for_acceptance(stream: &mut Stream) -> io::Result<()> {
    if stream.fill_buf().await?.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

/// The connector of a channel: gives `first` away, and dials when that one is gone.
pub(super) fn connector(dialer: Arc<Dialer>, first: Stream) -> Connector {
    Connector {
        dialer,
        first: Arc::new(Mutex::new(Some(first))),
    }
}

/// See [`connector`].
#[derive(Clone)]
pub(super) struct Connector {
    dialer: Arc<Dialer>,
    first: Arc<Mutex<Option<Stream>>>,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<Stream>, ConnectError>> + Send>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), ConnectError>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let first = self
            .first
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let dialer = Arc::clone(&self.dialer);
        Box::pin(async move {
            let stream = match first {
                Some(stream) => stream,
                None => dialer.dial().await?,
            };
            Ok(TokioIo::new(stream))
        })
    }
}

/// The SHA-256 fingerprint of a certificate in DER.
#[must_use]
pub fn fingerprint(certificate: &[u8]) -> Digest {
    Digest(sha2::Sha256::digest(certificate).into())
}

fn split(endpoint: &str) -> Option<(&str, u16)> {
    let (host, port) = endpoint.rsplit_once(':')?;
    let port = port.parse().ok().filter(|p| *p != 0)?;
    let host = match host.strip_prefix('[') {
        Some(v6) => v6.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    let odd = |c: char| c.is_whitespace() || c.is_control() || c == '/';
    (!host.is_empty() && !host.contains(odd)).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::pinned;

    #[tokio::test]
    async fn what_accepts_and_never_answers_is_a_timeout() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = silent.local_addr().unwrap().to_string();
        let config = pinned::client_config(Digest([0; 32])).unwrap();
        let mut dialer = Dialer::new(config, None, endpoint.as_str().into());
        dialer.patience = Duration::from_millis(20);
        let error = dialer.dial().await.map(drop).unwrap_err();
        assert!(matches!(error, ConnectError::Timeout { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn what_speaks_no_tls_is_not_taken_for_a_head() {
        let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = other.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = other.accept().unwrap();
            std::io::Write::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        });
        let config = pinned::client_config(Digest([0; 32])).unwrap();
        let dialer = Dialer::new(config, None, endpoint.as_str().into());
        let error = dialer.dial().await.map(drop).unwrap_err();
        server.join().unwrap();
        assert!(matches!(error, ConnectError::Broken { .. }), "{error:?}");
    }

    #[test]
    fn an_endpoint_is_host_and_port() {
        assert_eq!(split("127.0.0.1:7117"), Some(("127.0.0.1", 7117)));
        assert_eq!(split("head.example:1"), Some(("head.example", 1)));
        assert_eq!(split("[::1]:7117"), Some(("::1", 7117)));
        for text in [
            "",
            "host",
            ":1",
            "host:",
            "host:0",
            "host:65536",
            "::1:7117",
            "[::1:7",
            "a b:1",
            "http://h:1",
        ] {
            assert_eq!(split(text), None, "{text}");
        }
    }
}
