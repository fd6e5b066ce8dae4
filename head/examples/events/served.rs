//! The built head as a process: events come over the bulk service with mutual TLS, and followers read
//! them over connections of their own. Client and head share the processors.

use std::{ffi::OsStr, time::Instant};

use anyhow::Context;
use orchestra_proto::{
    batch::encode,
    v1::{self, bulk_client::BulkClient},
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    machine::{cpu_of, resident_kb_of},
    support::{Head, Worker, new_task, started, submission},
    work::{self, SHAPES, Shape},
};

/// One attempt: a worker here has little room.
pub fn measure(binary: &OsStr) -> anyhow::Result<Value> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(run(binary, SHAPES[0]))
}

async fn run(binary: &OsStr, shape: Shape) -> anyhow::Result<Value> {
    let mut head = Head::start_binary(binary).await;
    let pid = head.process().id().to_string();
    let task = vec![new_task("says much")];
    head.admin()
        .await
        .submit(submission("events", task))
        .await?;
    let mut worker = Worker::attach(&head, &[]).await;
    let attempt = worker.start_order().await.attempt;
    let attempt = attempt.context("an order names its attempt")?;
    worker.report(1, attempt, started()).await;
    worker.acked(1).await;
    let mut followers = JoinSet::new();
    for _ in 0..shape.followers {
        let mut admin = head.admin().await;
        let request = v1::FollowEventsRequest {
            task: attempt.task,
            attempt: attempt.number,
            after_seq: 0,
            follow: true,
        };
        let mut batches = admin.follow_events(request).await?.into_inner();
        followers.spawn(async move {
            let mut seen = 0;
            while seen < shape.events() {
                let batch = batches.message().await?.context("it ended too early")?;
                seen += batch.events.len() as u64;
            }
            anyhow::Ok(seen)
        });
    }
    let uploads = (0..shape.batches).map(|number| v1::EventUpload {
        attempt: Some(attempt),
        events: encode(&work::batch(number * shape.batch + 1, shape.batch)),
    });
    let uploads: Vec<_> = uploads.collect();
    let mut bulk = BulkClient::new(head.worker_channel().await);
    let (cpu, began) = (cpu_of(&pid), Instant::now());
    let acks = bulk.push_events(tokio_stream::iter(uploads)).await?;
    let mut acks = acks.into_inner();
    let mut up_to = 0;
    while up_to < shape.events() {
        up_to = acks.message().await?.context("no more acks")?.up_to;
    }
    let durable = began.elapsed();
    let mut followed = 0;
    while let Some(seen) = followers.join_next().await {
        followed += seen??;
    }
    let all = began.elapsed();
    let cpu = cpu_of(&pid).saturating_sub(cpu);
    let events = shape.events() as f64;
    Ok(json!({
        "followers": shape.followers,
        "events_in": shape.events(),
        "events_out": followed,
        "durable_per_second": (events / durable.as_secs_f64()) as u64,
        "followed_by_all_per_second": (events / all.as_secs_f64()) as u64,
        "head_cpu_us_per_event": (cpu.as_secs_f64() * 1e8 / events).round() / 100.0,
        "head_rss_kb": resident_kb_of(&pid),
    }))
}
