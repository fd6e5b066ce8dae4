//! Logs, traces and metrics: one set-up for head, worker and ctl.
//!
//! ```text
//! tracing events and spans --+-- stderr, as text or JSON lines        (always)
//!                            +-- OTLP/gRPC, spans of our own crates    (with an endpoint)
//! OpenTelemetry instruments -+-- OTLP/gRPC                             (with an endpoint)
//!                            +-- text for Prometheus                   (where asked for)
//! ```
//!
//! Telemetry never refuses work: an endpoint that does not answer costs one line in the log, and one when
//! it answers again.
#![warn(missing_docs)]

mod allowed;
mod bounded;
mod endpoint;
mod logs;
mod otlp;
mod outage;
mod propagation;
mod recorder;
mod scrape;

use std::{
    path::Path,
    sync::{Arc, mpsc},
    thread,
    time::Instant,
};

use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry_sdk::{metrics::SdkMeterProvider, trace::SdkTracerProvider};

pub use logs::Format;
pub use propagation::{parse, set_parent, traceparent, write};
pub use recorder::{Finished, Recorder};
pub use scrape::Scrape;

use outage::Outage;

/// What to set up.
#[derive(Clone, Debug)]
pub struct Setup<'a> {
    /// `service.name`: `orchestra-head`, `orchestra-worker`, `ctl`.
    pub service: &'static str,
    /// `service.version`.
    pub version: &'a str,
    /// `service.instance.id`: the cluster's name, the worker's id; empty where there is none.
    pub instance: &'a str,
    /// The configured log filter; `RUST_LOG` wins, and without both it is `info`.
    pub log: Option<&'a str>,
    /// How log lines look.
    pub format: Format,
    /// A file that standard error may go to, and that is then kept short.
    pub log_file: Option<&'a Path>,
    /// The configured OTLP endpoint; without it `OTEL_EXPORTER_OTLP_ENDPOINT` counts.
    pub otlp_endpoint: Option<&'a str>,
    /// Whether the metrics can also be read as Prometheus text.
    pub prometheus: bool,
}

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log filter has the wrong form.
    #[error(
        "`{filter}` is not a log filter; write a level as `debug`, or `info,orchestra_head=debug`"
    )]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// It is not said whether what is sent to the endpoint is encrypted.
    #[error(
        "the OTLP endpoint `{endpoint}` does not say how to reach it: write `http://{endpoint}`, or \
         `https://{endpoint}` for TLS"
    )]
    NoScheme {
        /// The endpoint as it is written.
        endpoint: String,
    },
    /// It is no address of a collector that takes OTLP/gRPC.
    #[error(transparent)]
    NoEndpoint(#[from] orchestra_types::collector::NoCollector),
    /// The exporter could not be made.
    #[error("failed to set up the OTLP exporter for {endpoint}")]
    Exporter {
        /// Where it should have sent to.
        endpoint: String,
        /// Why.
        source: opentelemetry_otlp::ExporterBuildError,
    },
    /// The Prometheus reader could not be made.
    #[error("failed to set up the Prometheus metrics")]
    Prometheus(#[source] opentelemetry_sdk::error::OTelSdkError),
    /// Something else in this process has set up logs already.
    #[error("logs are set up already")]
    AlreadySet(#[source] tracing_subscriber::util::TryInitError),
}

/// Running telemetry. `shutdown` or drop sends what has not been sent.
#[derive(Debug)]
pub struct Telemetry {
    tracer: Option<SdkTracerProvider>,
    meter: SdkMeterProvider,
    scrape: Option<Scrape>,
    outage: Option<Arc<Outage>>,
    open: bool,
}

impl Telemetry {
    /// Sets up telemetry for the whole process. Must be called inside the Tokio runtime.
    pub fn init(setup: &Setup<'_>) -> Result<Self, Error> {
        let endpoint = otlp::endpoint(setup.otlp_endpoint)?;
        let outage = endpoint.map(|endpoint| Arc::new(Outage::new(endpoint)));
        let resource = otlp::resource(setup);
        let tracer = match &outage {
            Some(outage) => Some(otlp::tracer(outage, resource.clone())?),
            None => None,
        };
        let (meter, scrape) = otlp::meter(outage.as_ref(), resource, setup.prometheus)?;
        logs::install(setup, tracer.as_ref())?;
        Ok(Self {
            tracer,
            meter,
            scrape,
            outage,
            open: true,
        })
    }

    /// Makes instruments. Without an endpoint and without Prometheus they cost next to nothing.
    #[must_use]
    pub fn meter(&self) -> Meter {
        self.meter.meter("orchestra")
    }

    /// The metrics as Prometheus text, where that was asked for.
    #[must_use]
    pub fn scrape(&self) -> Option<Scrape> {
        self.scrape.clone()
    }

    /// Takes spans of what is over; none where nothing is sent.
    #[must_use]
    pub fn recorder(&self) -> Option<Recorder> {
        self.tracer.as_ref().map(Recorder::new)
    }

    /// Sends what has not been sent, and ends.
    pub async fn shutdown(mut self) {
        // The exporters block until their runtime has sent everything.
        let closed = tokio::task::spawn_blocking(move || self.close()).await;
        if closed.is_err() {
            tracing::warn!("telemetry did not end cleanly");
        }
    }

    fn close(&mut self) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        // Both at once. The library gives metrics more time than there is, and a collector that takes connections
        // and never answers uses all of it.
        let (tell, told) = mpsc::channel();
        let meter = self.meter.clone();
        thread::spawn(move || tell.send(meter.shutdown()));
        let begun = Instant::now();
        if let Some(tracer) = &self.tracer
            && let Err(error) = tracer.shutdown_with_timeout(otlp::LAST_TIMEOUT)
            && !self.outage.as_ref().is_some_and(|outage| outage.is_known())
        {
            tracing::warn!(%error, "the last spans could not be sent");
        }
        match told.recv_timeout(otlp::LAST_TIMEOUT.saturating_sub(begun.elapsed())) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the last metrics could not be sent"),
            Err(_) => tracing::info!("the last metrics could not be sent in time"),
        }
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        self.close();
    }
}
