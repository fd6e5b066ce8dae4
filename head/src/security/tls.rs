//! The server side of TLS: TLS 1.3, the head's certificate, and peers with one of the cluster or none.

use std::sync::Arc;

use orchestra_proto::client::Credentials;
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};

use super::Error;

/// What HTTP/2 is called in TLS.
const HTTP_2: &[u8] = b"h2";

/// A client certificate is optional here, so that Join can be called; the gate must stand before the
/// services.
pub(super) fn server_config(head: &Credentials) -> Result<Arc<ServerConfig>, Error> {
    let read = |error: String| Error::Read(error);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for ca in certificates(&head.ca_pem)? {
        roots.add(ca).map_err(|e| read(e.to_string()))?;
    }
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(|e| read(e.to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(head.key_pem.as_bytes());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| read(e.to_string()))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            certificates(&head.cert_pem)?,
            key.map_err(|e| read(e.to_string()))?,
        )
        .map_err(|e| read(e.to_string()))?;
    config.alpn_protocols.push(HTTP_2.to_vec());
    Ok(Arc::new(config))
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    all.map_err(|e| Error::Read(e.to_string()))
}
