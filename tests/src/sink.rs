//! A sink for OTLP: stands where a collector would, and keeps the spans and the names of metrics.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, mpsc},
    thread,
};

use anyhow::Context;
use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    common::v1::{KeyValue, any_value::Value},
};
use tokio::{net::TcpListener, sync::oneshot};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

/// One span, as it came.
#[derive(Clone, Debug, Default)]
pub struct Span {
    /// Which service sent it.
    pub service: String,
    /// Its name.
    pub name: String,
    /// The trace, in hex.
    pub trace: String,
    /// Its own id, in hex.
    pub id: String,
    /// Its parent's id, in hex; empty for a root.
    pub parent: String,
    /// Its attributes, as text.
    pub attributes: BTreeMap<String, String>,
    /// Its events: the name and the attributes of each.
    pub events: Vec<(String, BTreeMap<String, String>)>,
}

#[derive(Debug, Default)]
struct Kept {
    spans: Vec<Span>,
    metrics: BTreeSet<String>,
}

/// A running sink.
#[derive(Debug)]
pub struct Sink {
    address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
    stop: Option<oneshot::Sender<()>>,
    server: Option<thread::JoinHandle<()>>,
}

impl Sink {
    /// Starts one on a free port of loopback.
    pub fn start() -> anyhow::Result<Self> {
        Self::at((Ipv4Addr::LOCALHOST, 0).into())
    }

    /// Starts one at an address.
    pub fn at(address: SocketAddr) -> anyhow::Result<Self> {
        let kept = Arc::<Mutex<Kept>>::default();
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = mpsc::channel();
        let service = Service(Arc::clone(&kept));
        let server = thread::spawn(move || {
            if let Err(error) = serve(address, service, &tell, stopped) {
                eprintln!("the OTLP sink failed: {error:?}");
            }
        });
        let address = told.recv().context("the OTLP sink did not start")?;
        Ok(Self {
            address,
            kept,
            stop: Some(stop),
            server: Some(server),
        })
    }

    /// What `OTEL_EXPORTER_OTLP_ENDPOINT` is set to.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The spans so far.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        self.kept.lock().expect("no holder panics").spans.clone()
    }

    /// The names of the metrics so far.
    #[must_use]
    pub fn metrics(&self) -> BTreeSet<String> {
        self.kept.lock().expect("no holder panics").metrics.clone()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(server) = self.server.take() {
            drop(server.join());
        }
    }
}

fn serve(
    address: SocketAddr,
    service: Service,
    tell: &mpsc::Sender<SocketAddr>,
    stopped: oneshot::Receiver<()>,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await?;
        tell.send(listener.local_addr()?)?;
        let server = Server::builder()
            .add_service(TraceServiceServer::new(service.clone()))
            .add_service(MetricsServiceServer::new(service));
        let connections = TcpListenerStream::new(listener);
        // Exporters keep their connections open, so waiting for them to end would wait for ever.
        tokio::select! {
            served = server.serve_with_incoming(connections) => Ok(served?),
            _ = stopped => Ok(()),
        }
    })
}

#[derive(Clone)]
struct Service(Arc<Mutex<Kept>>);

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let spans = spans_of(request.into_inner());
        self.0.lock().expect("no holder panics").spans.extend(spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Service {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let resources = request.into_inner().resource_metrics.into_iter();
        let names = resources
            .flat_map(|resource| resource.scope_metrics)
            .flat_map(|scope| scope.metrics)
            .map(|metric| metric.name);
        self.0
            .lock()
            .expect("no holder panics")
            .metrics
            .extend(names);
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

fn spans_of(request: ExportTraceServiceRequest) -> Vec<Span> {
    let mut spans = Vec::new();
    for resource in request.resource_spans {
        let about = attributes(resource.resource.unwrap_or_default().attributes);
        let service = about.get("service.name").cloned().unwrap_or_default();
        for span in resource
            .scope_spans
            .into_iter()
            .flat_map(|scope| scope.spans)
        {
            spans.push(Span {
                service: service.clone(),
                name: span.name,
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                attributes: attributes(span.attributes),
                events: span
                    .events
                    .into_iter()
                    .map(|event| (event.name, attributes(event.attributes)))
                    .collect(),
            });
        }
    }
    spans
}

fn attributes(pairs: Vec<KeyValue>) -> BTreeMap<String, String> {
    pairs
        .into_iter()
        .map(|pair| (pair.key, text(pair.value.and_then(|v| v.value))))
        .collect()
}

fn text(value: Option<Value>) -> String {
    match value {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
