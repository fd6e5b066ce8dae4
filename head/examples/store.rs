//! Measures the engine and its store on this machine, without gRPC, and prints one JSON document:
//! what one `fdatasync` costs, how long a durable submission takes, how many go with 512 submitters
//! at once, 100,000 in one call, and how soon a head with many queued tasks serves again in how much
//! memory.
//!
//! Run it with `cargo run --release -p orchestra-head --example store -- [QUEUED]…`; each number of
//! queued tasks is measured in a process of its own. Everything lies in the current directory's file
//! system. `latency` measures what a client sees.

use std::{
    io::Write,
    os::unix::fs::FileExt,
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use orchestra_core::{NewTask, Reply};
use orchestra_head::{
    blobs::Blobs,
    engine::{self, Engine, Handle},
    metrics::Metrics,
    store::Store,
};
use orchestra_types::{TaskSpec, TaskStatus};
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinSet};

const SINGLE: usize = 2000;
const SUBMITTERS: usize = 512;
const PER_SUBMITTER: usize = 100;
const AT_ONCE: usize = 100_000;
const DESCRIPTION_BYTES: usize = 300;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let document = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["fill", dir, count] => fill(Path::new(dir), count.parse()?).await?,
        ["serve", dir] => serve(Path::new(dir)).await?,
        ref counts => measure(counts).await?,
    };
    writeln!(std::io::stdout(), "{document:#}")?;
    Ok(())
}

async fn measure(counts: &[&str]) -> anyhow::Result<Value> {
    let dir = tempfile::tempdir_in(".")?;
    let disk_before = figures(raw_fdatasync(dir.path())?);
    let running = Running::start(&dir.path().join("engine"))?;
    let one = submit_one_by_one(&running.engine.handle).await?;
    let disk_after = figures(raw_fdatasync(dir.path())?);
    let per_second = submit_together(&running.engine.handle).await?;
    running.stop().await?;
    let running = Running::start(&dir.path().join("bulk"))?;
    let bulk = submit_at_once(&running.engine.handle, AT_ONCE, 0).await?;
    running.stop().await?;
    let mut queued = Vec::new();
    for count in counts {
        let dir = dir.path().join(count);
        let dir = dir.to_str().context("the directory is no text")?;
        let filled = child(&["fill", dir, count])?;
        let served = child(&["serve", dir])?;
        queued.push(json!({ "queued": count, "filled": filled, "restarted": served }));
    }
    Ok(json!({
        "fdatasync_us": { "before": disk_before, "after": disk_after },
        "submit_one_us": figures(one),
        "submitters": SUBMITTERS,
        "submits_per_second": per_second.round(),
        "submit_100000_at_once_s": seconds(bulk),
        "queues": queued,
    }))
}

fn child(args: &[&str]) -> anyhow::Result<Value> {
    let output = Command::new(std::env::current_exe()?).args(args).output()?;
    anyhow::ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}

async fn fill(dir: &Path, count: usize) -> anyhow::Result<Value> {
    let running = Running::start(dir)?;
    let began = Instant::now();
    for from in (0..count).step_by(AT_ONCE) {
        let part = AT_ONCE.min(count - from);
        submit_at_once(&running.engine.handle, part, from).await?;
    }
    let took = began.elapsed();
    let resident = resident_mb();
    // A read is answered between two slices of what the store has put off.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let settled = resident_mb();
    running.stop().await?;
    Ok(json!({ "s": seconds(took), "rss_mb": resident, "rss_mb_settled": settled }))
}

async fn serve(dir: &Path) -> anyhow::Result<Value> {
    let began = Instant::now();
    let running = Running::start(dir)?;
    let engine = &running.engine.handle;
    let tasks = engine
        .read(|view| Ok(view.core.counts().with_status(TaskStatus::Queued)))
        .await?;
    let took = began.elapsed();
    let resident = resident_mb();
    running.stop().await?;
    Ok(json!({ "queued": tasks, "s": seconds(took), "rss_mb": resident }))
}

