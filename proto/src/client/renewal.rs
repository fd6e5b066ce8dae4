//! Our certificate, made anew by the head before it ends: for the same key, so that only one file
//! changes, and whoever reads it meanwhile has the old one or the new one, and the key fits both.

use std::{
    fs::{File, TryLockError},
    path::Path,
    time::Duration,
};

use orchestra_config::durable;
use orchestra_types::Timestamp;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tonic::{Code, Status, transport::Channel};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Credentials, CredentialsError, Life};
use crate::v1::{RenewRequest, renewal_client::RenewalClient};

/// Largest answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// The head is too old for that.
    #[error("the head is of a version that renews no certificates")]
    Unknown,
    /// The head said no, or nothing.
    #[error("the head gave no new certificate: {}", .0.message())]
    Refused(Box<Status>),
    /// What it gave is of no use.
    #[error("the head gave a certificate that cannot be used: {0}")]
    Unusable(&'static str),
}

impl From<Status> for RenewError {
    fn from(status: Status) -> Self {
        match status.code() {
            Code::Unimplemented => Self::Unknown,
            // What a gate says that does not know the service.
            Code::PermissionDenied if status.message().contains("may not call") => Self::Unknown,
            _ => Self::Refused(Box::new(status)),
        }
    }
}

/// A certificate that was made anew, and is not stored yet.
#[derive(Clone, Debug)]
pub struct Renewed {
    credentials: Credentials,
    life: Life,
}

/// Asks for a new certificate, over a connection that was made with `credentials`.
pub async fn renew(
    channel: Channel,
    credentials: &Credentials,
    within: Duration,
) -> Result<Renewed, RenewError> {
    let mut request = tonic::Request::new(RenewRequest {});
    request.set_timeout(within);
    let answer = RenewalClient::new(channel)
        .max_decoding_message_size(ANSWER_BYTES_MAX)
        .renew(request)
        .await?
        .into_inner();
    Renewed::of(credentials, answer.certificate_pem).map_err(RenewError::Unusable)
}

impl Renewed {
    /// A head that errs does not cost the certificate that is there.
    fn of(before: &Credentials, cert_pem: String) -> Result<Self, &'static str> {
        let read = "it cannot be read";
        let life = Life::of_pem(&cert_pem).ok_or(read)?;
        let [ca, old, new] =
            [&before.ca_pem, &before.cert_pem, &cert_pem].map(|pem| first_certificate(pem));
        let (ca, old, new) = (ca.ok_or(read)?, old.ok_or(read)?, new.ok_or(read)?);
        let parse = |der| X509Certificate::from_der(der).map(|(_, certificate)| certificate);
        let (ca, old, new) = match (parse(&ca), parse(&old), parse(&new)) {
            (Ok(ca), Ok(old), Ok(new)) => (ca, old, new),
            _ => return Err(read),
        };
        if new.public_key().raw != old.public_key().raw {
            return Err("it is for another key");
        }
        if names(&new) != names(&old) {
            return Err("it is for another name");
        }
        if new.verify_signature(Some(ca.public_key())).is_err() {
            return Err("it is of another cluster");
        }
        if Life::of_pem(&before.cert_pem).is_some_and(|old| life.ends <= old.ends) {
            return Err("it ends no later");
        }
        Ok(Self {
            credentials: Credentials {
                cert_pem,
                ..before.clone()
            },
            life,
        })
    }

    /// What to connect with.
    #[must_use]
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// When it ends.
    #[must_use]
    pub fn ends(&self) -> Timestamp {
        self.life.ends
    }

    /// Puts it into `dir`, unless there is another key by now or a certificate as good; whether it did.
    pub fn save(&self, dir: &Path) -> Result<bool, CredentialsError> {
        let Some(_lock) = Lock::try_take(dir) else {
            return Ok(false);
        };
        let there = Credentials::load(dir)?;
        let later = Life::of_pem(&there.cert_pem).is_some_and(|life| life.ends >= self.life.ends);
        if later || there.key_pem != self.credentials.key_pem {
            return Ok(false);
        }
        let path = dir.join(Credentials::CERT_FILE);
        let pem = self.credentials.cert_pem.as_bytes();
        durable::write(&path, pem, durable::Access::Private)
            .map_err(|source| CredentialsError::Write { path, source })?;
        Ok(true)
    }
}

/// Keeps other processes from the files of one directory: a key that is replaced never meets the
/// certificate of the one before. A file system that knows no locks of directories has none.
pub(super) struct Lock {
    _dir: Option<File>,
}

impl Lock {
    /// Waits for the others, who only write small files.
    pub(super) fn take(dir: &Path) -> Self {
        let file = File::open(dir).and_then(|file| file.lock().map(|()| file));
        Self { _dir: file.ok() }
    }

    /// None while somebody else has it.
    fn try_take(dir: &Path) -> Option<Self> {
        let Ok(file) = File::open(dir) else {
            return Some(Self { _dir: None });
        };
        match file.try_lock() {
            Ok(()) => Some(Self { _dir: Some(file) }),
            Err(TryLockError::WouldBlock) => None,
            Err(TryLockError::Error(_)) => Some(Self { _dir: None }),
        }
    }
}

