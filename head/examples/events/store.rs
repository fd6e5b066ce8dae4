//! The head's own store of events, without a wire.

use std::{collections::VecDeque, path::Path, time::Instant};

use orchestra_head::events::{Events, Limits, Pending, Piece};
use orchestra_proto::batch::encode;
use tokio::task::JoinSet;

use super::{
    machine,
    work::{Measured, Shape, batch},
};

/// Batches of one attempt that are on their way at once, as on a worker's stream.
const UNDER_WAY: usize = 4;

pub fn measure(root: &Path, shape: Shape) -> anyhow::Result<Measured> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(run(root, shape))
}

async fn run(root: &Path, shape: Shape) -> anyhow::Result<Measured> {
    let (events, mut owner) = Events::start(root, Limits::default())?;
    let (began, cpu) = (Instant::now(), machine::cpu_of("self"));
    let mut writers = JoinSet::new();
    for number in 0..shape.attempts {
        writers.spawn(write(events.clone(), shape, number));
    }
    let mut followers = JoinSet::new();
    for number in 0..shape.followers {
        followers.spawn(follow(events.clone(), shape, number));
    }
    while let Some(wrote) = writers.join_next().await {
        wrote??;
    }
    let took = began.elapsed();
    let mut followed = 0;
    while let Some(follower) = followers.join_next().await {
        followed += follower??;
    }
    let cpu = machine::cpu_of("self") - cpu;
    drop(events);
    owner.ended().await?;
    Ok(Measured {
        took,
        cpu,
        followed,
    })
}

async fn write(events: Events, shape: Shape, number: u64) -> anyhow::Result<()> {
    let attempt = shape.attempt(number);
    let (mut under_way, mut durable) = (VecDeque::new(), 0);
    for index in 0..shape.batches {
        if under_way.len() == UNDER_WAY
            && let Some(oldest) = under_way.pop_front()
        {
            durable = Pending::durable(oldest).await?.up_to;
        }
        let first = index * shape.batch + 1;
        let part = encode(&batch(first, shape.batch));
        under_way.push_back(events.append(attempt, first, part).await?);
    }
    for pending in under_way {
        durable = pending.durable().await?.up_to;
    }
    anyhow::ensure!(durable == shape.events_of_one(), "{durable} are durable");
    Ok(())
}

async fn follow(events: Events, shape: Shape, number: u64) -> anyhow::Result<u64> {
    let mut reader = events.read(shape.attempt(number), 0).await?;
    let mut seen = 0;
    while seen < shape.events_of_one() {
        match reader.next().await? {
            Some(Piece::Events { first, events }) => {
                anyhow::ensure!(first == seen + 1, "{first} follows {seen}");
                seen += events.len() as u64;
            }
            Some(Piece::Gap(gap)) => anyhow::bail!("{gap:?}"),
            None => reader.more().await?,
        }
    }
    Ok(seen)
}
