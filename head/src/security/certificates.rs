//! Until when the certificates of workers are good, for people: nothing is decided by it.

use std::{
    collections::BTreeMap,
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
