//! Until when the certificates of workers are good, and who was revoked and has not come since, for people: nothing
//! is decided by it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use orchestra_types::{Timestamp, WorkerId};
use tonic::{
    Request,
    transport::server::{TcpConnectInfo, TlsConnectInfo},
};

use super::issue;

/// The latest that each worker has shown, or been given. It is known anew when a worker comes.
#[derive(Debug, Default)]
pub(super) struct Certificates {
    until: Mutex<BTreeMap<WorkerId, Timestamp>>,
    /// Who was revoked and has not come since.
    awaited: Mutex<BTreeSet<WorkerId>>,
}

impl Certificates {
    /// The later one stays: a worker that comes may be given a new one before it has said who it is.
    pub fn note(&self, worker: &WorkerId, until: Timestamp) {
        let mut all = self.until();
        let known = all.entry(worker.clone()).or_insert(until);
        *known = until.max(*known);
    }

    pub fn of(&self, worker: &WorkerId) -> Option<Timestamp> {
        self.until().get(worker).copied()
    }

    /// A worker was revoked.
    pub fn await_another(&self, worker: &WorkerId) {
        self.awaited().insert(worker.clone());
    }

    /// A worker has come, and was let in.
    pub fn note_come(&self, worker: &WorkerId) {
        self.awaited().remove(worker);
    }

    /// Whether a worker was revoked and has not come since.
    pub fn awaits(&self, worker: &WorkerId) -> bool {
        self.awaited().contains(worker)
    }

    fn awaited(&self) -> MutexGuard<'_, BTreeSet<WorkerId>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn until(&self) -> MutexGuard<'_, BTreeMap<WorkerId, Timestamp>> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Until when the certificate is good that a connection was made with.
pub fn certificate_until<T>(request: &Request<T>) -> Option<Timestamp> {
    let shown = request
        .extensions()
        .get::<TlsConnectInfo<TcpConnectInfo>>()
        .and_then(TlsConnectInfo::peer_certs)?;
    issue::until(shown.first()?)
}
