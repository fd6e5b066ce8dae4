//! Measures the built head as a process with a long queue, over gRPC and mutual TLS, and prints one
//! JSON document: how long submissions take (of 100,000 tasks one after the other, and the last one
//! after a rest), memory of the process when they are acknowledged and when it has settled, what
//! `status` and the first page of `tasks` take, and how soon the process serves again after `kill -9`.
//!
//! `cargo run --release -p orchestra-head --example queue -- target/release/orchestra-head
//! [QUEUED]…` (100,000 and 1,000,000 by default; each in a head of its own; with 0 none). Descriptions
//! have 300 bytes. `round_trip_us` is what a call costs that does nothing, `fdatasync_us` what the
//! disk takes, both of the same run. It waits until memory has settled: some five minutes in all.

#[expect(dead_code, reason = "the tests use the rest of it")]
#[path = "../../tests/support/mod.rs"]
mod support;

mod process;

use std::{
    ffi::OsStr,
    io::Write,
    time::{Duration, Instant},
};

use anyhow::Context;
use orchestra_proto::v1::{self, admin_client::AdminClient};
use process::{Disk, cpu, figures, seconds, settled, status_kb};
use serde_json::{Value, json};
use support::{Head, new_task, submission};
use tokio::task::JoinSet;
use tonic::transport::Channel;

const CALL: usize = 100_000;
const PART: usize = 1_000;
const DESCRIPTION_BYTES: usize = 300;
const READS: usize = 200;
const SINGLE: usize = 1_000;
const SUBMITTERS: usize = 512;
const PER_SUBMITTER: usize = 40;
/// Connections of all submitters.
const CHANNELS: usize = 16;
const IDLE: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args_os().skip(1);
    let binary = args.next().context("name the built orchestra-head")?;
    let counts = args.map(|n| Ok(n.to_string_lossy().parse()?));
    let mut counts = counts.collect::<anyhow::Result<Vec<usize>>>()?;
    if counts.is_empty() {
        counts = vec![100_000, 1_000_000];
    }
    let mut document = json!({ "single": single(&binary).await? });
    let mut queues = Vec::new();
    for count in counts.into_iter().filter(|count| *count > 0) {
        queues.push(queue(&binary, count).await?);
    }
    document["queues"] = json!(queues);
    writeln!(std::io::stdout(), "{document:#}")?;
    Ok(())
}

/// An idle head, then one submission after the other, then many submitters at once.
async fn single(binary: &OsStr) -> anyhow::Result<Value> {
    let mut head = Head::start_binary(binary).await;
    let pid = head.process().id();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (idle_kb, before) = (status_kb(pid, "VmRSS:"), cpu(pid));
    tokio::time::sleep(IDLE).await;
    let idle_cpu = cpu(pid).saturating_sub(before).as_secs_f64() / IDLE.as_secs_f64();
    let mut admin = head.admin().await;
    let mut disk = Disk::open(head.state(), SINGLE)?;
    let round_trip = figures(round_trips(&mut admin).await?);
    let (mut took, mut syncs) = (Vec::new(), Vec::new());
    for number in 0..SINGLE {
        // In turn, so that what else happens on the disk meets both.
        syncs.push(disk.sync()?);
        let request = submission(&format!("one-{number}"), vec![task(number)]);
        let began = Instant::now();
        admin.submit(request).await?;
        took.push(began.elapsed());
    }
    let calls = (SUBMITTERS * PER_SUBMITTER) as f64;
    let each = |before| cpu(pid).saturating_sub(before).as_secs_f64() * 1e6 / calls;
    let before = cpu(pid);
    let nothing_per_second = together(&head, find_nothing).await?;
    let nothing_each = each(before).round();
    let before = cpu(pid);
    let submits_per_second = together(&head, submit_one).await?;
    let submit_each = each(before).round();
    Ok(json!({
        "idle_kb": idle_kb,
        "idle_cpu_percent": (idle_cpu * 1e5).round() / 1e3,
        "fdatasync_us": figures(syncs),
        "round_trip_us": round_trip,
        "submit_one_us": figures(took),
        "submitters": SUBMITTERS,
        "calls_that_find_nothing_per_second": nothing_per_second,
        "head_cpu_us_per_call_that_finds_nothing": nothing_each,
        "submits_per_second": submits_per_second,
        "head_cpu_us_per_submit": submit_each,
    }))
}

