//! The cluster's CA on disk, and the certificates that it signs.
//!
//! ```text
//! STATE/head/pki/ca.pem      the CA's certificate; its URI name says which cluster it is
//!               /ca.key.pem  the CA's key, never leaves the machine
//!               /cert.pem    the head's certificate, and the CA's for peers that pin it
//!               /key.pem     the head's key
//! ```

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use orchestra_config::durable::{self, Access};
use orchestra_proto::client::{self, Credentials, CredentialsError, Life};
use orchestra_types::{Digest, Timestamp, WorkerId};
use rcgen::{
    CertificateSigningRequestParams, Issuer, KeyPair, PublicKeyData, SubjectPublicKeyInfo,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{
    Identity,
    identity::cluster_of_ca,
    issue::{self, LEAF_LIFE},
};

const CA_KEY_FILE: &str = "ca.key.pem";

/// Why there is no working PKI.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory cannot be read or written.
    #[error("failed to read or write `{path}`")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A credentials file cannot be read or written.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The CA's certificate and key do not belong together, or one of them is missing.
    #[error(
        "the CA in `{dir}` is damaged: {why}; put both `ca.pem` and `ca.key.pem` back from a \
         backup, or remove both to make a new cluster that every worker must join again"
    )]
    DamagedCa {
        /// The directory.
        dir: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A certificate could not be made.
    #[error("failed to make a certificate")]
    Make(#[source] rcgen::Error),
    /// A certificate could not be read.
    #[error("failed to read a certificate: {0}")]
    Read(String),
    /// A stored list cannot be understood.
    #[error(
        "`{path}` is damaged: {why}; remove it to forget all join tokens, and whose credentials were revoked"
    )]
    DamagedTokens {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The operating system gave no random numbers.
    #[error("the operating system gives no random numbers")]
    Random,
}

impl Error {
    pub(super) fn make(source: impl Into<rcgen::Error>) -> Self {
        Self::Make(source.into())
    }

    pub(super) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }
}

/// The cluster's CA.
pub(super) struct Pki {
    cluster: String,
    ca_pem: String,
    ca_der: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

/// A worker's certificate and the key that it is for.
pub(super) struct Request {
    params: CertificateSigningRequestParams,
}

/// The cluster of the CA in this file; none where no such CA can be read.
#[must_use]
pub fn cluster_in(ca: &Path) -> Option<String> {
    let pem = fs::read_to_string(ca).ok()?;
    let der = issue::first_certificate(&pem).ok()?;
    let (_, certificate) = X509Certificate::from_der(&der).ok()?;
    cluster_of_ca(&certificate)
}

impl Request {
    /// Reads a request and checks that it is signed by its own key. Every name in it is ignored.
    pub(super) fn read(pem: &str) -> Result<Self, rcgen::Error> {
        let params = CertificateSigningRequestParams::from_pem(pem)?;
        Ok(Self { params })
    }

    /// The digest of the public key.
    pub(super) fn key(&self) -> Digest {
        issue::key_digest(&self.params.public_key.subject_public_key_info())
    }
}

impl Pki {
    /// Opens the CA in `dir`; makes one when there is none.
    pub(super) fn open(dir: &Path, now: Timestamp) -> Result<Self, Error> {
        durable::create_private_dir(dir).map_err(Error::file(dir))?;
        let ca_path = dir.join(Credentials::CA_FILE);
        if !ca_path.try_exists().map_err(Error::file(&ca_path))? {
            make_ca(dir, now)?;
        }
        let ca_pem = fs::read_to_string(&ca_path).map_err(Error::file(&ca_path))?;
        let damaged = |why: String| Error::DamagedCa {
            dir: dir.to_owned(),
            why,
        };
        let key_pem =
            fs::read_to_string(dir.join(CA_KEY_FILE)).map_err(|e| damaged(e.to_string()))?;
        Self::from_pem(ca_pem, &key_pem).map_err(damaged)
    }

    fn from_pem(ca_pem: String, key_pem: &str) -> Result<Self, String> {
        let key = KeyPair::from_pem(key_pem).map_err(|e| e.to_string())?;
        let ca_der = issue::first_certificate(&ca_pem).map_err(|e| e.to_string())?;
        let (_, certificate) = X509Certificate::from_der(&ca_der).map_err(|e| e.to_string())?;
        let cluster = cluster_of_ca(&certificate).ok_or("`ca.pem` names no cluster")?;
        if certificate.public_key().raw != key.subject_public_key_info() {
            return Err("the key is not the certificate's".to_owned());
        }
        let issuer = Issuer::from_ca_cert_der(&ca_der, key).map_err(|e| e.to_string())?;
        Ok(Self {
            cluster,
            ca_der: ca_der.to_vec(),
            issuer,
            ca_pem,
        })
    }

    pub(super) fn cluster(&self) -> &str {
        &self.cluster
    }

    pub(super) fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    pub(super) fn ca_fingerprint(&self) -> Digest {
        client::fingerprint(&self.ca_der)
    }

