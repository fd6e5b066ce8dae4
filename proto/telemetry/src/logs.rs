//! Log lines on standard error, and spans into the tracer.

use std::io::{IsTerminal, stderr};

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::Targets,
    layer::SubscriberExt,
    registry::{LookupSpan, Registry},
    util::SubscriberInitExt,
};

use crate::{Error, Setup, bounded::Output};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people; with colours on a terminal, unless `NO_COLOR` is set.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Libraries below us, by the beginning of their targets, with the level of their lines until someone asks
/// for more. Their spans would make a loop, since the exporter uses them itself.
///
/// What OpenTelemetry says is of a collector that does not take anything, twice for each batch: `outage`
/// says it once.
const LIBRARIES: [(&str, LevelFilter); 6] = [
    ("h2", LevelFilter::WARN),
    ("hyper", LevelFilter::WARN),
    ("tonic", LevelFilter::WARN),
    ("tower", LevelFilter::WARN),
    ("rustls", LevelFilter::WARN),
    ("opentelemetry", LevelFilter::OFF),
];

/// Makes both the process's subscriber.
pub(crate) fn install(setup: &Setup<'_>, tracer: Option<&SdkTracerProvider>) -> Result<(), Error> {
    let wanted = std::env::var("RUST_LOG").ok().filter(|f| !f.is_empty());
    let wanted = wanted.as_deref().or(setup.log).unwrap_or("info");
    Registry::default()
        .with(lines(setup.format, Output::new(setup.log_file)).with_filter(filter(wanted)?))
        .with(tracer.map(spans))
        .try_init()
        .map_err(Error::AlreadySet)
}

/// The filter of log lines: what was asked for, with the libraries below us quiet.
fn filter(wanted: &str) -> Result<EnvFilter, Error> {
    let quiet = LIBRARIES.iter();
    let quiet = quiet.map(|(target, level)| format!("{target}={level}"));
    let mut directives: Vec<String> = quiet.collect();
    directives.push(wanted.to_owned());
    EnvFilter::try_new(directives.join(",")).map_err(|source| Error::Filter {
        filter: wanted.to_owned(),
        source,
    })
}

fn lines<S>(format: Format, output: Output) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(output);
    match format {
        Format::Text => {
            let no_colour = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
            let colours = stderr().is_terminal() && !no_colour;
            layer.with_ansi(colours).boxed()
        }
        Format::Json => layer.json().flatten_event(true).boxed(),
    }
}

/// Spans of ours. What a log line in one says stays here, see `allowed`.
pub(crate) fn spans<S>(tracer: &SdkTracerProvider) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let ours = LIBRARIES.iter().fold(
        Targets::new().with_default(LevelFilter::INFO),
        |targets, (target, _)| targets.with_target(*target, LevelFilter::OFF),
    );
    tracing_opentelemetry::layer()
        .with_tracer(tracer.tracer("orchestra"))
        .with_location(false)
        .with_target(false)
        .with_error_events_to_status(false)
        .with_error_fields_to_exceptions(false)
        .with_error_events_to_exceptions(false)
        .with_error_records_to_exceptions(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_quiet_until_someone_asks_for_them() {
        let shown = filter("debug").unwrap().to_string();
        assert!(
            shown.contains("h2=warn")
                && shown.contains("opentelemetry=off")
                && shown.contains("debug"),
            "{shown}"
        );
        let shown = filter("info,h2=trace").unwrap().to_string();
        assert!(
            shown.contains("h2=trace") && !shown.contains("h2=warn"),
            "{shown}"
        );
    }

    #[test]
    fn a_filter_of_the_wrong_form_is_refused_with_an_example() {
        let error = filter("orchestra=loud").unwrap_err().to_string();
        assert!(
            error.contains("orchestra=loud") && error.contains("debug"),
            "{error}"
        );
    }
}
