//! The gate and the Join service through real TLS on loopback.

use std::{net::SocketAddr, time::Duration};

use orchestra_proto::{
    client::{ConnectError, Credentials, connect, connect_pinned},
    v1::{
        EnrolRequest, EnrolResponse, GetStatusRequest, HaveRequest, WorkerMessage,
        admin_client::AdminClient, bulk_client::BulkClient, fleet_client::FleetClient,
        join_client::JoinClient,
    },
};
use orchestra_types::{Digest, Timestamp, limits};
use rcgen::{CertificateParams, KeyPair};
use tokio::{net::TcpListener, task::JoinSet};
use tonic::{
    Code, Status,
    transport::{Channel, Server},
};

use super::{Door, Identity, Places, Security, authorise_worker, issue};

/// A head's gate with the Join service; every other service is known to the gate only, so that a
/// call that passes it ends with `Unimplemented`.
pub(crate) struct Head {
    dir: tempfile::TempDir,
    pub security: Security,
    pub address: SocketAddr,
    _server: JoinSet<()>,
}

async fn head() -> Head {
    head_with(64).await
}

/// One that has so many places for connections.
pub(crate) async fn head_with(places: usize) -> Head {
    let dir = tempfile::tempdir().unwrap();
    let security = Security::open(&dir.path().join("pki"), now()).unwrap();
    let (door, address) = door(&security, places).await;
    let router = Server::builder()
        .layer(security.gate())
        .add_service(security.join_service());
    let mut server = JoinSet::new();
    server.spawn(async move { router.serve_with_incoming(door).await.unwrap() });
    Head {
        dir,
        security,
        address,
        _server: server,
    }
}

async fn door(security: &Security, places: usize) -> (Door, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (
        security.door(listener, Places::of(places)).unwrap(),
        address,
    )
}

impl Head {
    fn endpoint(&self) -> String {
        self.address.to_string()
    }

    fn admin(&self) -> Credentials {
        let dir = self.dir.path().join("client");
        self.security.ensure_admin(&dir, "me", now()).unwrap()
    }

    pub fn worker(&self) -> Credentials {
        let dir = self.dir.path().join("worker");
        let id = "w1".parse().unwrap();
        self.security.ensure_worker(&dir, &id, now()).unwrap()
    }

    fn issued(&self, identity: &Identity, at: Timestamp) -> Credentials {
        let key = KeyPair::generate().unwrap();
        self.security.pki.issue(identity, &key, at).unwrap()
    }

    fn token(&self, ttl: Duration) -> String {
        let made = self.security.create_token(&self.endpoint(), ttl, now());
        made.unwrap().0.encode()
    }

    async fn connect(&self, credentials: &Credentials) -> Result<Channel, ConnectError> {
        connect(credentials, &self.endpoint()).await
    }

    async fn join(&self, token: &str, csr_pem: &str) -> Result<EnrolResponse, Status> {
        let fingerprint = self.security.ca_fingerprint();
        let channel = connect_pinned(&self.endpoint(), fingerprint).await.unwrap();
        let request = EnrolRequest {
            token: token.to_owned(),
            csr_pem: csr_pem.to_owned(),
            worker_id: "joined".to_owned(),
        };
        let response = JoinClient::new(channel).enrol(request).await?;
        Ok(response.into_inner())
    }
}

pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    Timestamp(u64::try_from(since.as_millis()).unwrap())
}

fn csr() -> (KeyPair, String) {
    let key = KeyPair::generate().unwrap();
    let wished = CertificateParams::new(vec!["orchestra-head".to_owned()]).unwrap();
    let csr = wished.serialize_request(&key).unwrap().pem().unwrap();
    (key, csr)
}

