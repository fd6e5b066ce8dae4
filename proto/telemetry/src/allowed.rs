//! What of a span leaves the machine: what docs/traces.md names. What a log line says is for whoever may
//! read that log: it may have paths and texts of tasks.

use opentelemetry::{
    KeyValue,
    trace::{Event, Status},
};
use opentelemetry_sdk::trace::SpanData;

/// The attributes of spans, and of events in them.
const ATTRIBUTES: [&str; 9] = [
    "task", "priority", "status", "result", "attempts", "attempt", "worker", "runner", TARGET,
];
/// Of an event that a log line is: which part of the program wrote it, and how serious it is.
const TARGET: &str = "target";
const LEVEL: &str = "level";

/// The span without what is not for others.
pub(crate) fn trimmed(mut span: SpanData) -> SpanData {
    span.attributes.retain(is_allowed);
    let events = std::mem::take(&mut span.events.events);
    span.events.events = events.into_iter().filter_map(event).collect();
    if let Status::Error { description } = &mut span.status
        && !is_code(description)
    {
        *description = "".into();
    }
    span
}

fn is_allowed(attribute: &KeyValue) -> bool {
    ATTRIBUTES.contains(&attribute.key.as_str())
}

/// Of a log line only that there is one, where it is serious enough.
fn event(mut event: Event) -> Option<Event> {
    let Some(level) = event.attributes.iter().find(|a| a.key.as_str() == LEVEL) else {
        event.attributes.retain(is_allowed);
        return Some(event);
    };
    event.name = match &*level.value.as_str() {
        "ERROR" => "error",
        "WARN" => "warning",
        _ => return None,
    }
    .into();
    // The first is tracing's own, whatever fields the line has.
    let target = event.attributes.iter().find(|a| a.key.as_str() == TARGET);
    event.attributes = target.into_iter().cloned().collect();
    Some(event)
}

/// Whether it is a failure's code, as `rate_limited`.
fn is_code(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}

#[cfg(test)]
mod tests {
    use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};
    use tracing::subscriber::with_default;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn of_a_log_line_in_a_span_only_its_level_and_its_target_are_sent() {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder()
            .with_simple_exporter(exporter.clone())
            .build();
        let layer = crate::logs::spans(&provider);
        with_default(tracing_subscriber::registry().with(layer), || {
            let span = tracing::info_span!("task.finish", attempt = "task_001.1", dir = "/home/me");
            let _entered = span.enter();
            let (message, error) = ("failed to open `/home/me/x`", "secret");
            tracing::warn!(dir = "/home/me", message, "not put in place");
            tracing::warn!(target = "/home/me", name = "/home/me", "{message}");
            tracing::error!(error, exception.message = message, level = "x", "{message}");
            tracing::info!(dir = "/home/me", "{message}");
        });
        let mut sent = exporter.get_finished_spans().unwrap();
        let span = trimmed(sent.pop().unwrap());
        let all = |attributes: &[KeyValue]| -> Vec<String> {
            let text = |a: &KeyValue| format!("{}={}", a.key, a.value);
            attributes.iter().map(text).collect()
        };
        assert_eq!(all(&span.attributes), ["attempt=task_001.1"]);
        let events = span.events.iter();
        let events: Vec<_> = events.map(|e| (&*e.name, all(&e.attributes))).collect();
        let target = vec![format!("target={}", module_path!())];
        let warning = ("warning", target.clone());
        assert_eq!(events, [warning.clone(), warning, ("error", target)]);
        let shown = format!("{span:?}");
        assert!(
            !shown.contains("/home/me") && !shown.contains("secret"),
            "{shown}"
        );
    }

    #[test]
    fn the_code_of_a_failure_is_sent_and_no_other_words() {
        assert!(is_code("rate_limited") && is_code(""));
        assert!(!is_code("failed to open `/home/me`") && !is_code("A"));
    }
}
