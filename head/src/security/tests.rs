//! The gate and the Join service through real TLS on loopback.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use orchestra_proto::{
    client::{
        ConnectError, Credentials, Life, RenewError, Renewed, connect, connect_pinned, renew,
    },
    v1::{
        EnrolRequest, EnrolResponse, GetStatusRequest, HaveRequest, RenewResponse, WorkerMessage,
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

use super::{Door, Identity, Places, Security, authorise_worker, issue, tls};
use crate::metrics::tests::Shown;

/// A head's gate with the Join service; every other service is known to the gate only, so that a
/// call that passes it ends with `Unimplemented`.
pub(crate) struct Head {
    dir: tempfile::TempDir,
    pub security: Security,
    pub address: SocketAddr,
    pub metrics: Shown,
    _server: JoinSet<()>,
}

async fn head() -> Head {
    head_with(64).await
}

/// One that has so many places for connections.
pub(crate) async fn head_with(places: usize) -> Head {
    head_in(tempfile::tempdir().unwrap(), places).await
}

async fn head_in(dir: tempfile::TempDir, places: usize) -> Head {
    head_at(dir, places, now()).await
}

/// One that was started at this time.
async fn head_at(dir: tempfile::TempDir, places: usize, at: Timestamp) -> Head {
    let security = Security::open(&dir.path().join("pki"), at).unwrap();
    let metrics = Shown::new();
    let (door, address) = door(&security, places, &metrics).await;
    let router = Server::builder()
        .layer(security.gate())
        .add_service(security.join_service())
        .add_service(security.renewal_service());
    let mut server = JoinSet::new();
    server.spawn(async move { router.serve_with_incoming(door).await.unwrap() });
    Head {
        dir,
        security,
        address,
        metrics,
        _server: server,
    }
}

async fn door(security: &Security, places: usize, metrics: &Shown) -> (Door, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let metrics = Arc::clone(&metrics.metrics);
    let door = security.door(listener, Places::of(places), metrics);
    (door.unwrap(), address)
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

    /// A certificate of `identity` for its own key, which has ended by half.
    fn half_over(&self, identity: &Identity, key_pem: &str) -> Credentials {
        let key = KeyPair::from_pem(key_pem).unwrap();
        let at = Timestamp(now().0 - ms(issue::LEAF_LIFE) / 2);
        self.security.pki.issue(identity, &key, at).unwrap()
    }

    async fn renew(&self, credentials: &Credentials) -> Result<Renewed, RenewError> {
        let channel = self.connect(credentials).await.unwrap();
        renew(channel, credentials, Duration::from_secs(30)).await
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

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap()
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
    assert!(matches!(error, ConnectError::Expired { .. }), "{error:?}");
    let day = orchestra_proto::client::day(past.plus(issue::LEAF_LIFE));
    assert!(error.to_string().contains(&day), "{error} has no {day}");
}

#[tokio::test]
async fn a_certificate_that_the_heads_clock_does_not_take_is_not_called_expired() {
    let head = head().await;
    let later = now().plus(issue::BACKDATED + Duration::from_secs(3600));
    let early = head.issued(&Identity::admin("me"), later);
    let error = head.connect(&early).await.unwrap_err();
    assert!(
        matches!(error, ConnectError::CertificateRefused { .. }),
        "{error:?}"
    );
    assert!(error.advice().contains("clock"));
}

#[tokio::test]
async fn a_head_whose_certificate_has_expired_is_not_called_another_one() {
    let dir = tempfile::tempdir().unwrap();
    let past = Timestamp(now().0 - 3 * 365 * 24 * 3600 * 1000);
    let head = head_at(dir, 64, past).await;
    let day = orchestra_proto::client::day(past.plus(issue::LEAF_LIFE));
    let admin = head.connect(&head.admin()).await.unwrap_err();
    let endpoint = head.endpoint();
    let pinned = connect_pinned(&endpoint, head.security.ca_fingerprint());
    for error in [admin, pinned.await.unwrap_err()] {
        assert!(
            matches!(error, ConnectError::HeadOutOfDate { .. }),
            "{error:?}"
        );
        assert!(error.to_string().contains(&day), "{error} has no {day}");
        assert!(error.advice().contains("restart the head"));
    }
    // It renews its own while it runs, before that.
    let pki = head.dir.path().join("pki");
    head.security.renew_own(&pki, now()).unwrap();
    head.connect(&head.admin()).await.unwrap();
    let own = Credentials::load(&pki).unwrap();
    head.security.renew_own(&pki, now()).unwrap();
    assert_eq!(
        Credentials::load(&pki).unwrap(),
        own,
        "it was not due again"
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
    impostor.shown = Arc::new(tls::Shown::new(&head.worker()).unwrap());
    let (door, address) = door(&impostor, 64, &Shown::new()).await;
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
    let id = "w1".parse().unwrap();
    assert!(!head.security.is_revoked(&id));
    head.security.revoke_worker(&id, now()).unwrap();
    let fresh = head.worker();
    assert_ne!(fresh.key_pem, stolen.key_pem);
    assert!(head.security.is_revoked(&id), "it has not come yet");
    head.security.note_certificate(&id, None);
    assert!(!head.security.is_revoked(&id));
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
        (security, (Credentials::load(&pki).unwrap(), admin))
    };
    let (first, (own, admin)) = open(now());
    let (again, same) = open(now().plus(Duration::from_secs(3600)));
    assert_eq!(first.cluster(), again.cluster());
    assert_eq!((&own, &admin), (&same.0, &same.1));
    let (_, (_, renewed)) = open(now().plus(issue::LEAF_LIFE));
    assert_ne!(renewed.cert_pem, admin.cert_pem);
    assert_eq!(renewed.key_pem, admin.key_pem);
    // A clock that is behind makes none anew.
    let (_, (_, kept)) = open(Timestamp(0));
    assert_eq!(kept, renewed);
    // That clock was ahead: by the right one nobody could get in.
    let (_, (own, admin)) = open(now());
    for pem in [own.cert_pem, admin.cert_pem] {
        let life = Life::of_pem(&pem).unwrap();
        assert!(life.begins <= now() && !life.is_due(now()), "{life:?}");
    }
}

#[test]
fn a_cluster_that_was_made_by_a_clock_that_was_ahead_can_be_used_by_the_right_one() {
    let dir = tempfile::tempdir().unwrap();
    let (pki, client) = (dir.path().join("pki"), dir.path().join("client"));
    let open = |at| {
        let security = Security::open(&pki, at).unwrap();
        let admin = security.ensure_admin(&client, "me", at).unwrap();
        [Credentials::load(&pki).unwrap(), admin]
    };
    let made = open(now().plus(issue::BACKDATED - Duration::from_secs(3600)));
    let now_used = open(now());
    assert_eq!(made, now_used, "its certificates are good");
    for credentials in now_used {
        let life = Life::of_pem(&credentials.cert_pem).unwrap();
        assert!(life.begins <= now(), "{life:?}");
    }
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

fn identity(head: &Head, credentials: &Credentials) -> (Identity, Digest) {
    let der = issue::first_certificate(&credentials.cert_pem).unwrap();
    let identity = Identity::of_certificate(&der, head.security.cluster()).unwrap();
    (identity, issue::key_of_der(&der).unwrap())
}

#[tokio::test]
async fn who_shows_a_good_certificate_gets_the_same_with_a_new_life() {
    let head = head().await;
    for (role, good) in [
        (Identity::admin("me"), head.admin()),
        (Identity::Worker("w1".parse().unwrap()), head.worker()),
    ] {
        let old = head.half_over(&role, &good.key_pem);
        let renewed = head.renew(&old).await.unwrap();
        let fresh = renewed.credentials();
        let life = Life::of_pem(&fresh.cert_pem).unwrap();
        assert!(life.ends.0 > now().0 + ms(issue::LEAF_LIFE) - 60_000);
        assert!(life.begins < now() && !life.is_due(now()));
        assert_eq!(identity(&head, fresh), identity(&head, &old));
        assert_eq!(
            codes(head.connect(fresh).await.unwrap()).await,
            codes(head.connect(&old).await.unwrap()).await
        );
    }
}

#[tokio::test]
async fn a_revoked_key_is_not_renewed_and_no_certificate_of_it_is_good() {
    let head = head().await;
    let id = "w1".parse().unwrap();
    let old = head.half_over(
        &Identity::Worker("w1".parse().unwrap()),
        &head.worker().key_pem,
    );
    let renewed = head.renew(&old).await.unwrap();
    let open = head.connect(&old).await.unwrap();
    head.security.revoke_worker(&id, now()).unwrap();
    let refused = renew(open, &old, Duration::from_secs(30))
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("revoked"), "{refused}");
    for shown in [&old, renewed.credentials()] {
        let refused = head.renew(shown).await.unwrap_err();
        assert!(refused.to_string().contains("revoked"), "{refused}");
        let channel = head.connect(shown).await.unwrap();
        assert_eq!(codes(channel).await, [Code::Unauthenticated; 3]);
    }

    let admin = head.half_over(&Identity::admin("me"), &head.admin().key_pem);
    let dir = head.dir.path().join("client");
    head.security.rotate_admins(&dir, "me", now()).unwrap();
    let refused = head.renew(&admin).await.unwrap_err();
    assert!(refused.to_string().contains("revoked"), "{refused}");
}

#[tokio::test]
async fn a_stranger_and_who_has_not_joined_are_not_renewed() {
    let head = head().await;
    let (endpoint, joined) = (head.endpoint(), head.worker());
    let pinned = connect_pinned(&endpoint, head.security.ca_fingerprint());
    let none = renew(pinned.await.unwrap(), &joined, Duration::from_secs(30));
    let none = none.await.unwrap_err();
    assert!(none.to_string().contains("needs a certificate"), "{none}");

    let stranger = head.issued(&Identity::Worker("w9".parse().unwrap()), now());
    let unknown = head.renew(&stranger).await.unwrap_err().to_string();
    assert!(unknown.contains("token create"), "{unknown}");
    head.worker();
    let other_key = head.issued(&Identity::Worker("w1".parse().unwrap()), now());
    let other_key = head.renew(&other_key).await.unwrap_err().to_string();
    assert!(other_key.contains("with this key"), "{other_key}");
    let role = head.issued(&Identity::Head, now());
    assert!(head.connect(&role).await.is_err(), "a head is no client");
}

/// Nothing can be asked for: who sends more than nothing is not heard.
#[tokio::test]
async fn a_worker_is_not_renewed_into_another_role_or_another_worker() {
    let head = head().await;
    let worker = head.half_over(
        &Identity::Worker("w1".parse().unwrap()),
        &head.worker().key_pem,
    );
    let channel = head.connect(&worker).await.unwrap();
    let (_key, csr_pem) = csr();
    // What it would look like if it could be asked for.
    let wished = EnrolRequest {
        token: String::new(),
        csr_pem,
        worker_id: "w2".to_owned(),
    };
    let mut raw = tonic::client::Grpc::new(channel);
    raw.ready().await.unwrap();
    let path = tonic::codegen::http::uri::PathAndQuery::from_static("/orchestra.v1.Renewal/Renew");
    let codec = tonic_prost::ProstCodec::<EnrolRequest, RenewResponse>::default();
    let answer = raw.unary(tonic::Request::new(wished), path, codec).await;
    let cert_pem = answer.unwrap().into_inner().certificate_pem;
    let made = Credentials {
        cert_pem,
        ..worker.clone()
    };
    assert_eq!(identity(&head, &made), identity(&head, &worker));
}

/// TLS trusts the authority's key: the end of its own certificate cuts nobody off.
#[tokio::test]
async fn the_end_of_the_authoritys_own_certificate_cuts_nobody_off() {
    let dir = tempfile::tempdir().unwrap();
    let long_ago = Timestamp(now().0 - 21 * 365 * 24 * 3600 * 1000);
    drop(Security::open(&dir.path().join("pki"), long_ago).unwrap());
    let head = head_in(dir, 64).await;
    let life = Life::of_pem(head.security.pki.ca_pem()).unwrap();
    assert!(life.is_over(now()));
    let id = Identity::Worker("w1".parse().unwrap());
    let worker = head.half_over(&id, &head.worker().key_pem);
    head.renew(&worker).await.unwrap();
    let (_key, csr) = csr();
    head.join(&head.token(limits::TOKEN_TTL), &csr)
        .await
        .unwrap();
}