/// The code of a call to Admin, Fleet and Bulk each.
async fn codes(channel: Channel) -> [Code; 3] {
    let admin = AdminClient::new(channel.clone())
        .get_status(GetStatusRequest {})
        .await
        .err();
    let fleet = FleetClient::new(channel.clone())
        .attach(tokio_stream::empty::<WorkerMessage>())
        .await
        .err();
    let bulk = BulkClient::new(channel)
        .have(HaveRequest::default())
        .await
        .err();
    [admin, fleet, bulk].map(|status| status.map_or(Code::Ok, |s| s.code()))
}

#[tokio::test]
async fn an_admin_reaches_admin_and_bulk_but_not_fleet() {
    let head = head().await;
    let channel = head.connect(&head.admin()).await.unwrap();
    assert_eq!(
        codes(channel).await,
        [
            Code::Unimplemented,
            Code::PermissionDenied,
            Code::Unimplemented
        ]
    );
}

#[tokio::test]
async fn a_worker_reaches_fleet_and_bulk_but_not_admin() {
    let head = head().await;
    let channel = head.connect(&head.worker()).await.unwrap();
    assert_eq!(
        codes(channel).await,
        [
            Code::PermissionDenied,
            Code::Unimplemented,
            Code::Unimplemented
        ]
    );
}

#[tokio::test]
async fn without_a_certificate_only_join_can_be_called() {
    let head = head().await;
    let channel = connect_pinned(&head.endpoint(), head.security.ca_fingerprint())
        .await
        .unwrap();
    assert_eq!(codes(channel).await, [Code::Unauthenticated; 3]);
}

