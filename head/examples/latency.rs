//! Measures a head on this machine: how long a submission takes until it is acknowledged, and how
//! long from there until the order to start reaches a worker. Prints one JSON document.
//!
//! Run it with the built binary: `cargo run --release -p orchestra-head --example latency --
//! target/release/orchestra-head [TASKS]`. What the disk itself costs is measured in the same run:
//! durable means one `fdatasync`, and no figure below that is possible.

#[expect(dead_code, reason = "the tests use the rest of it")]
#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    io::Write,
    os::unix::fs::FileExt,
    time::{Duration, Instant},
};

use orchestra_proto::v1::{admin_client::AdminClient, report};
use support::{Head, Worker, finished, new_task, started, submission};
use tonic::transport::Channel;

const TASKS: u32 = 200;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args_os().skip(1);
    let binary = args.next();
    let binary = binary.ok_or_else(|| anyhow::anyhow!("name the built orchestra-head"))?;
    let tasks = match args.next() {
        Some(count) => count.to_string_lossy().parse()?,
        None => TASKS,
    };
    let head = Head::start_binary(&binary).await;
    let disk = raw_fdatasync(head.state())?;
    let mut admin = head.admin().await;
    let mut worker = Worker::attach(&head, &[]).await;
    let mut measured = Measured::default();
    let mut seq = 0;
    for number in 0..tasks {
        seq = one(&mut admin, &mut worker, number, seq, &mut measured).await?;
    }
    let batch = batch(&mut admin).await?;
    let document = serde_json::json!({
        "tasks": tasks,
        "fdatasync_ms": figures(disk),
        "submit_ms": figures(measured.submit),
        "ack_to_start_ms": figures(measured.ack_to_start),
        "submit_1000_at_once_ms": milliseconds(batch),
    });
    writeln!(std::io::stdout(), "{document:#}")?;
    Ok(())
}

#[derive(Default)]
struct Measured {
    submit: Vec<Duration>,
    /// From the client's acknowledgement to the worker's order; zero when the order came first.
    ack_to_start: Vec<Duration>,
}

async fn one(
    admin: &mut AdminClient<Channel>,
    worker: &mut Worker,
    number: u32,
    seq: u64,
    measured: &mut Measured,
) -> anyhow::Result<u64> {
    let request = submission(&format!("one-{number}"), vec![new_task("measure")]);
    let began = Instant::now();
    let submitting = async {
        let submitted = admin.submit(request).await;
        (submitted, Instant::now())
    };
    let starting = async {
        let start = worker.start_order().await;
        (start, Instant::now())
    };
    let ((submitted, acked_at), (start, started_at)) = tokio::join!(submitting, starting);
    submitted?;
    measured.submit.push(acked_at - began);
    let to_start = started_at.saturating_duration_since(acked_at);
    measured.ack_to_start.push(to_start);
    let attempt = start.attempt.expect("an order names its attempt");
    worker.report(seq + 1, attempt, started()).await;
    let done: report::Body = finished("done");
    worker.report(seq + 2, attempt, done).await;
    worker.acked(seq + 2).await;
    Ok(seq + 2)
}

async fn batch(admin: &mut AdminClient<Channel>) -> anyhow::Result<Duration> {
    let tasks = (0..1000).map(|i| new_task(&format!("task {i}"))).collect();
    let began = Instant::now();
    admin.submit(submission("batch", tasks)).await?;
    Ok(began.elapsed())
}

/// What the disk takes to make 4 KiB durable in a file that has its size already.
fn raw_fdatasync(dir: &std::path::Path) -> anyhow::Result<Vec<Duration>> {
    let file = std::fs::File::create(dir.join("fdatasync"))?;
    let block = [7; 4096];
    file.write_all_at(&vec![0; TASKS as usize * block.len()], 0)?;
    file.sync_all()?;
    let mut took = Vec::new();
    for place in 0..TASKS {
        let began = Instant::now();
        file.write_all_at(&block, u64::from(place) * 4096)?;
        file.sync_data()?;
        took.push(began.elapsed());
    }
    Ok(took)
}

fn figures(mut took: Vec<Duration>) -> serde_json::Value {
    took.sort_unstable();
    let at = |share: f64| {
        let last = took.len().saturating_sub(1) as f64;
        took.get((last * share) as usize).copied().map(milliseconds)
    };
    serde_json::json!({ "p50": at(0.5), "p95": at(0.95), "p99": at(0.99), "max": at(1.0) })
}

fn milliseconds(took: Duration) -> f64 {
    (took.as_secs_f64() * 100_000.0).round() / 100.0
}
