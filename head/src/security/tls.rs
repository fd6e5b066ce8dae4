//! The server side of TLS: TLS 1.3, the head's certificate, and peers with one of the cluster or none.

use std::sync::{Arc, PoisonError, RwLock};

use orchestra_proto::client::Credentials;
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
};

use super::Error;

/// What HTTP/2 is called in TLS.
const HTTP_2: &[u8] = b"h2";

/// A client certificate is optional here, so that Join can be called; the gate must stand before the
/// services.
pub(super) fn server_config(shown: Arc<Shown>) -> Result<Arc<ServerConfig>, Error> {
    let read = |error: String| Error::Read(error);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for ca in certificates(&shown.ca_pem)? {
        roots.add(ca).map_err(|e| read(e.to_string()))?;
    }
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(|e| read(e.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| read(e.to_string()))?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(shown);
    config.alpn_protocols.push(HTTP_2.to_vec());
    Ok(Arc::new(config))
}

/// The certificate that the head shows from now on; connections that are there are not concerned.
#[derive(Debug)]
pub(super) struct Shown {
    ca_pem: String,
    now: RwLock<Arc<CertifiedKey>>,
}

impl Shown {
    pub(super) fn new(head: &Credentials) -> Result<Self, Error> {
        Ok(Self {
            ca_pem: head.ca_pem.clone(),
            now: RwLock::new(certified(head)?),
        })
    }

    pub(super) fn show(&self, head: &Credentials) -> Result<(), Error> {
        let certified = certified(head)?;
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = certified;
        Ok(())
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let now = self.now.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&now))
    }
}

/// The head's certificate with its key, which must belong together.
fn certified(head: &Credentials) -> Result<Arc<CertifiedKey>, Error> {
    let read = |error: String| Error::Read(error);
    let chain = certificates(&head.cert_pem)?;
    let key = PrivateKeyDer::from_pem_slice(head.key_pem.as_bytes());
    let key = key.map_err(|e| read(e.to_string()))?;
    let provider = rustls::crypto::ring::default_provider();
    let certified = CertifiedKey::from_der(chain, key, &provider);
    Ok(Arc::new(certified.map_err(|e| read(e.to_string()))?))
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    all.map_err(|e| Error::Read(e.to_string()))
}
