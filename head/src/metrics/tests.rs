//! The metrics as a scraper sees them, over real HTTP.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use opentelemetry::metrics::MeterProvider as _;
use opentelemetry_sdk::{
    error::OTelSdkResult,
    metrics::{
        SdkMeterProvider, Temporality,
        data::{ResourceMetrics, ScopeMetrics},
        exporter::PushMetricExporter,
    },
};
use orchestra_telemetry::{Format, Setup, Telemetry};
use orchestra_types::{FailureCode, Priority, TaskStatus, Usage};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::*;

async fn get(address: std::net::SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.0\r\nHost: head\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scraper_sees_every_metric_that_the_documentation_names() {
    let telemetry = Telemetry::init(&Setup {
        service: "orchestra-head",
        version: "0",
        instance: "test",
        log: None,
        format: Format::Text,
        log_file: None,
        otlp_endpoint: None,
        prometheus: true,
    })
    .unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("db"), vec![1; 4096]).unwrap();
    let metrics = Metrics::new(&telemetry.meter(), dir.path().to_owned());
    metrics.levels().set_tasks(TaskStatus::Succeeded, 1);
    metrics.levels().set_workers_connected(2);
    metrics.levels().set_agents_busy(3);
    metrics.levels().set_live_bytes(9);
    metrics.levels().set_accounts_parked(4);
    metrics.task_submitted(Priority::High);
    metrics.events_received(5);
    metrics.connection_refused(crate::door::Reason::NotTls);
    metrics.task_assigned(Priority::High, Duration::from_millis(20));
    metrics.attempt_started("agent", Duration::from_secs(3));
    metrics.attempt_ended("agent", None, Duration::from_secs(7));
    metrics.attempt_used("agent", &usage(), 250_000);
    metrics.attempt_used("agent", &usage(), 1_500_000);
    metrics.runner_seen("codex");
    metrics.attempt_given_up(FailureCode::WorkerLost);
    metrics.task_ended(TaskStatus::Failed, Some(FailureCode::QueueTimeout));
    metrics.committed(Duration::from_micros(300));

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = router(telemetry.scrape().unwrap(), || Err("draining".to_owned()));
    let mut server = JoinSet::new();
    server.spawn(serve(listener, router, std::future::pending()));
    let text = get(address, "/metrics").await;
    for want in [
        "orchestra_tasks{status=\"succeeded\"} 1\n",
        "orchestra_tasks{status=\"queued\"} 0\n",
        "orchestra_workers_connected 2\n",
        "orchestra_agents_busy 3\n",
        "orchestra_accounts_parked 4\n",
        "orchestra_tasks_submitted_total{priority=\"high\"} 1\n",
        "orchestra_events_received_total 5\n",
        "orchestra_connections_refused_total{reason=\"not_tls\"} 1\n",
        "orchestra_connections_refused_total{reason=\"full\"} 0\n",
        "orchestra_attempts_ended_total{result=\"succeeded\"} 1\n",
        "orchestra_attempts_given_up_total{result=\"worker_lost\"} 1\n",
        "orchestra_attempts_tokens_total{kind=\"input\",runner=\"agent\"} 80\n",
        "orchestra_attempts_tokens_total{kind=\"output\",runner=\"agent\"} 14\n",
        "orchestra_attempts_tokens_total{kind=\"cached\",runner=\"agent\"} 60\n",
        "orchestra_attempts_cost_total{runner=\"agent\"} 1.75\n",
        "orchestra_attempts_tokens_total{kind=\"cached\",runner=\"codex\"} 0\n",
        "orchestra_attempts_cost_total{runner=\"codex\"} 0\n",
        "orchestra_tasks_ended_total{result=\"queue_timeout\",status=\"failed\"} 1\n",
        "orchestra_queue_wait_seconds_bucket{priority=\"high\",le=\"0.025\"} 1\n",
        "orchestra_attempt_start_seconds_sum{runner=\"agent\"} 3\n",
        "orchestra_attempt_duration_seconds_sum{result=\"succeeded\",runner=\"agent\"} 7\n",
        "orchestra_store_commit_seconds_bucket{le=\"0.0005\"} 1\n",
        "orchestra_store_size_bytes ",
        "orchestra_store_live_bytes 9\n",
        "orchestra_head_memory_bytes ",
    ] {
        assert!(text.contains(want), "{want:?} is not in {text}");
    }
    documented(&text);
    assert!(get(address, "/healthz").await.contains(" 200 "));
    let unready = get(address, "/readyz").await;
    assert!(unready.contains(" 503 ") && unready.contains("draining"));
    assert!(get(address, "/other").await.contains(" 404 "));
}