fn first_certificate(pem: &str) -> Option<CertificateDer<'static>> {
    CertificateDer::from_pem_slice(pem.as_bytes()).ok()
}

/// Whom a certificate names, in a form to compare.
fn names(certificate: &X509Certificate<'_>) -> String {
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.map(|names| &names.value.general_names);
    format!("{} {names:?}", certificate.subject())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{CertificateParams, IsCa, Issuer, KeyPair, SanType, date_time_ymd};

    use super::*;

    struct Ca {
        pem: String,
        issuer: Issuer<'static, KeyPair>,
    }

    fn ca() -> Ca {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Ca {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    impl Ca {
        fn sign(&self, key: &KeyPair, name: &str, ends: i32) -> String {
            let mut params = CertificateParams::default();
            params.not_before = date_time_ymd(2026, 1, 1);
            params.not_after = date_time_ymd(ends, 1, 1);
            let uri = format!("spiffe://orchestra/c/{name}");
            params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
            params.signed_by(key, &self.issuer).unwrap().pem()
        }

        fn credentials(&self, key: &KeyPair, ends: i32) -> Credentials {
            Credentials {
                ca_pem: self.pem.clone(),
                cert_pem: self.sign(key, "worker/w1", ends),
                key_pem: key.serialize_pem(),
            }
        }
    }

    #[test]
    fn what_is_not_our_certificate_made_anew_is_not_taken() {
        let (ca, other_ca) = (ca(), ca());
        let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let old = ca.credentials(&key, 2028);
        let of = |pem| Renewed::of(&old, pem).map(|renewed| renewed.credentials);
        let good = ca.sign(&key, "worker/w1", 2030);
        assert_eq!(of(good.clone()).unwrap().cert_pem, good);
        for (pem, why) in [
            (String::new(), "read"),
            (ca.sign(&other, "worker/w1", 2030), "another key"),
            (ca.sign(&key, "admin/w1", 2030), "another name"),
            (ca.sign(&key, "worker/w2", 2030), "another name"),
            (other_ca.sign(&key, "worker/w1", 2030), "another cluster"),
            (ca.sign(&key, "worker/w1", 2028), "no later"),
        ] {
            let refused = of(pem).unwrap_err();
            assert!(refused.contains(why), "{refused} is not {why}");
        }
    }

    fn stored() -> (tempfile::TempDir, Credentials, Renewed) {
        let (ca, key) = (ca(), KeyPair::generate().unwrap());
        let old = ca.credentials(&key, 2028);
        let dir = tempfile::tempdir().unwrap();
        old.save(dir.path()).unwrap();
        let renewed = Renewed::of(&old, ca.sign(&key, "worker/w1", 2030)).unwrap();
        (dir, old, renewed)
    }

    #[test]
    fn a_renewed_certificate_takes_the_place_of_the_old_one_once() {
        let (dir, old, renewed) = stored();
        // What an end in the middle of a write has left: the old one counts, and it is in nobody's way.
        fs::write(dir.path().join(".cert.pem.1.0.tmp"), "-----BEGIN CERT").unwrap();
        assert_eq!(Credentials::load(dir.path()).unwrap(), old);
        assert!(renewed.save(dir.path()).unwrap());
        let there = Credentials::load(dir.path()).unwrap();
        assert_eq!(there, renewed.credentials);
        assert_eq!(there.key_pem, old.key_pem);
        assert!(!renewed.save(dir.path()).unwrap(), "another was quicker");
    }

    #[test]
    fn a_key_that_was_replaced_meanwhile_keeps_its_own_certificate() {
        let (dir, _, renewed) = stored();
        let fresh = ca().credentials(&KeyPair::generate().unwrap(), 2028);
        fresh.save(dir.path()).unwrap();
        assert!(!renewed.save(dir.path()).unwrap());
        assert_eq!(Credentials::load(dir.path()).unwrap(), fresh);
    }

    #[test]
    fn nothing_is_written_while_another_process_writes() {
        let (dir, old, renewed) = stored();
        let lock = Lock::take(dir.path());
        assert!(!renewed.save(dir.path()).unwrap());
        assert_eq!(Credentials::load(dir.path()).unwrap(), old);
        drop(lock);
        assert!(renewed.save(dir.path()).unwrap());
    }

    #[test]
    fn a_head_that_is_too_old_is_told_from_one_that_says_no() {
        let error = |code, message| RenewError::from(Status::new(code, message));
        let gate = "worker/w1 may not call orchestra.v1.Renewal";
        for old in [
            error(Code::Unimplemented, ""),
            error(Code::PermissionDenied, gate),
        ] {
            assert!(matches!(old, RenewError::Unknown), "{old}");
        }
        let no = error(Code::Unauthenticated, "revoked");
        assert!(no.to_string().ends_with(": revoked"), "{no}");
    }
}
