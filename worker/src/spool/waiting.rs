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
pub struct Waiting(Arc<Mutex<Reports>>);

/// Those behind `acked`, without a gap.
#[derive(Debug, Default)]
struct Reports {
    acked: u64,
    waiting: VecDeque<v1::Report>,
    /// What the waiting ones take in the spool's file.
    bytes: u64,
}

impl Waiting {
    /// None yet, behind those up to this number.
    pub(super) fn after_all(acked: u64) -> Self {
        Self(Arc::new(Mutex::new(Reports {
            acked,
            ..Reports::default()
        })))
    }

    /// Adds one that is durable; it follows the last one.
    pub(super) fn push(&self, report: v1::Report) {
        let mut reports = self.reports();
        // The head may know more reports than a spool whose file was lost.
        if report.seq > reports.acked {
            reports.bytes += bytes_of(&report);
            reports.waiting.push_back(report);
        }
    }

    /// Forgets those up to this number, which the head has made durable.
    pub(super) fn acknowledge(&self, up_to: u64) {
        let mut reports = self.reports();
        reports.acked = reports.acked.max(up_to);
        let count = reports
            .waiting
            .partition_point(|report| report.seq <= up_to);
        let forgotten: u64 = reports.waiting.drain(..count).map(|r| bytes_of(&r)).sum();
        reports.bytes -= forgotten;
    }

    /// The last number that was acknowledged.
    pub(super) fn acked(&self) -> u64 {
        self.reports().acked
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.reports().waiting.is_empty()
    }

    /// What they take in the spool's file.
    pub(super) fn bytes(&self) -> u64 {
        self.reports().bytes
    }

    /// The last number that was acknowledged, and the payloads of those behind it, of one moment.
    pub(super) fn payloads(&self) -> (u64, Vec<Vec<u8>>) {
        let reports = self.reports();
        let payloads = reports.waiting.iter().map(Message::encode_to_vec);
        (reports.acked, payloads.collect())
    }

    /// The first ones behind number `after`, at most `max` of them.
    #[must_use]
    pub fn after(&self, after: u64, max: usize) -> Vec<v1::Report> {
        let reports = &self.reports().waiting;
        // They are numbered one after the other.
        let first = reports.front().map_or(0, |report| report.seq);
        let skip = usize::try_from((after + 1).saturating_sub(first)).unwrap_or(usize::MAX);
        reports.iter().skip(skip).take(max).cloned().collect()
    }

    /// The attempts whose last report waits. The worker has nothing else of some
    /// of them, and holds them all the same: the report is what they came to. Others have not written
    /// it yet: of those the fleet knows.
    #[must_use]
    pub fn ending(&self) -> Vec<AttemptId> {
        let ends = |report: &&v1::Report| match report.body {
            Some(v1::report::Body::Finished(_) | v1::report::Body::GivenBack(_)) => true,
            Some(v1::report::Body::Accepted(_) | v1::report::Body::Started(_)) | None => false,
        };
        let reports = &self.reports().waiting;
        let attempts = reports.iter().filter(ends);
        let attempts = attempts.filter_map(|report| report.attempt);
        attempts
            .filter_map(|wire| convert::attempt_id("report", Some(wire)).ok())
            .collect()
    }

    fn reports(&self) -> MutexGuard<'_, Reports> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bytes_of(report: &v1::Report) -> u64 {
    frames::bytes_of(report.encoded_len())
}
