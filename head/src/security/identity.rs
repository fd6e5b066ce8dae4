//! Who a certificate says its holder is.
//!
//! The one name that counts is the URI in the subject's alternative names:
//! `spiffe://orchestra/<cluster>/head`, `…/admin/<name>`, `…/worker/<id>`.

use std::fmt;

use orchestra_types::{WorkerId, id::is_name};
use tonic::{Request, Status};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::refusal::Denied;

/// What all names of this product begin with.
const TRUST_DOMAIN: &str = "spiffe://orchestra/";

/// Who a peer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The head.
    Head,
    /// A person's client, by a name for the log.
    Admin(String),
    /// A worker.
    Worker(WorkerId),
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head => f.write_str("head"),
            Self::Admin(name) => write!(f, "admin/{name}"),
            Self::Worker(id) => write!(f, "worker/{id}"),
        }
    }
}

impl Identity {
    /// An administrator; what cannot stand in a name becomes `_`.
    #[must_use]
    pub fn admin(name: &str) -> Self {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let name: String = name
            .chars()
            .map(|c| if fits(c) { c } else { '_' })
            .take(64)
            .collect();
        Self::Admin(if is_name(&name) {
            name
        } else {
            "admin".to_owned()
        })
    }

    /// The URI that certificates of this identity carry.
    pub(super) fn uri(&self, cluster: &str) -> String {
        format!("{}/{self}", cluster_uri(cluster))
    }

    /// The identity in a certificate of `cluster`; none when it has none of this form.
    pub(super) fn of_certificate(der: &[u8], cluster: &str) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let uri = only_uri(&certificate)?;
        let path = uri.strip_prefix(&cluster_uri(cluster))?.strip_prefix('/')?;
        match path.split_once('/') {
            None if path == "head" => Some(Self::Head),
            Some(("admin", name)) if is_name(name) => Some(Self::Admin(name.to_owned())),
            Some(("worker", id)) => id.parse().ok().map(Self::Worker),
            Some(_) | None => None,
        }
    }
}

/// The URI that the CA's own certificate carries.
pub(super) fn cluster_uri(cluster: &str) -> String {
    format!("{TRUST_DOMAIN}{cluster}")
}

/// The cluster that a CA certificate is of.
pub(super) fn cluster_of_ca(certificate: &X509Certificate<'_>) -> Option<String> {
    let cluster = only_uri(certificate)?.strip_prefix(TRUST_DOMAIN)?;
    is_name(cluster).then(|| cluster.to_owned())
}

/// The certificate's URI name; none when there is not exactly one.
fn only_uri<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a str> {
    let names = certificate.subject_alternative_name().ok()??;
    let mut uris = names
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
    let first = uris.next()?;
    uris.next().is_none().then_some(first)
}

/// Who calls. The gate has put it there for every service but Join.
pub fn caller<T>(request: &Request<T>) -> Result<&Identity, Status> {
    Ok(request
        .extensions()
        .get::<Identity>()
        .ok_or(Denied::NoCertificate)?)
}

/// Refuses a worker that speaks for another one: the certificate says who it is, not its Hello.
pub fn authorise_worker(caller: &Identity, claimed: &WorkerId) -> Result<(), Status> {
    match caller {
        Identity::Worker(id) if id == claimed => Ok(()),
        Identity::Worker(_) | Identity::Admin(_) | Identity::Head => Err(Denied::NotThatWorker {
            caller: caller.clone(),
            claimed: claimed.clone(),
        }
        .into()),
    }
}
