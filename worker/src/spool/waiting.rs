//! The reports that are durable and that the head has not acknowledged.
//!
//! They are in memory, and whoever sends them reads them here: the session must not wait for a disk that
//! is full or slow, or the head would hear nothing of this worker and count its attempts as lost.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use orchestra_proto::{convert, v1};
use orchestra_types::AttemptId;
use prost::Message;

use crate::frames;

/// All of them, numbered one after the other. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Waiting(Arc<Mutex<VecDeque<v1::Report>>>);

impl Waiting {
    /// Adds one that is durable; it follows the last one.
    pub(super) fn push(&self, report: v1::Report) {
        self.reports().push_back(report);
    }

    /// Forgets those up to this number; how many bytes they take in the spool's file.
    pub(super) fn forget(&self, up_to: u64) -> u64 {
        let mut reports = self.reports();
        let count = reports.partition_point(|report| report.seq <= up_to);
        let forgotten = reports.drain(..count);
        let bytes = forgotten.map(|report| frames::bytes_of(report.encoded_len()));
        bytes.sum()
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.reports().is_empty()
    }

    /// Their payloads in the spool's file.
    pub(super) fn payloads(&self) -> Vec<Vec<u8>> {
        self.reports().iter().map(Message::encode_to_vec).collect()
    }

    /// The first ones behind number `after`, at most `max` of them.
    #[must_use]
    pub fn after(&self, after: u64, max: usize) -> Vec<v1::Report> {
        let reports = self.reports();
        // They are numbered one after the other.
        let first = reports.front().map_or(0, |report| report.seq);
        let skip = usize::try_from((after + 1).saturating_sub(first)).unwrap_or(usize::MAX);
        reports.iter().skip(skip).take(max).cloned().collect()
    }

    /// The attempts whose last report, behind number `acked`, waits. The worker has nothing else of some
    /// of them, and holds them all the same: the report is what they came to. Others have not written
    /// it yet: of those the fleet knows.
    #[must_use]
    pub fn ending(&self, acked: u64) -> Vec<AttemptId> {
        let ends = |report: &&v1::Report| match report.body {
            Some(v1::report::Body::Finished(_) | v1::report::Body::GivenBack(_)) => true,
            Some(v1::report::Body::Accepted(_) | v1::report::Body::Started(_)) | None => false,
        };
        let reports = self.reports();
        let reports = reports.iter().filter(|report| report.seq > acked);
        let attempts = reports.filter(ends).filter_map(|report| report.attempt);
        attempts
            .filter_map(|wire| convert::attempt_id("report", Some(wire)).ok())
            .collect()
    }

    fn reports(&self) -> MutexGuard<'_, VecDeque<v1::Report>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
