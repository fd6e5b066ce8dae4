//! Which spans a task's life has, and by which ids they are known.
//!
//! The ids follow from the cluster, the task, the moment that it was submitted and the number of the
//! attempt. So nothing of a trace is kept, and a head that was started anew goes on in it.

use std::{sync::Arc, time::SystemTime};

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
use orchestra_telemetry::{Finished, Recorder};
use orchestra_types::{AttemptId, TaskId, Timestamp};
use sha2::{Digest, Sha256};

/// What a span of a task's life is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Task,
    /// The wait for this attempt.
    Queue(u32),
    /// An attempt.
    Attempt(u32),
    /// The result of an attempt that was given up.
    LateResult(u32),
}

impl Part {
    /// The name of its spans.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Queue(_) => "task.queue",
            Self::Attempt(_) => "task.attempt",
            Self::LateResult(_) => "task.late_result",
        }
    }

    fn number(self) -> u32 {
        match self {
            Self::Task => 0,
            Self::Queue(number) | Self::Attempt(number) | Self::LateResult(number) => number,
        }
    }
}

/// Where the head's traces come from. Cheap to clone.
#[derive(Clone)]
pub struct Traces {
    cluster: Arc<str>,
    recorder: Recorder,
}

impl Traces {
    /// Those of a cluster.
    #[must_use]
    pub fn new(cluster: &str, recorder: Recorder) -> Self {
        let cluster = cluster.into();
        Self { cluster, recorder }
    }

    /// The trace of a task that was submitted at `created_at` with this `traceparent`, which may be empty.
    #[must_use]
    pub fn of(&self, task: TaskId, created_at: Timestamp, submitted: &str) -> Trace {
        let submitter = orchestra_telemetry::parse(submitted);
        let origin = Origin {
            cluster: Arc::clone(&self.cluster),
            task,
            created_at,
        };
        Trace::new(origin, submitter, |trace| self.recorder.samples(trace))
    }

    /// Takes a span.
    pub fn record(&self, finished: Finished) {
        self.recorder.record(finished);
    }
}

/// What makes a task one of a kind: ids of tasks begin anew in a directory that was emptied.
#[derive(Clone, Debug)]
struct Origin {
    cluster: Arc<str>,
    task: TaskId,
    created_at: Timestamp,
}

impl Origin {
    fn digest(&self, what: &str, number: u32) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(what);
        hash.update([0]);
        hash.update(&*self.cluster);
        hash.update([0]);
        hash.update(self.task.0.to_be_bytes());
        hash.update(self.created_at.0.to_be_bytes());
        hash.update(number.to_be_bytes());
        hash.finalize().into()
    }

    fn trace(&self) -> TraceId {
        let digest = self.digest("trace", 0);
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        TraceId::from_bytes(bytes)
    }

    fn span(&self, part: Part) -> SpanId {
        let digest = self.digest(part.name(), part.number());
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&digest[..8]);
        SpanId::from_bytes(bytes)
    }
}

/// The trace of one task.
#[derive(Clone, Debug)]
pub struct Trace {
    origin: Origin,
    id: TraceId,
    flags: TraceFlags,
    /// The span that it was submitted in; not valid where there is none.
    submitter: SpanContext,
}

impl Trace {
    fn new(
        origin: Origin,
        submitter: Option<SpanContext>,
        samples: impl FnOnce(TraceId) -> bool,
    ) -> Self {
        let (id, sampled) = match &submitter {
            Some(submitter) => (submitter.trace_id(), submitter.is_sampled()),
            None => {
                let id = origin.trace();
                (id, samples(id))
            }
        };
        Self {
            origin,
            id,
            flags: TraceFlags::default().with_sampled(sampled),
            submitter: submitter.unwrap_or(SpanContext::NONE),
        }
    }

    /// The ids of one of its spans.
    #[must_use]
    pub fn context(&self, part: Part) -> SpanContext {
        let span = self.origin.span(part);
        SpanContext::new(self.id, span, self.flags, false, TraceState::default())
    }

    /// What one of its spans is a part of.
    fn parent(&self, part: Part) -> SpanContext {
        match part {
            Part::Task => self.submitter.clone(),
            Part::Queue(_) | Part::Attempt(_) => self.context(Part::Task),
            Part::LateResult(number) => self.context(Part::Attempt(number)),
        }
    }

