//! Connections that say nothing, or too little.

use std::{collections::VecDeque, time::Duration};

use futures::StreamExt;
use orchestra_proto::{
    client::{connect, connect_pinned},
    v1::{EnrolRequest, join_client::JoinClient},
};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsConnector;
use tonic::Code;

use super::*;
use crate::{
    metrics::tests::Shown,
    security::{
        Security,
        tests::{Head, head_with, now},
    },
};

impl Head {
    async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Waits until so many were refused for this reason.
    async fn until_refused(&self, reason: &str, count: u32) {
        let want = format!("orchestra_connections_refused_total{{reason=\"{reason}\"}} {count}\n");
        let counted = async {
            while !self.metrics.text().contains(&want) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let within = timeout(Duration::from_secs(20), counted).await;
        within.unwrap_or_else(|_| panic!("no {want} in {}", self.metrics.text()));
    }
}

/// Reads until the other side ends it.
async fn until_closed(mut stream: impl tokio::io::AsyncRead + Unpin) {
    let mut sink = [0; 4096];
    while stream.read(&mut sink).await.is_ok_and(|n| n > 0) {}
}

#[tokio::test]
async fn a_crowd_of_silent_strangers_does_not_keep_out_who_belongs_here() {
    let head = head_with(16).await;
    let mut crowd = VecDeque::new();
    for _ in 0..64 {
        crowd.push_back(head.tcp().await);
        // The oldest gives way: otherwise the door would be full soon.
        if crowd.len() > 8 {
            until_closed(crowd.pop_front().unwrap()).await;
        }
    }
    let channel = connect(&head.worker(), &head.address.to_string()).await;
    let answer = JoinClient::new(channel.unwrap())
        .enrol(EnrolRequest::default())
        .await;
    assert_eq!(answer.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn who_knocks_and_does_not_get_in_is_counted() {
    let head = head_with(16).await;
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 4096]] {
        let mut tcp = head.tcp().await;
        tcp.write_all(garbage).await.unwrap();
        until_closed(tcp).await;
    }
    head.until_refused("not_tls", 2).await;
    drop(head.tcp().await);
    head.until_refused("closed", 1).await;
    let mut own = head_with(16).await.worker();
    // It does not trust this head.
    assert!(connect(&own, &head.address.to_string()).await.is_err());
    head.until_refused("tls", 1).await;
    own.ca_pem = head.worker().ca_pem;
    let _ = connect(&own, &head.address.to_string()).await;
    head.until_refused("certificate", 1).await;
    let crowd: Vec<_> = {
        let dials = (0..9).map(|_| head.tcp());
        futures::future::join_all(dials).await
    };
    head.until_refused("gave_way", 1).await;
    drop(crowd);
}

/// A pair of connected sockets, the near one as the server has it.
async fn pair(within: Duration) -> (Peer, TcpStream, Shown) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let far = TcpStream::connect(listener.local_addr().unwrap()).await;
    let (near, _) = listener.accept().await.unwrap();
    let place = Places::of(4).take().unwrap();
    let shown = Shown::new();
    let knock = Refused::new(Arc::clone(&shown.metrics)).knock(listener.local_addr().unwrap());
    (Peer::new(near, within, place, knock), far.unwrap(), shown)
}

const WITHIN: Duration = Duration::from_secs(45);

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_nothing_is_let_go() {
    let (mut peer, _far, shown) = pair(WITHIN).await;
    let begun = tokio::time::Instant::now();
    let silent = peer.read_u8().await.unwrap_err();
    assert_eq!(silent.kind(), io::ErrorKind::TimedOut);
    assert!(begun.elapsed() >= WITHIN);
    let noted = "orchestra_connections_refused_total{reason=\"no_certificate\"} 1\n";
    assert!(shown.text().contains(noted), "{}", shown.text());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_something_now_and_then_stays() {
    let (mut peer, mut far, _shown) = pair(WITHIN).await;
    for _ in 0..5 {
        // The timer that was set at first fires in between and is set anew.
        assert!(timeout(WITHIN * 2 / 3, peer.read_u8()).await.is_err());
        far.write_u8(7).await.unwrap();
        // The paused clock goes on when nothing else does, as while bytes are under way.
        far.flush().await.unwrap();
        tokio::task::spawn_blocking(|| ()).await.unwrap();
        assert_eq!(peer.read_u8().await.unwrap(), 7);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stranger_is_let_go_however_much_it_says() {
    let (mut peer, mut far, _shown) = pair(WITHIN).await;
    peer.live_for(STRANGER_WITHIN);
    let mut talk = JoinSet::new();
    talk.spawn(async move {
        while far.write_u8(7).await.is_ok() {
            sleep(Duration::from_secs(1)).await;
        }
    });
    let error = loop {
        match peer.read_u8().await {
            Ok(said) => assert_eq!(said, 7),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn only_who_shows_a_certificate_may_stay() {
    let dir = tempfile::tempdir().unwrap();
    let security = Security::open(&dir.path().join("pki"), now()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut door = {
        let metrics = Arc::clone(&Shown::new().metrics);
        security.door(listener, Places::of(8), metrics).unwrap()
    };
    let fingerprint = security.ca_fingerprint();
    let admin = security.ensure_admin(&dir.path().join("client"), "me", now());
    let (admin, to) = (admin.unwrap(), address.clone());
    let mut dials = JoinSet::new();
    dials.spawn(async move { connect_pinned(&address, fingerprint).await.is_ok() });
    let stranger = door.next().await.unwrap().unwrap();
    dials.spawn(async move { connect(&admin, &to).await.is_ok() });
    let known = door.next().await.unwrap().unwrap();
    for (stream, ends) in [(&stranger, true), (&known, false)] {
        let (peer, session) = stream.get_ref();
        assert_eq!(session.peer_certificates().is_none(), ends);
        assert_eq!(peer.ends(), ends);
        let version = session.protocol_version();
        assert_eq!(version, Some(rustls::ProtocolVersion::TLSv1_3));
    }
}

#[tokio::test]
async fn an_older_tls_is_refused() {
    let head = head_with(8).await;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let old = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from("orchestra-head").unwrap();
    let connecting = TlsConnector::from(Arc::new(old)).connect(name, head.tcp().await);
    let refused = connecting.await.unwrap_err().to_string();
    assert!(refused.contains("ProtocolVersion"), "{refused}");
}