/// Calls of many callers at once in a second: what `call` does is given its caller's number and its own.
async fn together<F>(
    head: &Head,
    call: impl Fn(AdminClient<Channel>, usize, usize) -> F + Copy + Send + 'static,
) -> anyhow::Result<f64>
where
    F: Future<Output = anyhow::Result<()>> + Send,
{
    let mut channels = Vec::new();
    for _ in 0..CHANNELS {
        channels.push(head.admin().await);
    }
    let began = Instant::now();
    let mut callers = JoinSet::new();
    for caller in 0..SUBMITTERS {
        let admin = channels[caller % CHANNELS].clone();
        callers.spawn(async move {
            for number in 0..PER_SUBMITTER {
                call(admin.clone(), caller, number).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    Ok(((SUBMITTERS * PER_SUBMITTER) as f64 / began.elapsed().as_secs_f64()).round())
}

async fn submit_one(
    mut admin: AdminClient<Channel>,
    caller: usize,
    number: usize,
) -> anyhow::Result<()> {
    let key = format!("many-{caller}-{number}");
    admin.submit(submission(&key, vec![task(number)])).await?;
    Ok(())
}

async fn find_nothing(mut admin: AdminClient<Channel>, _: usize, _: usize) -> anyhow::Result<()> {
    let found = admin.get_task(v1::GetTaskRequest { id: u64::MAX }).await;
    anyhow::ensure!(found.is_err(), "there is no such task");
    Ok(())
}

async fn queue(binary: &OsStr, count: usize) -> anyhow::Result<Value> {
    let mut head = Head::start_binary(binary).await;
    let pid = head.process().id();
    let mut admin = head.admin().await;
    let mut calls = Vec::new();
    let last = count.saturating_sub(CALL);
    for from in (0..last).step_by(CALL) {
        calls.push(submit(&mut admin, from..last.min(from + CALL)).await?);
    }
    if last > 0 {
        settled(pid).await;
    }
    let rested = submit(&mut admin, last..count).await?;
    let acknowledged_kb = status_kb(pid, "VmRSS:");
    let (settled_kb, after) = settled(pid).await;
    let peak_kb = status_kb(pid, "VmHWM:");
    let round_trip = figures(round_trips(&mut admin).await?);
    let status = figures(statuses(&mut admin).await?);
    let page = figures(pages(&mut admin).await?);
    let rss_kb = status_kb(pid, "VmRSS:");
    drop(admin);
    let began = Instant::now();
    let mut head = head.kill_and_start_again().await;
    let mut admin = head.admin().await;
    let seen = admin
        .get_status(v1::GetStatusRequest {})
        .await?
        .into_inner();
    let restart = began.elapsed();
    let pid = head.process().id();
    let restart_cpu = cpu(pid);
    let serving_kb = status_kb(pid, "VmRSS:");
    let queued = seen.by_status.get("queued").copied().unwrap_or(0);
    anyhow::ensure!(queued == count as u64, "{queued} tasks are left of {count}");
    let (restarted_kb, _) = settled(pid).await;
    calls.sort_unstable();
    Ok(json!({
        "queued": count,
        "submit_100000_in_turn_s": calls.iter().copied().map(seconds).collect::<Vec<_>>(),
        "submit_100000_after_a_rest_s": seconds(rested),
        "rss_kb": {
            "acknowledged": acknowledged_kb,
            "settled": settled_kb,
            "settled_after_s": after.as_secs(),
            "after_reads": rss_kb,
            "peak": peak_kb,
            "restarted": serving_kb,
            "restarted_settled": restarted_kb,
        },
        "round_trip_us": round_trip,
        "status_us": status,
        "first_page_us": page,
        "restart_s": seconds(restart),
        "restart_cpu_s": seconds(restart_cpu),
    }))
}

async fn submit(
    admin: &mut AdminClient<Channel>,
    tasks: std::ops::Range<usize>,
) -> anyhow::Result<Duration> {
    let key = format!("bulk-{}", tasks.start);
    let parts = tasks.clone().step_by(PART).map(|from| v1::SubmitPart {
        idempotency_key: key.clone(),
        tasks: (from..tasks.end.min(from + PART)).map(task).collect(),
    });
    let parts: Vec<_> = parts.collect();
    let began = Instant::now();
    let answer = admin.submit_many(tokio_stream::iter(parts)).await?;
    let took = began.elapsed();
    let ids = answer.into_inner().ids.len();
    anyhow::ensure!(ids == tasks.len(), "{ids} ids for {} tasks", tasks.len());
    Ok(took)
}

/// A call that finds nothing.
async fn round_trips(admin: &mut AdminClient<Channel>) -> anyhow::Result<Vec<Duration>> {
    let mut took = Vec::new();
    for _ in 0..READS {
        let began = Instant::now();
        find_nothing(admin.clone(), 0, 0).await?;
        took.push(began.elapsed());
    }
    Ok(took)
}

async fn statuses(admin: &mut AdminClient<Channel>) -> anyhow::Result<Vec<Duration>> {
    let mut took = Vec::new();
    for _ in 0..READS {
        let began = Instant::now();
        admin.get_status(v1::GetStatusRequest {}).await?;
        took.push(began.elapsed());
    }
    Ok(took)
}

async fn pages(admin: &mut AdminClient<Channel>) -> anyhow::Result<Vec<Duration>> {
    let mut took = Vec::new();
    for _ in 0..READS {
        let request = v1::ListTasksRequest {
            newest_first: true,
            ..v1::ListTasksRequest::default()
        };
        let began = Instant::now();
        let page = admin.list_tasks(request).await?.into_inner();
        took.push(began.elapsed());
        anyhow::ensure!(page.tasks.len() == 100, "{} tasks", page.tasks.len());
    }
    Ok(took)
}

fn task(number: usize) -> v1::NewTask {
    let description = format!("task {number} {}", "x".repeat(DESCRIPTION_BYTES));
    new_task(&description[..DESCRIPTION_BYTES])
}