    /// A span from one moment to another, of which nothing else is said but the task.
    #[must_use]
    pub fn finished(&self, part: Part, start: SystemTime, end: SystemTime) -> Finished {
        let task = self.origin.task;
        let about = |number| AttemptId { task, number }.to_string();
        let mut attributes = vec![("task", task.to_string())];
        match part {
            Part::Task | Part::Queue(_) => {}
            Part::Attempt(number) | Part::LateResult(number) => {
                attributes.push(("attempt", about(number)));
            }
        }
        Finished {
            name: part.name(),
            context: self.context(part),
            parent: self.parent(part),
            start,
            // A clock that was set back makes no span that ends before it begins.
            end: end.max(start),
            attributes: attributes.into_iter().map(key_value).collect(),
            events: Vec::new(),
            links: Vec::new(),
            status: opentelemetry::trace::Status::Unset,
        }
    }
}

fn key_value((key, value): (&'static str, String)) -> opentelemetry::KeyValue {
    opentelemetry::KeyValue::new(key, value)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::UNIX_EPOCH};

    use super::*;

    const SUBMITTED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn trace(cluster: &str, task: u64, created_at: u64, submitted: &str) -> Trace {
        let origin = Origin {
            cluster: cluster.into(),
            task: TaskId(task),
            created_at: Timestamp(created_at),
        };
        Trace::new(origin, orchestra_telemetry::parse(submitted), |_| true)
    }

    #[test]
    fn ids_are_the_same_again_and_no_other_tasks() {
        let all = [
            trace("a", 1, 5, ""),
            trace("b", 1, 5, ""),
            trace("a", 2, 5, ""),
            trace("a", 1, 6, ""),
        ];
        let ids: BTreeSet<String> = all.iter().map(|t| t.id.to_string()).collect();
        assert_eq!(ids.len(), all.len());
        let again = trace("a", 1, 5, "");
        let parts = [
            Part::Task,
            Part::Queue(1),
            Part::Attempt(1),
            Part::Attempt(2),
            Part::LateResult(1),
        ];
        let spans = parts.map(|part| again.context(part));
        assert_eq!(spans, parts.map(|part| all[0].context(part)));
        let own: BTreeSet<String> = spans.iter().map(|s| s.span_id().to_string()).collect();
        assert_eq!(own.len(), parts.len());
        assert!(spans.iter().all(SpanContext::is_valid));
    }

    /// What is written here is in the traces of running heads: another value breaks them in two.
    #[test]
    fn ids_do_not_change_from_one_version_to_the_next() {
        let context = trace("cluster", 1, 1_700_000_000_000, "").context(Part::Attempt(2));
        assert_eq!(
            orchestra_telemetry::write(&context),
            "00-6c410c3420b822f760919d700b353083-6864abb3ba0a637b-01"
        );
    }

    #[test]
    fn the_submitters_span_is_the_parent_of_the_whole() {
        let with = trace("a", 1, 5, SUBMITTED);
        let part = |part| with.finished(part, UNIX_EPOCH, UNIX_EPOCH);
        let root = part(Part::Task);
        assert_eq!(root.parent.span_id().to_string(), "b7ad6b7169203331");
        assert_eq!(part(Part::Queue(1)).parent, root.context);
        let attempt = part(Part::Attempt(1));
        assert_eq!(attempt.parent, root.context);
        assert_eq!(part(Part::LateResult(1)).parent, attempt.context);
        let id = "0af7651916cd43dd8448eb211c80319c";
        assert_eq!(attempt.context.trace_id().to_string(), id);
        assert!(
            !trace("a", 1, 5, "")
                .finished(Part::Task, UNIX_EPOCH, UNIX_EPOCH)
                .parent
                .is_valid()
        );
    }

    #[test]
    fn what_the_submitter_does_not_sample_is_not_sampled() {
        let without = SUBMITTED.replace("-01", "-00");
        let context = |submitted| trace("a", 1, 5, submitted).context(Part::Task);
        assert!(context(SUBMITTED).is_sampled());
        assert!(!context(&without).is_sampled());
    }
}
