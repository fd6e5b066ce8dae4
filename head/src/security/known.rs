//! Who the holders of certificates are, so that a certificate is read once and not at each call.
//!
//! What is kept follows from the bytes of a certificate alone. Whether it is trusted is not kept: that
//! is decided by TLS, and what its holder may do by the gate, at each call.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use orchestra_types::Digest;

use super::{Identity, issue};

/// Most certificates that are kept. When there are more, all are let go, and read again.
const KNOWN_MAX: usize = 1024;

/// Whom a certificate names, and the key that it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pub identity: Identity,
    pub key: Digest,
}

/// Holders of certificates of one cluster.
#[derive(Debug)]
pub(super) struct Known {
    cluster: String,
    /// By the certificate's bytes.
    holders: Mutex<BTreeMap<Box<[u8]>, Holder>>,
}

impl Known {
    pub fn new(cluster: &str) -> Self {
        Self {
            cluster: cluster.to_owned(),
            holders: Mutex::default(),
        }
    }

    /// Whom a certificate names; none when that is nobody of this cluster.
    pub fn holder(&self, der: &[u8]) -> Option<Holder> {
        if let Some(holder) = self.holders().get(der) {
            return Some(holder.clone());
        }
        let holder = Holder {
            identity: Identity::of_certificate(der, &self.cluster)?,
            key: issue::key_of_der(der).ok()?,
        };
        self.keep(der, holder.clone());
        Some(holder)
    }

    fn keep(&self, der: &[u8], holder: Holder) {
        let mut holders = self.holders();
        if holders.len() >= KNOWN_MAX {
            holders.clear();
        }
        holders.insert(der.into(), holder);
    }

    fn holders(&self) -> MutexGuard<'_, BTreeMap<Box<[u8]>, Holder>> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn certificate(identity: &Identity, cluster: &str) -> Vec<u8> {
        let mut params = CertificateParams::default();
        let uri = identity.uri(cluster).try_into().unwrap();
        params.subject_alt_names = vec![SanType::URI(uri)];
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn a_certificate_names_its_holder_each_time_it_is_shown() {
        let known = Known::new("ours");
        let worker = Identity::Worker("w1".parse().unwrap());
        let holders = [Identity::admin("me"), worker, Identity::Head];
        let shown = holders.map(|holder| (certificate(&holder, "ours"), holder));
        for (der, holder) in shown.iter().chain(&shown) {
            assert_eq!(known.holder(der).map(|h| h.identity).as_ref(), Some(holder));
        }
        assert_eq!(known.holders().len(), shown.len());
    }

    #[test]
    fn nobody_of_another_cluster_is_known() {
        let known = Known::new("ours");
        let admin = Identity::admin("me");
        let theirs = certificate(&admin, "theirs");
        let ours = known.holder(&certificate(&admin, "ours"));
        assert_eq!(ours.map(|h| h.identity), Some(admin));
        for der in [&theirs, &theirs, &b"no certificate".to_vec()] {
            assert_eq!(known.holder(der), None);
        }
        assert_eq!(known.holders().len(), 1);
    }

    #[test]
    fn there_is_an_end_to_what_is_kept() {
        let known = Known::new("ours");
        let admin = Identity::admin("me");
        let der = certificate(&admin, "ours");
        let holder = known.holder(&der).unwrap();
        assert_eq!(holder.identity, admin);
        for number in 0..3 * KNOWN_MAX {
            known.keep(&number.to_be_bytes(), holder.clone());
            assert_eq!(known.holder(&der).as_ref(), Some(&holder));
            assert!(known.holders().len() <= KNOWN_MAX);
        }
    }
}
