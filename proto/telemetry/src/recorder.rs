//! Spans of what is over, with ids that the caller gives: a process that was started anew goes on in the
//! same trace. Samplers and limits are those of every other span.

use std::{cell::Cell, time::SystemTime};

use opentelemetry::{
    Context, KeyValue,
    trace::{
        Event, Link, Span as _, SpanBuilder, SpanContext, SpanId, Status, TraceContextExt, TraceId,
        Tracer, TracerProvider,
    },
};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SdkTracer, SdkTracerProvider};

thread_local! {
    /// The ids of the span that this thread begins next.
    static GIVEN: Cell<Option<(TraceId, SpanId)>> = const { Cell::new(None) };
}

/// Gives the ids that were asked for, and random ones where nobody asked.
#[derive(Debug, Default)]
pub(crate) struct Ids(RandomIdGenerator);

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        let given = GIVEN.get().map(|(trace, _)| trace);
        given.unwrap_or_else(|| self.0.new_trace_id())
    }

    fn new_span_id(&self) -> SpanId {
        let given = GIVEN.get().map(|(_, span)| span);
        given.unwrap_or_else(|| self.0.new_span_id())
    }
}

/// A span of something that is over.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// What it is.
    pub name: &'static str,
    /// Its own ids, and whether it is sampled.
    pub context: SpanContext,
    /// What it is a part of; not valid where it is the first of its trace.
    pub parent: SpanContext,
    /// When it began.
    pub start: SystemTime,
    /// When it ended.
    pub end: SystemTime,
    /// What is said of it.
    pub attributes: Vec<KeyValue>,
    /// Moments in it.
    pub events: Vec<(&'static str, SystemTime)>,
    /// Other spans that it comes after.
    pub links: Vec<SpanContext>,
    /// How it ended.
    pub status: Status,
}

/// Takes spans. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Recorder {
    tracer: SdkTracer,
    /// Sends nothing, and samples as the other one does.
    probe: SdkTracer,
}

impl Recorder {
    /// One that sends through `provider`, whose ids are [`Recorder::provider`]'s.
    #[must_use]
    pub fn new(provider: &SdkTracerProvider) -> Self {
        let probe = Self::provider().build();
        Self {
            tracer: provider.tracer("orchestra"),
            probe: probe.tracer("orchestra"),
        }
    }

    /// What a provider is made of that takes ids as they are given.
    #[must_use]
    pub fn provider() -> opentelemetry_sdk::trace::TracerProviderBuilder {
        SdkTracerProvider::builder().with_id_generator(Ids::default())
    }

    /// Whether a trace that begins here is sampled.
    #[must_use]
    pub fn samples(&self, trace: TraceId) -> bool {
        let span = begin(
            &self.probe,
            SpanBuilder::from_name("task"),
            (trace, SpanId::from(1)),
            &Context::new(),
        );
        span.span_context().is_sampled()
    }

    /// Takes a span; never waits.
    pub fn record(&self, finished: Finished) {
        if !finished.context.is_sampled() {
            return;
        }
        let parent = match finished.parent.is_valid() {
            true => Context::new().with_remote_span_context(finished.parent),
            false => Context::new(),
        };
        let ids = (finished.context.trace_id(), finished.context.span_id());
        let events = finished.events.into_iter();
        let links = finished.links.into_iter();
        let builder = SpanBuilder::from_name(finished.name)
            .with_start_time(finished.start)
            .with_attributes(finished.attributes)
            .with_events(
                events
                    .map(|(name, at)| Event::new(name, at, Vec::new(), 0))
                    .collect(),
            )
            .with_links(links.map(|to| Link::new(to, Vec::new(), 0)).collect());
        let mut span = begin(&self.tracer, builder, ids, &parent);
        span.set_status(finished.status);
        span.end_with_timestamp(finished.end);
    }
}

fn begin(
    tracer: &SdkTracer,
    builder: SpanBuilder,
    ids: (TraceId, SpanId),
    parent: &Context,
) -> opentelemetry_sdk::trace::Span {
    GIVEN.set(Some(ids));
    let span = tracer.build_with_context(builder, parent);
    GIVEN.set(None);
    span
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use opentelemetry::trace::{TraceFlags, TraceState};
    use opentelemetry_sdk::trace::InMemorySpanExporter;

    use super::*;

    fn context(span: u64, flags: TraceFlags) -> SpanContext {
        let (trace, span) = (TraceId::from(7), SpanId::from(span));
        SpanContext::new(trace, span, flags, false, TraceState::default())
    }

    fn finished(span: u64, parent: SpanContext, flags: TraceFlags) -> Finished {
        let at = |s| UNIX_EPOCH + Duration::from_secs(s);
        Finished {
            name: "task",
            context: context(span, flags),
            parent,
            start: at(1),
            end: at(3),
            attributes: vec![KeyValue::new("task", "task_001")],
            events: vec![("started", at(2))],
            links: vec![context(9, flags)],
            status: Status::Ok,
        }
    }

    #[test]
    fn a_span_is_sent_with_its_own_ids_and_times_and_none_that_is_not_sampled() {
        let exporter = InMemorySpanExporter::default();
        let provider = Recorder::provider()
            .with_simple_exporter(exporter.clone())
            .build();
        let recorder = Recorder::new(&provider);
        let root = finished(1, SpanContext::NONE, TraceFlags::SAMPLED);
        recorder.record(root.clone());
        recorder.record(finished(2, root.context.clone(), TraceFlags::SAMPLED));
        recorder.record(finished(3, root.context, TraceFlags::default()));
        let sent = exporter.get_finished_spans().unwrap();
        let ids: Vec<(u64, u64)> = sent
            .iter()
            .map(|s| (s.span_context.span_id(), s.parent_span_id))
            .map(|(id, parent)| (number(id), number(parent)))
            .collect();
        assert_eq!(ids, [(1, 0), (2, 1)]);
        for span in &sent {
            assert_eq!(span.span_context.trace_id(), TraceId::from(7));
            let took = span.end_time.duration_since(span.start_time).unwrap();
            assert_eq!(took, Duration::from_secs(2));
            assert_eq!((span.links.len(), span.events.len()), (1, 1));
        }
        assert!(recorder.samples(TraceId::from(8)));
        assert_eq!(exporter.get_finished_spans().unwrap().len(), 2);
    }

    fn number(id: SpanId) -> u64 {
        u64::from_be_bytes(id.to_bytes())
    }
}
