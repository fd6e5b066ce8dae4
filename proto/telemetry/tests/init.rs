//! The whole set-up, in a process of its own: the subscriber is the process's.

use std::time::{Duration, Instant};

use orchestra_telemetry::{Error, Format, Setup, Telemetry, traceparent};

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_endpoint_costs_neither_work_nor_the_end_of_the_process() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let setup = Setup {
        service: "orchestra-test",
        version: "0",
        instance: "here",
        log: Some("warn"),
        format: Format::Json,
        log_file: None,
        otlp_endpoint: Some(&endpoint),
        prometheus: true,
    };
    let telemetry = Telemetry::init(&setup).unwrap();
    assert!(matches!(Telemetry::init(&setup), Err(Error::AlreadySet(_))));

    let meter = telemetry.meter();
    let counter = meter
        .u64_counter("orchestra.things")
        .with_description("Things.")
        .build();
    counter.add(3, &[]);
    let text = telemetry.scrape().unwrap().text().unwrap();
    assert!(text.contains("orchestra_things_total 3"), "{text}");
    let span = tracing::info_span!("task");
    assert_eq!(traceparent(&span).len(), 55);
    drop(span);

    let started = Instant::now();
    telemetry.shutdown().await;
    assert!(started.elapsed() < Duration::from_secs(20), "{started:?}");
}