struct Running {
    engine: Engine,
    _closes: mpsc::Receiver<engine::Close>,
}

impl Running {
    fn start(dir: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let blobs = Blobs::open(&dir.join("blobs"))?;
        let store = Store::open(&dir.join("db"), blobs)?;
        let meter = opentelemetry::global::meter("store");
        let metrics = Arc::new(Metrics::new(&meter, dir.join("db")));
        let (sender, closes) = mpsc::channel(4);
        let (forgotten, _) = mpsc::channel(4);
        let runtime = tokio::runtime::Handle::current();
        let config = orchestra_core::Config {
            queue_max: u64::MAX,
            ..orchestra_core::Config::default()
        };
        let engine = engine::start(store, config, sender, forgotten, metrics, runtime)?;
        Ok(Self {
            engine,
            _closes: closes,
        })
    }

    async fn stop(mut self) -> anyhow::Result<()> {
        self.engine.handle.stop().await?;
        self.engine.ended().await?;
        Ok(self.engine.join()?)
    }
}

async fn submit_one_by_one(engine: &Handle) -> anyhow::Result<Vec<Duration>> {
    let mut took = Vec::new();
    for number in 0..SINGLE {
        let tasks = vec![task(number)];
        let began = Instant::now();
        submitted(engine.submit(format!("one-{number}"), tasks).await?)?;
        took.push(began.elapsed());
    }
    Ok(took)
}

async fn submit_together(engine: &Handle) -> anyhow::Result<f64> {
    let began = Instant::now();
    let mut submitters = JoinSet::new();
    for submitter in 0..SUBMITTERS {
        let engine = engine.clone();
        submitters.spawn(async move {
            for number in 0..PER_SUBMITTER {
                let key = format!("many-{submitter}-{number}");
                submitted(engine.submit(key, vec![task(number)]).await?)?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = submitters.join_next().await {
        ended??;
    }
    let count = (SUBMITTERS * PER_SUBMITTER) as f64;
    Ok(count / began.elapsed().as_secs_f64())
}

async fn submit_at_once(engine: &Handle, count: usize, from: usize) -> anyhow::Result<Duration> {
    let tasks = (from..from + count).map(task).collect();
    let began = Instant::now();
    submitted(engine.submit(format!("bulk-{from}"), tasks).await?)?;
    Ok(began.elapsed())
}

fn submitted(reply: Reply) -> anyhow::Result<()> {
    match reply {
        Reply::Submitted { .. } => Ok(()),
        refused => anyhow::bail!("refused: {refused:?}"),
    }
}

fn task(number: usize) -> NewTask {
    let description = format!("task {number} {}", "x".repeat(DESCRIPTION_BYTES));
    NewTask {
        spec: Box::new(TaskSpec::new(&description[..DESCRIPTION_BYTES])),
        after_index: Vec::new(),
    }
}

/// What the disk takes to make 512 bytes durable in a file whose blocks are written already.
fn raw_fdatasync(dir: &Path) -> anyhow::Result<Vec<Duration>> {
    let file = std::fs::File::create(dir.join("fdatasync"))?;
    file.write_all_at(&vec![0; SINGLE * 512], 0)?;
    file.sync_all()?;
    let mut took = Vec::new();
    for place in 0..SINGLE as u64 {
        let began = Instant::now();
        file.write_all_at(&[7; 512], place * 512)?;
        file.sync_data()?;
        took.push(began.elapsed());
    }
    Ok(took)
}

fn figures(mut took: Vec<Duration>) -> Value {
    took.sort_unstable();
    let at = |share: f64| {
        let last = took.len().saturating_sub(1) as f64;
        took.get((last * share) as usize).map(Duration::as_micros)
    };
    json!({ "p50": at(0.5), "p99": at(0.99) })
}

fn seconds(took: Duration) -> f64 {
    (took.as_secs_f64() * 1000.0).round() / 1000.0
}

/// None where there is no `/proc`.
fn resident_mb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kilobytes: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes / 1024)
}