    /// Makes sure that `dir` holds credentials of `identity` that are valid for a good while.
    /// The key is kept when the certificate is renewed, unless it was revoked.
    pub(super) fn ensure(
        &self,
        dir: &Path,
        identity: &Identity,
        revoked: impl Fn(&Digest) -> bool,
        now: Timestamp,
    ) -> Result<Credentials, Error> {
        let stored = Credentials::load(dir);
        if let Err(error @ CredentialsError::Exposed { .. }) = &stored {
            tracing::warn!(%error, "a key could be read by others; a new one is made");
        }
        let key = stored
            .as_ref()
            .ok()
            .and_then(|c| KeyPair::from_pem(&c.key_pem).ok())
            .filter(|key| !revoked(&issue::key_digest(&key.subject_public_key_info())));
        if let (Ok(stored), Some(key)) = (&stored, &key)
            && self.is_good(stored, key, identity, now)
        {
            return Ok(stored.clone());
        }
        match key {
            Some(key) => self.save(dir, identity, &key, now),
            None => self.make(dir, identity, now),
        }
    }

    /// Puts credentials of `identity` with a new key into `dir`, whatever is there.
    pub(super) fn make(
        &self,
        dir: &Path,
        identity: &Identity,
        now: Timestamp,
    ) -> Result<Credentials, Error> {
        let key = KeyPair::generate().map_err(Error::make)?;
        self.save(dir, identity, &key, now)
    }

    fn save(
        &self,
        dir: &Path,
        identity: &Identity,
        key: &KeyPair,
        now: Timestamp,
    ) -> Result<Credentials, Error> {
        let credentials = self.issue(identity, key, now)?;
        credentials.save(dir)?;
        Ok(credentials)
    }

    /// Signs the public key of a joining worker.
    pub(super) fn sign(
        &self,
        request: &Request,
        worker: &WorkerId,
        now: Timestamp,
    ) -> Result<String, Error> {
        let identity = Identity::Worker(worker.clone());
        let key = &request.params.public_key;
        Ok(issue::leaf(&self.issuer, &self.cluster, &identity, key, now)?.pem())
    }

    /// Signs the public key of a certificate again, for the same holder.
    pub(super) fn renew(
        &self,
        holder: &Identity,
        der: &[u8],
        now: Timestamp,
    ) -> Result<String, Error> {
        let (_, shown) = X509Certificate::from_der(der).map_err(|e| Error::Read(e.to_string()))?;
        let key = SubjectPublicKeyInfo::from_der(shown.public_key().raw).map_err(Error::make)?;
        Ok(issue::leaf(&self.issuer, &self.cluster, holder, &key, now)?.pem())
    }

    pub(super) fn issue(
        &self,
        identity: &Identity,
        key: &KeyPair,
        now: Timestamp,
    ) -> Result<Credentials, Error> {
        let leaf = issue::leaf(&self.issuer, &self.cluster, identity, key, now)?.pem();
        // The head shows its CA to peers that know it by its fingerprint only.
        let cert_pem = match identity {
            Identity::Head => format!("{leaf}{}", self.ca_pem),
            Identity::Admin(_) | Identity::Worker(_) => leaf,
        };
        Ok(Credentials {
            ca_pem: self.ca_pem.clone(),
            cert_pem,
            key_pem: key.serialize_pem(),
        })
    }

    fn is_good(
        &self,
        stored: &Credentials,
        key: &KeyPair,
        identity: &Identity,
        now: Timestamp,
    ) -> bool {
        let Ok(der) = issue::first_certificate(&stored.cert_pem) else {
            return false;
        };
        let (Ok((_, certificate)), Ok((_, ca))) = (
            X509Certificate::from_der(&der),
            X509Certificate::from_der(&self.ca_der),
        ) else {
            return false;
        };
        // One that is not valid yet was made by a clock that was ahead; but none is where this one is behind.
        let is_behind = Life::of_der(&self.ca_der).is_some_and(|ca| now < ca.begins);
        let Some(life) = Life::of_der(&der) else {
            return false;
        };
        let due = now.plus(LEAF_LIFE / 3);
        stored.ca_pem == self.ca_pem
            && certificate.verify_signature(Some(ca.public_key())).is_ok()
            && certificate.public_key().raw == key.subject_public_key_info()
            && Identity::of_certificate(&der, &self.cluster).as_ref() == Some(identity)
            && (life.begins <= now || is_behind)
            && life.ends > due
    }
}

/// Makes a cluster: the key first, so that a CA certificate on disk always has its key.
fn make_ca(dir: &Path, now: Timestamp) -> Result<(), Error> {
    let cluster = uuid::Uuid::new_v4().to_string();
    let key = KeyPair::generate().map_err(Error::make)?;
    let certificate = issue::ca(&cluster, &key, now)?;
    let files = [
        (CA_KEY_FILE, key.serialize_pem()),
        (Credentials::CA_FILE, certificate.pem()),
    ];
    for (name, text) in files {
        let path = dir.join(name);
        durable::write(&path, text.as_bytes(), Access::Private).map_err(Error::file(&path))?;
    }
    tracing::info!(%cluster, "made a new cluster and its CA");
    Ok(())
}
