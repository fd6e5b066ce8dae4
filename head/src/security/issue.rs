//! What a certificate of ours looks like, and the reading of it again.

use std::time::Duration;

use orchestra_proto::client::HEAD_NAME;
use orchestra_types::{Digest, Timestamp};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, date_time_ymd,
};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use sha2::Digest as _;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Identity, identity::cluster_uri, pki::Error};

/// How long the CA is valid: 20 years.
const CA_LIFE: Duration = Duration::from_secs(20 * 365 * 24 * 3600);
/// How long other certificates are valid: 2 years. A third before the end, the head renews its
/// own and the local ones at its start.
pub(super) const LEAF_LIFE: Duration = Duration::from_secs(2 * 365 * 24 * 3600);
/// Clocks of other machines may be behind by this much, and the one by which a cluster was made may have been
/// ahead. Nothing hangs on when a certificate begins: its key is no older than it is.
pub(super) const BACKDATED: Duration = Duration::from_secs(366 * 24 * 3600);

/// The CA's own certificate.
pub(super) fn ca(cluster: &str, key: &KeyPair, now: Timestamp) -> Result<Certificate, Error> {
    let mut params = params(&format!("Orchestra cluster {cluster}"), now, CA_LIFE)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.subject_alt_names = vec![uri(cluster_uri(cluster))?];
    params.self_signed(key).map_err(Error::make)
}

/// The certificate of `identity` for the holder of `key`.
pub(super) fn leaf(
    issuer: &Issuer<'_, KeyPair>,
    cluster: &str,
    identity: &Identity,
    key: &impl PublicKeyData,
    now: Timestamp,
) -> Result<Certificate, Error> {
    let mut params = params(&identity.to_string(), now, LEAF_LIFE)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params.subject_alt_names = vec![uri(identity.uri(cluster))?];
    params.extended_key_usages = match identity {
        Identity::Head => {
            params
                .subject_alt_names
                .extend([dns(HEAD_NAME)?, dns("localhost")?]);
            vec![ExtendedKeyUsagePurpose::ServerAuth]
        }
        Identity::Admin(_) | Identity::Worker(_) => vec![ExtendedKeyUsagePurpose::ClientAuth],
    };
    params.signed_by(key, issuer).map_err(Error::make)
}

fn params(common_name: &str, now: Timestamp, life: Duration) -> Result<CertificateParams, Error> {
    let epoch = date_time_ymd(1970, 1, 1);
    let now = Duration::from_millis(now.0);
    let mut params = CertificateParams::default();
    params.not_before = epoch + now.saturating_sub(BACKDATED);
    params.not_after = epoch + (now + life);
    params.serial_number = Some(serial()?);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    Ok(params)
}

fn serial() -> Result<SerialNumber, Error> {
    let mut bytes: [u8; 16] = random()?;
    bytes[0] &= 0x7f; // a serial number is positive
    Ok(SerialNumber::from_slice(&bytes))
}

/// Random bytes of the operating system.
pub(super) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Error::Random)?;
    Ok(bytes)
}

fn uri(text: String) -> Result<SanType, Error> {
    Ok(SanType::URI(text.try_into().map_err(Error::make)?))
}

fn dns(text: &str) -> Result<SanType, Error> {
    Ok(SanType::DnsName(text.try_into().map_err(Error::make)?))
}

/// The first certificate in `pem`.
pub(super) fn first_certificate(pem: &str) -> Result<CertificateDer<'static>, Error> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| Error::Read(e.to_string()))
}

/// The SHA-256 of a public key, as its `SubjectPublicKeyInfo`.
pub(super) fn key_digest(subject_public_key_info: &[u8]) -> Digest {
    Digest(sha2::Sha256::digest(subject_public_key_info).into())
}

/// The digest of the public key in the first certificate of `pem`.
pub(super) fn key_of_certificate(pem: &str) -> Result<Digest, Error> {
    key_of_der(&first_certificate(pem)?)
}

/// Until when a certificate is good.
pub(super) fn until(der: &[u8]) -> Option<Timestamp> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let seconds = certificate.validity().not_after.timestamp();
    u64::try_from(seconds).ok().map(|s| Timestamp(s * 1000))
}

/// The digest of the public key in a certificate.
pub(super) fn key_of_der(der: &[u8]) -> Result<Digest, Error> {
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|e| Error::Read(e.to_string()))?;
    Ok(key_digest(certificate.public_key().raw))
}
