//! A client's certificate and key, as PEM files in one directory.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use orchestra_config::durable;
use orchestra_types::Digest;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use super::{ConnectError, Life, renewal::Lock};

/// Largest PEM file: 1 MiB.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What proves to the head who we are, and to us that it is the head.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The cluster's CA certificate.
    pub ca_pem: String,
    /// Our certificate.
    pub cert_pem: String,
    /// Our private key.
    pub key_pem: String,
}

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file cannot be read.
    #[error("failed to read `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("failed to write `{path}`")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others than its owner can read the key.
    #[error("`{path}` can be read by others (mode {mode:03o}); run `chmod 600 {path}`")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
}

impl Credentials {
    /// File name of the CA certificate.
    pub const CA_FILE: &str = "ca.pem";
    /// File name of the certificate.
    pub const CERT_FILE: &str = "cert.pem";
    /// File name of the private key.
    pub const KEY_FILE: &str = "key.pem";

    /// Reads `ca.pem`, `cert.pem` and `key.pem` in `dir`. A key that others can read is refused.
    pub fn load(dir: &Path) -> Result<Self, CredentialsError> {
        Ok(Self {
            ca_pem: read(&dir.join(Self::CA_FILE), Secrecy::Public)?,
            cert_pem: read(&dir.join(Self::CERT_FILE), Secrecy::Public)?,
            key_pem: read(&dir.join(Self::KEY_FILE), Secrecy::Secret)?,
        })
    }

    /// Writes the three files to `dir`, each whole or not at all, readable by the owner only.
    ///
    /// The certificate comes last: where it is, its key is too.
    pub fn save(&self, dir: &Path) -> Result<(), CredentialsError> {
        durable::create_private_dir(dir).map_err(|source| CredentialsError::Write {
            path: dir.to_owned(),
            source,
        })?;
        let _lock = Lock::take(dir);
        let files = [
            (Self::CA_FILE, &self.ca_pem),
            (Self::KEY_FILE, &self.key_pem),
            (Self::CERT_FILE, &self.cert_pem),
        ];
        for (name, text) in files {
            let path = dir.join(name);
            durable::write(&path, text.as_bytes(), durable::Access::Private)
                .map_err(|source| CredentialsError::Write { path, source })?;
        }
        Ok(())
    }

    /// The life of our certificate; none when it cannot be read.
    #[must_use]
    pub fn life(&self) -> Option<Life> {
        Life::of_pem(&self.cert_pem)
    }

    /// The fingerprint of the cluster's CA, as a join token names it; none when there is no
    /// certificate in its file.
    #[must_use]
    pub fn ca_fingerprint(&self) -> Option<Digest> {
        let ca = CertificateDer::from_pem_slice(self.ca_pem.as_bytes()).ok()?;
        Some(super::fingerprint(&ca))
    }

    /// The TLS side of it: TLS 1.3, the cluster's CA and nothing else, our certificate.
    pub(super) fn client_config(&self) -> Result<ClientConfig, ConnectError> {
        let mut roots = RootCertStore::empty();
        for ca in certificates("CA certificate", &self.ca_pem)? {
            roots
                .add(ca)
                .map_err(|e| bad("CA certificate", e.to_string()))?;
        }
        let chain = certificates("certificate", &self.cert_pem)?;
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes())
            .map_err(|e| bad("key", e.to_string()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| bad("TLS setting", e.to_string()))?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(|e| bad("certificate", e.to_string()))
    }
}

/// Never shows the key.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Secrecy {
    Public,
    Secret,
}

fn read(path: &Path, secrecy: Secrecy) -> Result<String, CredentialsError> {
    let failed = |source| CredentialsError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    if secrecy == Secrecy::Secret && mode & 0o077 != 0 {
        return Err(CredentialsError::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    let mut text = String::new();
    file.take(FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(failed)?;
    Ok(text)
}

fn certificates(
    what: &'static str,
    pem: &str,
) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match found {
        Ok(found) if found.is_empty() => Err(bad(what, "no certificate in the file".to_owned())),
        Ok(found) => Ok(found),
        Err(error) => Err(bad(what, error.to_string())),
    }
}

fn bad(what: &'static str, why: String) -> ConnectError {
    ConnectError::Credentials { what, why }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn written() -> (tempfile::TempDir, Credentials) {
        let dir = tempfile::tempdir().unwrap();
        let credentials = Credentials {
            ca_pem: "ca".to_owned(),
            cert_pem: "cert".to_owned(),
            key_pem: "SECRET".to_owned(),
        };
        credentials.save(&dir.path().join("client")).unwrap();
        (dir, credentials)
    }

    #[test]
    fn saved_credentials_load_again_and_only_the_owner_can_read_them() {
        let (dir, credentials) = written();
        let client = dir.path().join("client");
        assert_eq!(Credentials::load(&client).unwrap(), credentials);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&client), 0o700);
        assert_eq!(mode(&client.join("key.pem")), 0o600);
        assert!(!format!("{credentials:?}").contains("SECRET"));
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_with_the_command_that_mends_it() {
        let (dir, _) = written();
        let key = dir.path().join("client/key.pem");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
        let error = Credentials::load(&dir.path().join("client")).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("mode 640") && text.contains("chmod 600"),
            "{text}"
        );
    }

    #[test]
    fn a_missing_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let text = Credentials::load(dir.path()).unwrap_err().to_string();
        assert!(text.contains("ca.pem"), "{text}");
    }

    #[test]
    fn what_is_not_pem_is_refused_when_connecting() {
        let (_dir, credentials) = written();
        let error = credentials.client_config().unwrap_err();
        assert!(matches!(error, ConnectError::Credentials { .. }), "{error}");
    }
}
