//! Measures how long it takes on an idle cluster from the acknowledgement of a submission to the
//! first instruction of its command. Prints one JSON document with the machine's own limits, taken in the same
//! run.
//!
//! `cargo bench -p orchestra-tests --bench latency -- [TASKS]`
//!
//! Everything is real and durable: built binaries, TLS, one task at a time in an empty directory of its own
//! below a supervisor. The command prints the time at which it runs, so that the figures
//! hold the start of `date` too: `bare_start_ms` is what this process needs from its decision to that
//! same print.

mod limits;

use std::{
    io::Write,
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, bail, ensure};
use orchestra_proto::{
    client::{self, Credentials},
    v1::{self, admin_client::AdminClient},
};
use orchestra_tests::{Binaries, Cluster, Setup};
use serde_json::{Value, json};
use tonic::transport::Channel;

const TASKS: u32 = 200;
/// Between two tasks nothing happens for so long.
const REST: Duration = Duration::from_millis(50);
const LOOK_EVERY: Duration = Duration::from_millis(5);
const GIVE_UP_AFTER: Duration = Duration::from_secs(30);

fn main() -> anyhow::Result<()> {
    // `cargo bench` adds a flag of its own.
    let mut counts = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let tasks = counts.next().map_or(Ok(TASKS), |n| n.parse())?;
    ensure!(tasks > 0, "at least one task");
    Binaries::build()?;
    let cluster = Cluster::new(Setup::new())?;
    cluster.start()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let took = runtime.block_on(measure(&cluster, tasks))?;
    let document = json!({
        "tasks": tasks,
        "acknowledged_to_started_ms": took,
        "machine": {
            "fdatasync_ms_p50": limits::fdatasync_ms(&cluster.state())?,
            "bare_start_ms": bare_starts(tasks)?,
        },
    });
    cluster.stop()?;
    writeln!(std::io::stdout(), "{document:#}")?;
    Ok(())
}

/// The same command without anything between.
fn bare_starts(count: u32) -> anyhow::Result<Value> {
    let mut took = Vec::new();
    for _ in 0..count {
        let began = now()?;
        let said = Command::new("date").arg("+%s%N").output()?.stdout;
        let started: u128 = String::from_utf8(said)?.trim().parse()?;
        took.push((started as f64 - began as f64) / 1e6);
        std::thread::sleep(REST);
    }
    Ok(percentiles(took))
}

async fn measure(cluster: &Cluster, tasks: u32) -> anyhow::Result<Value> {
    let mut admin = connect(cluster).await?;
    let mut took = Vec::new();
    for number in 0..tasks {
        let (id, acknowledged) = submit(&mut admin, number).await?;
        let started = started(&mut admin, id).await?;
        // A command may run before its submitter hears of it.
        took.push((started as f64 - acknowledged as f64) / 1e6);
        tokio::time::sleep(REST).await;
    }
    Ok(percentiles(took))
}

fn percentiles(mut took: Vec<f64>) -> Value {
    took.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| took[((took.len() - 1) as f64 * share).round() as usize];
    json!({ "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": at(1.0) })
}

/// Nanoseconds since 1970.
fn now() -> anyhow::Result<u128> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())
}

async fn connect(cluster: &Cluster) -> anyhow::Result<AdminClient<Channel>> {
    let dir = cluster.state().join("client");
    let endpoint = std::fs::read_to_string(dir.join("endpoint"))?;
    let credentials = Credentials::load(&dir)?;
    let channel = client::connect(&credentials, endpoint.trim()).await?;
    Ok(AdminClient::new(channel))
}

/// Its id, and when it was acknowledged, in nanoseconds since 1970.
async fn submit(admin: &mut AdminClient<Channel>, number: u32) -> anyhow::Result<(u64, u128)> {
    let argv = v1::shell_command::Argv {
        args: vec!["date".to_owned(), "+%s%N".to_owned()],
    };
    let command = v1::ShellCommand {
        command: Some(v1::shell_command::Command::Argv(argv)),
    };
    let spec = v1::TaskSpec {
        description: "what time is it".to_owned(),
        runner: "shell".to_owned(),
        timeout_ms: 60_000,
        command: Some(command),
        place: Some(v1::Place {
            place: Some(v1::place::Place::Empty(v1::place::Empty {})),
        }),
        ..v1::TaskSpec::default()
    };
    let request = v1::SubmitRequest {
        idempotency_key: format!("latency-{number}"),
        tasks: vec![v1::NewTask {
            spec: Some(spec),
            ..v1::NewTask::default()
        }],
    };
    let ids = admin.submit(request).await?.into_inner().ids;
    let acknowledged = now()?;
    let id = ids.first().context("a submission has an id")?;
    Ok((*id, acknowledged))
}

/// When the command of a task ran, in nanoseconds since 1970.
async fn started(admin: &mut AdminClient<Channel>, id: u64) -> anyhow::Result<u128> {
    let until = tokio::time::Instant::now() + GIVE_UP_AFTER;
    while tokio::time::Instant::now() < until {
        let task = admin.get_task(v1::GetTaskRequest { id }).await?;
        let task = task.into_inner();
        let outcome = task
            .attempts
            .into_iter()
            .find_map(|attempt| attempt.outcome);
        match outcome {
            Some(outcome) => return Ok(outcome.text.trim().parse()?),
            None => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
    bail!("task {id} has not ended within {GIVE_UP_AFTER:?}");
}