fn usage() -> Usage {
    Usage {
        input_tokens: 40,
        output_tokens: 7,
        cached_tokens: 30,
        ..Usage::default()
    }
}

/// Metrics and the text that they give.
pub(crate) struct Shown {
    pub metrics: Arc<Metrics>,
    registry: prometheus::Registry,
    _provider: SdkMeterProvider,
}

impl Shown {
    pub fn new() -> Self {
        let registry = prometheus::Registry::new();
        let exporter = opentelemetry_prometheus::exporter().with_registry(registry.clone());
        let reader = exporter.scope_info_enabled(false).build().unwrap();
        let provider = SdkMeterProvider::builder().with_reader(reader).build();
        Self {
            metrics: Arc::new(Metrics::new(&provider.meter("test"), "/none".into())),
            registry,
            _provider: provider,
        }
    }

    pub fn text(&self) -> String {
        let encoder = prometheus::TextEncoder::new();
        encoder.encode_to_string(&self.registry.gather()).unwrap()
    }
}

#[test]
fn what_has_a_closed_set_of_labels_is_there_with_0_from_the_start() {
    let text = Shown::new().text();
    let mut wanted = vec!["orchestra_events_received_total 0".to_owned()];
    for priority in Priority::ALL {
        wanted.push(format!(
            "orchestra_tasks_submitted_total{{priority=\"{priority}\"}} 0"
        ));
    }
    let failures = FailureCode::ALL.map(FailureCode::as_str);
    for result in failures.into_iter().chain(["succeeded"]) {
        wanted.push(format!(
            "orchestra_attempts_ended_total{{result=\"{result}\"}} 0"
        ));
    }
    for result in failures {
        for status in ["failed", "cancelled", "needs_review"] {
            wanted.push(format!(
                "orchestra_tasks_ended_total{{result=\"{result}\",status=\"{status}\"}} 0"
            ));
        }
    }
    for result in [
        "worker_lost",
        "cancelled",
        "timeout",
        "stalled",
        "budget_exceeded",
    ] {
        wanted.push(format!(
            "orchestra_attempts_given_up_total{{result=\"{result}\"}} 0"
        ));
    }
    for want in wanted {
        assert!(
            text.lines().any(|line| line == want),
            "{want} not in {text}"
        );
    }
}

/// Every metric has a row in the documentation, and every row is a metric.
fn documented(text: &str) {
    let page = include_str!("../../../docs/metrics.md");
    let mut shown: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .filter(|name| *name != "target_info")
        .collect();
    let mut rows: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `orchestra_")?.split('`').next())
        .collect();
    shown.sort_unstable();
    rows.sort_unstable();
    let rows: Vec<String> = rows.iter().map(|row| format!("orchestra_{row}")).collect();
    assert_eq!(shown, rows);
}

/// Keeps the names and units that come over OTLP.
#[derive(Clone, Default)]
struct Units(Arc<Mutex<BTreeMap<String, String>>>);

impl PushMetricExporter for Units {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let metrics = metrics.scope_metrics().flat_map(ScopeMetrics::metrics);
        let units = metrics.map(|one| (one.name().to_owned(), one.unit().to_owned()));
        self.0.lock().unwrap().extend(units);
        Ok(())
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn temporality(&self) -> Temporality {
        Temporality::Cumulative
    }
}

#[test]
fn the_units_are_those_that_the_documentation_names() {
    let units = Units::default();
    let provider = SdkMeterProvider::builder().with_periodic_exporter(units.clone());
    let provider = provider.build();
    let dir = tempfile::tempdir().unwrap();
    let metrics = Metrics::new(&provider.meter("test"), dir.path().to_owned());
    metrics.levels().set_live_bytes(9);
    metrics.task_assigned(Priority::High, Duration::ZERO);
    metrics.attempt_started("agent", Duration::from_secs(1));
    metrics.attempt_ended("agent", None, Duration::ZERO);
    metrics.attempt_used("agent", &usage(), 1);
    metrics.committed(Duration::ZERO);
    provider.force_flush().unwrap();
    let page = include_str!("../../../docs/metrics.md");
    let rows = page
        .lines()
        .filter(|line| line.starts_with("| `orchestra_"));
    let documented = rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(|c| c.trim().trim_matches('`')).collect();
        (cells[2].to_owned(), cells[4].to_owned())
    });
    assert_eq!(*units.0.lock().unwrap(), documented.collect());
}