#[tokio::test]
async fn a_certificate_of_another_cluster_is_refused_at_the_handshake() {
    let (head, other) = (head().await, head().await);
    let mut forged = other.admin();
    forged.ca_pem = head.admin().ca_pem;
    let error = head.connect(&forged).await.unwrap_err();
    assert!(
        matches!(error, ConnectError::CertificateRefused { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn an_expired_certificate_is_refused_at_the_handshake() {
    let head = head().await;
    let past = Timestamp(now().0 - 3 * 365 * 24 * 3600 * 1000);
    let expired = head.issued(&Identity::admin("me"), past);
    let error = head.connect(&expired).await.unwrap_err();
    assert!(
        matches!(error, ConnectError::CertificateRefused { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn the_head_of_another_cluster_is_not_taken_for_ours() {
    let (head, other) = (head().await, head().await);
    let error = other.connect(&head.admin()).await.unwrap_err();
    assert!(matches!(error, ConnectError::WrongHead { .. }), "{error:?}");
    let pinned = connect_pinned(&other.endpoint(), head.security.ca_fingerprint()).await;
    assert!(matches!(pinned, Err(ConnectError::WrongHead { .. })));
    let zero = connect_pinned(&head.endpoint(), Digest([0; 32])).await;
    assert!(matches!(zero, Err(ConnectError::WrongHead { .. })));
}

#[tokio::test]
async fn a_worker_cannot_play_the_head() {
    let head = head().await;
    let mut impostor = head.security.clone();
    impostor.head = head.worker();
    let (door, address) = door(&impostor, 64).await;
    let router = Server::builder().add_service(impostor.join_service());
    let mut server = JoinSet::new();
    server.spawn(async move { router.serve_with_incoming(door).await.unwrap() });
    let error = connect(&head.admin(), &address.to_string())
        .await
        .unwrap_err();
    assert!(matches!(error, ConnectError::WrongHead { .. }), "{error:?}");
}

#[tokio::test]
async fn where_no_head_listens_the_error_says_so() {
    let head = head().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = free.local_addr().unwrap().to_string();
    drop(free);
    let error = connect(&head.admin(), &endpoint).await.unwrap_err();
    assert!(
        matches!(error, ConnectError::NotRunning { .. }),
        "{error:?}"
    );
    assert!(error.advice().contains("ctl start"));
}

#[tokio::test]
async fn a_joined_worker_is_who_the_head_says_and_not_who_it_wished_to_be() {
    let head = head().await;
    let (key, csr) = csr();
    let joined = head
        .join(&head.token(limits::TOKEN_TTL), &csr)
        .await
        .unwrap();
    assert_eq!(joined.cluster, head.security.cluster());
    let der = issue::first_certificate(&joined.certificate_pem).unwrap();
    let identity = Identity::of_certificate(&der, &joined.cluster).unwrap();
    assert_eq!(identity, Identity::Worker("joined".parse().unwrap()));
    assert!(authorise_worker(&identity, &"joined".parse().unwrap()).is_ok());
    let other = authorise_worker(&identity, &"w1".parse().unwrap()).unwrap_err();
    assert_eq!(other.code(), Code::PermissionDenied);

    let credentials = Credentials {
        ca_pem: joined.ca_pem,
        cert_pem: joined.certificate_pem,
        key_pem: key.serialize_pem(),
    };
    let [admin, fleet, _] = codes(head.connect(&credentials).await.unwrap()).await;
    assert_eq!(
        (admin, fleet),
        (Code::PermissionDenied, Code::Unimplemented)
    );
}

#[tokio::test]
async fn a_token_that_is_used_expired_or_cut_lets_nobody_in() {
    let head = head().await;
    let token = head.token(limits::TOKEN_TTL);
    let (_key, first) = csr();
    head.join(&token, &first).await.unwrap();
    let (_key, second) = csr();
    let code = |result: Result<EnrolResponse, Status>| result.unwrap_err().code();
    assert_eq!(
        code(head.join(&token, &second).await),
        Code::Unauthenticated
    );
    let expired = head.token(Duration::ZERO);
    assert_eq!(
        code(head.join(&expired, &second).await),
        Code::Unauthenticated
    );
    let cut = &token[..token.len() - 4];
    assert_eq!(code(head.join(cut, &second).await), Code::InvalidArgument);
    let fresh = head.token(limits::TOKEN_TTL);
    assert_eq!(
        code(head.join(&fresh, "no csr").await),
        Code::InvalidArgument
    );
    let taken = head.join(&fresh, &second).await;
    assert_eq!(code(taken), Code::AlreadyExists, "the id has another key");
}

#[tokio::test]
async fn two_racing_enrols_over_the_wire_give_exactly_one_certificate() {
    let head = head().await;
    let token = head.token(limits::TOKEN_TTL);
    let ((_a, first), (_b, second)) = (csr(), csr());
    let (one, two) = tokio::join!(head.join(&token, &first), head.join(&token, &second));
    assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
}

#[tokio::test]
async fn a_revoked_worker_reaches_nothing_and_comes_back_with_a_new_key_only() {
    let head = head().await;
    let id = "joined".parse().unwrap();
    let credentials = |(key, joined): (KeyPair, EnrolResponse)| Credentials {
        ca_pem: joined.ca_pem,
        cert_pem: joined.certificate_pem,
        key_pem: key.serialize_pem(),
    };
    let (key, first) = csr();
    let token = head.token(limits::TOKEN_TTL);
    let stolen = credentials((key, head.join(&token, &first).await.unwrap()));
    let open = head.connect(&stolen).await.unwrap();
    head.security.revoke_worker(&id, now()).unwrap();
    assert!(head.security.shuts_out(&id) && !head.security.knows_worker(&id));
    let dir = head.dir.path().join("pki");
    let again = Security::open(&dir, now()).unwrap();
    assert!(again.shuts_out(&id), "a restart forgets it");
    for channel in [open, head.connect(&stolen).await.unwrap()] {
        assert_eq!(codes(channel).await, [Code::Unauthenticated; 3]);
    }
    let repeated = head.join(&token, &first).await.unwrap_err();
    assert_eq!(repeated.code(), Code::Unauthenticated, "its token is good");

    let fresh = head.token(limits::TOKEN_TTL);
    let same = head.join(&fresh, &first).await.unwrap_err();
    assert_eq!(same.code(), Code::Unauthenticated, "its key is good");
    let (key, second) = csr();
    let back = credentials((key, head.join(&fresh, &second).await.unwrap()));
    assert!(!head.security.shuts_out(&id));
    for (credentials, code) in [(back, Code::Unimplemented), (stolen, Code::Unauthenticated)] {
        let [_, fleet, _] = codes(head.connect(&credentials).await.unwrap()).await;
        assert_eq!(fleet, code);
    }
}

#[tokio::test]
async fn this_machines_worker_gets_a_new_key_after_it_was_revoked() {
    let head = head().await;
    let stolen = head.worker();
    head.security
        .revoke_worker(&"w1".parse().unwrap(), now())
        .unwrap();
    let fresh = head.worker();
    assert_ne!(fresh.key_pem, stolen.key_pem);
    for (credentials, code) in [
        (&fresh, Code::Unimplemented),
        (&stolen, Code::Unauthenticated),
    ] {
        let [_, fleet, _] = codes(head.connect(credentials).await.unwrap()).await;
        assert_eq!(fleet, code);
    }
}

#[tokio::test]
async fn after_a_rotation_only_the_new_key_of_administrators_is_good() {
    let head = head().await;
    let (stolen, worker) = (head.admin(), head.worker());
    let dir = head.dir.path().join("client");
    let fresh = head.security.rotate_admins(&dir, "me", now()).unwrap();
    assert_eq!(head.admin(), fresh, "the next start keeps it");
    let again = Security::open(&head.dir.path().join("pki"), now()).unwrap();
    assert_eq!(again.ensure_admin(&dir, "me", now()).unwrap(), fresh);
    for (credentials, code) in [
        (&fresh, Code::Unimplemented),
        (&stolen, Code::Unauthenticated),
    ] {
        let [admin, ..] = codes(head.connect(credentials).await.unwrap()).await;
        assert_eq!(admin, code);
    }
    let [_, fleet, _] = codes(head.connect(&worker).await.unwrap()).await;
    assert_eq!(fleet, Code::Unimplemented, "workers are not concerned");
    // One that was copied back over the new one, as from a backup.
    stolen.save(&dir).unwrap();
    assert_ne!(head.admin().key_pem, stolen.key_pem);
}

#[test]
fn a_restart_keeps_the_cluster_and_what_is_valid_and_renews_what_ends_soon() {
    let dir = tempfile::tempdir().unwrap();
    let (pki, client) = (dir.path().join("pki"), dir.path().join("client"));
    let open = |at| {
        let security = Security::open(&pki, at).unwrap();
        let admin = security.ensure_admin(&client, "me", at).unwrap();
        (security, admin)
    };
    let (first, admin) = open(now());
    let (again, same) = open(now().plus(Duration::from_secs(3600)));
    assert_eq!(first.cluster(), again.cluster());
    assert_eq!((&first.head, &admin), (&again.head, &same));
    let (_, renewed) = open(now().plus(issue::LEAF_LIFE));
    assert_ne!(renewed.cert_pem, admin.cert_pem);
    assert_eq!(renewed.key_pem, admin.key_pem);
}

#[test]
fn a_lost_ca_key_is_an_error_and_never_a_new_cluster() {
    let dir = tempfile::tempdir().unwrap();
    Security::open(dir.path(), now()).unwrap();
    std::fs::remove_file(dir.path().join("ca.key.pem")).unwrap();
    let error = Security::open(dir.path(), now()).err().unwrap().to_string();
    assert!(error.contains("from a backup"), "{error}");
}

#[test]
fn every_file_of_the_pki_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let pki = dir.path().join("pki");
    let security = Security::open(&pki, now()).unwrap();
    security
        .create_token("127.0.0.1:1", limits::TOKEN_TTL, now())
        .unwrap();
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&pki), 0o700);
    for entry in std::fs::read_dir(&pki).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}
