//! Who may call what: the cluster's CA and certificates, join tokens, and the gate before every
//! service.
//!
//! ```text
//! peer certificate -- TLS 1.3 --> Gate -- Identity in the request --> service
//!                                  \-- UNAUTHENTICATED or PERMISSION_DENIED
//! join token --> Join.Enrol --> certificate of a worker
//! certificate --> Renewal.Renew --> the same with two years more, for the same key
//! ```
//!
//! A certificate is good until it expires (two years), or its key is revoked: of a worker by
//! `ctl workers revoke`, of administrators by `ctl credentials rotate`. Who holds one has it renewed
//! when a third of its life is left.

mod certificates;
mod enrolment;
mod gate;
mod guard;
mod identity;
mod issue;
mod join;
mod known;
mod pki;
mod refusal;
mod renewal;
mod revoked;
mod tls;
mod tokens;

#[cfg(test)]
pub(crate) mod tests;

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use orchestra_proto::{
    client::Credentials,
    token::JoinToken,
    v1::{join_server::JoinServer, renewal_server::RenewalServer},
};
use orchestra_types::{Digest, Timestamp, WorkerId};
use tokio::net::TcpListener;

pub use certificates::certificate_until;
pub use enrolment::{EnrolError, TokenError};
pub use gate::{Gate, GateLayer};
pub use identity::{Identity, authorise_worker, caller};
pub use join::Join;
pub use pki::{Error, cluster_in};
pub use renewal::Renewal;
pub use tokens::{Issued, TokenState};

use certificates::Certificates;
use enrolment::Enrolment;
use pki::Pki;

use crate::{
    door::{Door, Places},
    metrics::Metrics,
    sparing::Sparing,
};

/// The book of tokens and workers, in `STATE/head/pki`.
const TOKENS_FILE: &str = "tokens.json";
/// Largest message of the Join service: it is open to everybody.
const JOIN_BYTES_MAX: usize = 64 * 1024;
/// Largest message of the Renewal service: nothing is asked for in it.
const RENEW_BYTES_MAX: usize = 1024;

/// Forgets the tokens in `dir` (`STATE/head/pki`, of which a backup was made) that were not used then; how many
/// were open. There need not be any.
pub fn forget_unused_tokens(dir: &Path, now: Timestamp) -> Result<usize, Error> {
    enrolment::forget_unused(&dir.join(TOKENS_FILE), now)
}

/// The security of one head. Cheap to clone.
#[derive(Clone)]
pub struct Security {
    pki: Arc<Pki>,
    enrolment: Arc<Enrolment>,
    /// Until when those of workers are good.
    certificates: Arc<Certificates>,
    /// Whose certificate its door shows.
    shown: Arc<tls::Shown>,
    /// One at a time changes the files of this machine's credentials.
    files: Arc<Mutex<()>>,
    /// What is logged of those who are refused.
    refused: Sparing,
}

impl Security {
    /// Opens `dir` (`STATE/head/pki`). At the first start it makes the cluster and its CA; at
    /// every start it renews the head's certificate when that is due.
    pub fn open(dir: &Path, now: Timestamp) -> Result<Self, Error> {
        let pki = Pki::open(dir, now)?;
        let head = pki.ensure(dir, &Identity::Head, |_| false, now)?;
        let enrolment = Enrolment::open(&dir.join(TOKENS_FILE))?;
        Ok(Self {
            pki: Arc::new(pki),
            enrolment: Arc::new(enrolment),
            certificates: Arc::default(),
            shown: Arc::new(tls::Shown::new(&head)?),
            files: Arc::default(),
            refused: Sparing::default(),
        })
    }

    /// Renews the head's own certificate in `dir` when that is due, and shows it from then on.
    pub fn renew_own(&self, dir: &Path, now: Timestamp) -> Result<(), Error> {
        let _alone = self.alone();
        let head = self.pki.ensure(dir, &Identity::Head, |_| false, now)?;
        self.shown.show(&head)
    }

    fn alone(&self) -> MutexGuard<'_, ()> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The cluster's name, made with its CA.
    #[must_use]
    pub fn cluster(&self) -> &str {
        self.pki.cluster()
    }

    /// The SHA-256 fingerprint of the CA's certificate.
    #[must_use]
    pub fn ca_fingerprint(&self) -> Digest {
        self.pki.ca_fingerprint()
    }

    /// The door for a server's connections; `gate` must stand before its services.
    pub fn door(
        &self,
        listener: TcpListener,
        places: Places,
        metrics: Arc<Metrics>,
    ) -> Result<Door, Error> {
        let tls = tls::server_config(Arc::clone(&self.shown))?;
        Ok(Door::new(listener, tls, places, metrics))
    }

    /// The layer that lets nobody pass to a service that is not meant for them.
    #[must_use]
    pub fn gate(&self) -> GateLayer {
        let refusals = self.enrolment.refusals();
        GateLayer::new(self.cluster(), refusals, self.refused.clone())
    }

