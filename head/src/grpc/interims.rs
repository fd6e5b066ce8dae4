//! What the agents of running attempts have changed so far, as their workers said last.
//!
//! It is kept in memory only: workers say it again on each new stream. It goes with the stream, and
//! with the end of the attempt.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use orchestra_core::ConnectionId;
use orchestra_proto::v1;
use orchestra_types::{AttemptId, WorkerId};
use prost::Message;

/// Most bytes of all of them together: 64 MiB. What comes when it is full is not kept.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// All of them. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Interims(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    all: BTreeMap<(WorkerId, AttemptId), Interim>,
    bytes: usize,
}

#[derive(Debug)]
struct Interim {
    connection: ConnectionId,
    manifest: v1::Manifest,
    bytes: usize,
}

impl Interims {
    /// A worker says it.
    pub(super) fn note(
        &self,
        connection: ConnectionId,
        worker: &WorkerId,
        attempt: AttemptId,
        manifest: v1::Manifest,
    ) {
        let mut table = self.table();
        let key = (worker.clone(), attempt);
        table.remove(&key);
        let bytes = manifest.encoded_len();
        if table.bytes + bytes > BYTES_MAX {
            tracing::debug!(%attempt, "no room for what it has changed so far");
            return;
        }
        table.bytes += bytes;
        let interim = Interim {
            connection,
            manifest,
            bytes,
        };
        table.all.insert(key, interim);
    }

    /// What a worker said of an attempt.
    pub(super) fn get(&self, worker: &WorkerId, attempt: AttemptId) -> Option<v1::Manifest> {
        let table = self.table();
        let found = table.all.get(&(worker.clone(), attempt));
        found.map(|interim| interim.manifest.clone())
    }

    /// The attempt is over for this worker.
    pub(super) fn end(&self, worker: &WorkerId, attempt: AttemptId) {
        self.table().remove(&(worker.clone(), attempt));
    }

    /// A worker's stream is over.
    pub(super) fn detached(&self, connection: ConnectionId) {
        let mut table = self.table();
        let of_it = table.all.iter().filter(|(_, i)| i.connection == connection);
        let gone: Vec<_> = of_it.map(|(key, _)| key.clone()).collect();
        for key in gone {
            table.remove(&key);
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn remove(&mut self, key: &(WorkerId, AttemptId)) {
        if let Some(old) = self.all.remove(key) {
            self.bytes -= old.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use orchestra_types::TaskId;

    use super::*;

    const ID: AttemptId = AttemptId {
        task: TaskId(1),
        number: 1,
    };

    fn worker(name: &str) -> WorkerId {
        name.parse().unwrap()
    }

    fn saying(bytes: usize) -> v1::Manifest {
        v1::Manifest {
            warnings: vec!["w".repeat(bytes)],
            ..v1::Manifest::default()
        }
    }

    #[test]
    fn a_worker_speaks_for_itself_alone() {
        let (interims, one, two) = (Interims::default(), worker("w-1"), worker("w-2"));
        interims.note(ConnectionId(1), &one, ID, saying(1));
        interims.note(ConnectionId(2), &two, ID, saying(2));
        assert_eq!(interims.get(&one, ID), Some(saying(1)));
        interims.end(&two, ID);
        assert_eq!(interims.get(&one, ID), Some(saying(1)));
        assert_eq!(interims.get(&two, ID), None);
    }

    #[test]
    fn the_end_of_an_old_stream_takes_nothing_of_the_new_one() {
        let (interims, one) = (Interims::default(), worker("w-1"));
        interims.note(ConnectionId(1), &one, ID, saying(1));
        interims.note(ConnectionId(2), &one, ID, saying(2));
        interims.detached(ConnectionId(1));
        assert_eq!(interims.get(&one, ID), Some(saying(2)));
        interims.detached(ConnectionId(2));
        assert_eq!(interims.get(&one, ID), None);
        assert_eq!(interims.table().bytes, 0);
    }

    #[test]
    fn there_is_an_end_to_what_is_kept() {
        let (interims, one) = (Interims::default(), worker("w-1"));
        for number in 1..100 {
            let id = AttemptId { number, ..ID };
            interims.note(ConnectionId(1), &one, id, saying(BYTES_MAX / 10));
        }
        let table = interims.table();
        assert!(table.bytes <= BYTES_MAX);
        assert_eq!(table.all.len(), 9);
    }
}
