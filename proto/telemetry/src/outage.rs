//! A collector that takes nothing: said once when it begins and once when it is over, however often is
//! sent meanwhile.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    metrics::{Temporality, data::ResourceMetrics, exporter::PushMetricExporter},
    trace::{SpanData, SpanExporter},
};

use crate::{allowed::trimmed, endpoint::Endpoint};

/// What is sent: a collector may take one and not the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signal {
    Traces,
    Metrics,
}

/// What is to be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Nothing,
    Begins,
    Over,
}

/// Which signals the collector does not take.
#[derive(Clone, Copy, Debug, Default)]
struct Failing {
    traces: bool,
    metrics: bool,
}

impl Failing {
    fn any(self) -> bool {
        self.traces || self.metrics
    }

    /// Notes how sending ended.
    fn note(&mut self, signal: Signal, failed: bool) -> Said {
        let was = self.any();
        match signal {
            Signal::Traces => self.traces = failed,
            Signal::Metrics => self.metrics = failed,
        }
        match (was, self.any()) {
            (false, true) => Said::Begins,
            (true, false) => Said::Over,
            (false, false) | (true, true) => Said::Nothing,
        }
    }
}

/// What is known of the collector at an endpoint.
#[derive(Debug)]
pub(crate) struct Outage {
    endpoint: Endpoint,
    failing: Mutex<Failing>,
}

impl Outage {
    pub fn new(endpoint: Endpoint) -> Self {
        let failing = Mutex::default();
        Self { endpoint, failing }
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Whether one has begun, which has been said.
    pub fn is_known(&self) -> bool {
        let failing = self.failing.lock();
        failing.unwrap_or_else(PoisonError::into_inner).any()
    }

    fn note(&self, signal: Signal, sent: &OTelSdkResult) {
        // What comes after the end says nothing of the collector.
        if matches!(sent, Err(OTelSdkError::AlreadyShutdown)) {
            return;
        }
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let said = failing.note(signal, sent.is_err());
        drop(failing);
        let endpoint = self.endpoint.shown();
        match (said, sent) {
            (Said::Begins, Err(error)) => tracing::warn!(
                endpoint,
                %error,
                "traces or metrics cannot be sent; what is not sent is lost, nothing else is"
            ),
            (Said::Over, _) => tracing::info!(endpoint, "traces and metrics are sent again"),
            (Said::Begins | Said::Nothing, _) => {}
        }
    }
}

/// An exporter whose failures are noted.
pub(crate) struct Watched<E> {
    exporter: E,
    outage: Arc<Outage>,
}

impl<E> Watched<E> {
    pub fn new(exporter: E, outage: &Arc<Outage>) -> Self {
        let outage = Arc::clone(outage);
        Self { exporter, outage }
    }
}

impl<E> fmt::Debug for Watched<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watched").field(&self.outage).finish()
    }
}

impl<E: SpanExporter> SpanExporter for Watched<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let batch = batch.into_iter().map(trimmed).collect();
        let sent = self.exporter.export(batch).await;
        self.outage.note(Signal::Traces, &sent);
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn shutdown(&self) -> OTelSdkResult {
        self.exporter.shutdown()
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl<E: PushMetricExporter> PushMetricExporter for Watched<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let sent = self.exporter.export(metrics).await;
        self.outage.note(Signal::Metrics, &sent);
        sent
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn shutdown(&self) -> OTelSdkResult {
        self.exporter.shutdown()
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_said_once_when_it_begins_and_once_when_it_is_over() {
        let mut failing = Failing::default();
        let said: Vec<Said> = [
            (Signal::Traces, false),
            (Signal::Traces, true),
            (Signal::Metrics, true),
            (Signal::Traces, true),
            (Signal::Traces, false),
            (Signal::Metrics, false),
            (Signal::Metrics, false),
            (Signal::Metrics, true),
        ]
        .into_iter()
        .map(|(signal, failed)| failing.note(signal, failed))
        .collect();
        use Said::{Begins, Nothing, Over};
        assert_eq!(
            said,
            [
                Nothing, Begins, Nothing, Nothing, Nothing, Over, Nothing, Begins
            ]
        );
    }

    #[test]
    fn a_collector_that_takes_traces_alone_is_said_once() {
        let mut failing = Failing::default();
        assert_eq!(failing.note(Signal::Metrics, true), Said::Begins);
        for _ in 0..3 {
            assert_eq!(failing.note(Signal::Traces, false), Said::Nothing);
            assert_eq!(failing.note(Signal::Metrics, true), Said::Nothing);
        }
    }
}
