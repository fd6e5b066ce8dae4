//! The W3C `traceparent`: how a trace goes on in another process.

use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The `traceparent` of `span`; empty when it is not traced.
#[must_use]
pub fn traceparent(span: &Span) -> String {
    let context = span.context();
    let span = context.span();
    write(span.span_context())
}

/// A context as text; empty when it is not valid.
#[must_use]
pub fn write(span: &SpanContext) -> String {
    if !span.is_valid() {
        return String::new();
    }
    format!(
        "00-{}-{}-{:02x}",
        span.trace_id(),
        span.span_id(),
        span.trace_flags().to_u8()
    )
}

/// Makes `span` a child of the span that `traceparent` names. Must be called before the span is
/// entered. A text of the wrong form changes nothing.
pub fn set_parent(span: &Span, traceparent: &str) {
    if let Some(parent) = parse(traceparent) {
        let context = Context::new().with_remote_span_context(parent);
        // The only refusals are a span that is not traced or was entered before: both mean that
        // there is nothing to do.
        let _ = span.set_parent(context);
    }
}

/// Reads a context; none where the text has the wrong form.
#[must_use]
pub fn parse(text: &str) -> Option<SpanContext> {
    let mut parts = text.split('-');
    let (version, trace, span, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let whole = version == "00" && parts.next().is_none();
    if !whole || trace.len() != 32 || span.len() != 16 || flags.len() != 2 {
        return None;
    }
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        TraceFlags::new(u8::from_str_radix(flags, 16).ok()?),
        true,
        TraceState::default(),
    );
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TracerProvider;
    use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};
    use tracing::{info_span, subscriber::with_default};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_span_goes_on_in_the_trace_that_it_was_given() {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder()
            .with_simple_exporter(exporter.clone())
            .build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let child = with_default(tracing_subscriber::registry().with(layer), || {
            let span = info_span!("attempt");
            set_parent(&span, PARENT);
            traceparent(&span)
        });
        let sent = exporter.get_finished_spans().unwrap();
        assert_eq!(sent[0].parent_span_id.to_string(), "b7ad6b7169203331");
        assert!(
            child.starts_with("00-0af7651916cd43dd8448eb211c80319c-"),
            "{child}"
        );
        assert_ne!(child, PARENT);
    }

    #[test]
    fn without_a_tracer_there_is_no_traceparent() {
        let span = info_span!("attempt");
        set_parent(&span, PARENT);
        assert_eq!(traceparent(&span), "");
    }

    #[test]
    fn a_traceparent_of_the_wrong_form_is_no_parent() {
        assert!(parse(PARENT).is_some());
        let zeros = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
        let long = format!("{PARENT}-00");
        for text in ["", "00", "a-b-c-d", zeros, &long, &PARENT[1..], "01é-x-y-z"] {
            assert!(parse(text).is_none(), "{text}");
        }
    }
}
