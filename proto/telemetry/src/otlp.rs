//! The providers that send spans and metrics over OTLP/gRPC.
//!
//! Batch sizes and intervals follow the `OTEL_*` variables of the specification.

use std::{sync::Arc, time::Duration};

use opentelemetry::KeyValue;
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{Resource, metrics::SdkMeterProvider, trace::SdkTracerProvider};

use crate::{
    Error, Recorder, Scrape, Setup,
    endpoint::Endpoint,
    outage::{Outage, Watched},
};

/// How long one sending may take.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the last one may take before the process ends: a person waits for that.
pub(crate) const LAST_TIMEOUT: Duration = Duration::from_secs(2);

/// Where to send to, if anywhere.
pub(crate) fn endpoint(configured: Option<&str>) -> Result<Option<Endpoint>, Error> {
    let env = |name| std::env::var(name).ok().filter(|v| !v.trim().is_empty());
    if env("OTEL_SDK_DISABLED").is_some_and(|v| v.eq_ignore_ascii_case("true")) {
        return Ok(None);
    }
    let written = configured
        .map(str::to_owned)
        .or_else(|| env("OTEL_EXPORTER_OTLP_ENDPOINT"));
    let insecure = env("OTEL_EXPORTER_OTLP_INSECURE");
    let endpoint = written.map(|written| Endpoint::new(&written, insecure.as_deref()));
    endpoint.transpose()
}

/// Who we are, for every span and metric.
pub(crate) fn resource(setup: &Setup<'_>) -> Resource {
    let mut attributes = vec![KeyValue::new("service.version", setup.version.to_owned())];
    if !setup.instance.is_empty() {
        let instance = setup.instance.to_owned();
        attributes.push(KeyValue::new("service.instance.id", instance));
    }
    Resource::builder()
        .with_service_name(setup.service)
        .with_attributes(attributes)
        .build()
}

pub(crate) fn tracer(outage: &Arc<Outage>, resource: Resource) -> Result<SdkTracerProvider, Error> {
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(outage.endpoint().address())
        .with_timeout(SEND_TIMEOUT)
        .build()
        .map_err(failed(outage.endpoint()))?;
    Ok(Recorder::provider()
        .with_batch_exporter(Watched::new(exporter, outage))
        .with_resource(resource)
        .build())
}

pub(crate) fn meter(
    outage: Option<&Arc<Outage>>,
    resource: Resource,
    prometheus: bool,
) -> Result<(SdkMeterProvider, Option<Scrape>), Error> {
    let mut provider = SdkMeterProvider::builder().with_resource(resource);
    if let Some(outage) = outage {
        let exporter = MetricExporter::builder()
            .with_tonic()
            .with_endpoint(outage.endpoint().address())
            .with_timeout(SEND_TIMEOUT)
            .build()
            .map_err(failed(outage.endpoint()))?;
        provider = provider.with_periodic_exporter(Watched::new(exporter, outage));
    }
    let mut scrape = None;
    if prometheus {
        let (reader, text) = Scrape::new().map_err(Error::Prometheus)?;
        provider = provider.with_reader(reader);
        scrape = Some(text);
    }
    Ok((provider.build(), scrape))
}

fn failed(endpoint: &Endpoint) -> impl FnOnce(opentelemetry_otlp::ExporterBuildError) -> Error {
    let endpoint = endpoint.shown();
    move |source| Error::Exporter { endpoint, source }
}