    /// Makes sure that `dir` (`STATE/client`) holds valid credentials of an administrator.
    pub fn ensure_admin(
        &self,
        dir: &Path,
        name: &str,
        now: Timestamp,
    ) -> Result<Credentials, Error> {
        let _alone = self.alone();
        let credentials = self.ensure(dir, &Identity::admin(name), now)?;
        let key = issue::key_of_certificate(&credentials.cert_pem)?;
        self.enrolment.admit_admin(key)?;
        Ok(credentials)
    }

    /// Makes new credentials of an administrator in `dir` (`STATE/client`); whatever key administrators
    /// have shown until now is refused, and what they call ends.
    pub fn rotate_admins(
        &self,
        dir: &Path,
        name: &str,
        now: Timestamp,
    ) -> Result<Credentials, Error> {
        let _alone = self.alone();
        // They are there before anybody is refused.
        let fresh = self.pki.make(dir, &Identity::admin(name), now)?;
        let key = issue::key_of_certificate(&fresh.cert_pem)?;
        self.enrolment.rotate_admins(key)?;
        Ok(fresh)
    }

    fn ensure(
        &self,
        dir: &Path,
        identity: &Identity,
        now: Timestamp,
    ) -> Result<Credentials, Error> {
        let revoked = |key: &Digest| self.enrolment.has_revoked(identity, key);
        self.pki.ensure(dir, identity, revoked, now)
    }

    /// Makes sure that `dir` (`STATE/worker/pki`) holds valid credentials of the local worker.
    pub fn ensure_worker(
        &self,
        dir: &Path,
        worker: &WorkerId,
        now: Timestamp,
    ) -> Result<Credentials, Error> {
        let _alone = self.alone();
        let identity = Identity::Worker(worker.clone());
        let credentials = self.ensure(dir, &identity, now)?;
        let key = issue::key_of_certificate(&credentials.cert_pem)?;
        self.enrolment.reserve(worker, key)?;
        if let Some(life) = credentials.life() {
            self.certificates.note(worker, life.ends);
        }
        Ok(credentials)
    }

    /// Shuts a worker out: its key is refused from now on, and what it calls ends. It may join again with
    /// a new token and a new key.
    pub fn revoke_worker(&self, worker: &WorkerId, now: Timestamp) -> Result<(), Error> {
        self.enrolment.revoke_worker(worker, now)?;
        self.certificates.await_another(worker);
        Ok(())
    }

    /// Whether a worker has joined, or is this machine's, and was not revoked.
    #[must_use]
    pub fn knows_worker(&self, worker: &WorkerId) -> bool {
        self.enrolment.knows(worker)
    }

    /// Whether a worker was revoked and has not joined since.
    #[must_use]
    pub fn shuts_out(&self, worker: &WorkerId) -> bool {
        self.enrolment.shuts_out(worker)
    }

    /// Whether a worker was revoked and has not come since: the one of this machine has a new key at once, and is
    /// told as the others are until it has come with it, or the head was started anew.
    #[must_use]
    pub fn is_revoked(&self, worker: &WorkerId) -> bool {
        self.shuts_out(worker) || self.certificates.awaits(worker)
    }

    /// A worker has come with a certificate that is good until then.
    pub fn note_certificate(&self, worker: &WorkerId, until: Option<Timestamp>) {
        self.certificates.note_come(worker);
        if let Some(until) = until {
            self.certificates.note(worker, until);
        }
    }

    /// Until when the certificate of a worker is good; none until it has come.
    #[must_use]
    pub fn certificate_of(&self, worker: &WorkerId) -> Option<Timestamp> {
        self.certificates.of(worker)
    }

    /// Makes a token that lets one machine join within `ttl`. `head` is the address that the
    /// machine will reach the head by.
    pub fn create_token(
        &self,
        head: &str,
        ttl: Duration,
        now: Timestamp,
    ) -> Result<(JoinToken, Timestamp), TokenError> {
        let expires_at = now.plus(ttl);
        let secret = self.enrolment.create(now, expires_at)?;
        let token = JoinToken {
            head: head.to_owned(),
            ca_fingerprint: self.ca_fingerprint(),
            secret,
        };
        Ok((token, expires_at))
    }

    /// The join tokens that were made, until a week after their time, the oldest first.
    #[must_use]
    pub fn tokens(&self, now: Timestamp) -> Vec<Issued> {
        self.enrolment.tokens(now)
    }

    /// Ends a token: nobody joins with it from now on. None where there is none of that id.
    pub fn revoke_token(&self, id: &str, now: Timestamp) -> Result<Option<Issued>, Error> {
        self.enrolment.revoke_token(id, now)
    }

    /// The Join service.
    #[must_use]
    pub fn join_service(&self) -> JoinServer<Join> {
        let join = Join::new(
            Arc::clone(&self.pki),
            Arc::clone(&self.enrolment),
            self.refused.clone(),
        );
        JoinServer::new(join).max_decoding_message_size(JOIN_BYTES_MAX)
    }

    /// The Renewal service.
    #[must_use]
    pub fn renewal_service(&self) -> RenewalServer<Renewal> {
        let renewal = Renewal::new(
            Arc::clone(&self.pki),
            Arc::clone(&self.enrolment),
            Arc::clone(&self.certificates),
        );
        RenewalServer::new(renewal).max_decoding_message_size(RENEW_BYTES_MAX)
    }
}
