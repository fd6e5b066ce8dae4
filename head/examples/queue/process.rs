//! What the system says of a process, and what the disk takes.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// Memory that changes by less is settled.
const SETTLED_KB: u64 = 256;
const SETTLED_FOR: Duration = Duration::from_secs(6);
const SETTLED_WITHIN: Duration = Duration::from_secs(90);
const BLOCK: [u8; 512] = [7; 512];

/// Waits until the memory of a process stays as it is. Gives it in kB, and after which time.
pub async fn settled(pid: u32) -> (u64, Duration) {
    let began = Instant::now();
    let (mut known, mut since) = (status_kb(pid, "VmRSS:"), began);
    while since.elapsed() < SETTLED_FOR && began.elapsed() < SETTLED_WITHIN {
        tokio::time::sleep(Duration::from_millis(250)).await;
        let now = status_kb(pid, "VmRSS:");
        if now.abs_diff(known) > SETTLED_KB {
            (known, since) = (now, Instant::now());
        }
    }
    (status_kb(pid, "VmRSS:"), since - began)
}

/// A line of `/proc/PID/status` in kB; 0 where there is none.
pub fn status_kb(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Time on a processor of all threads that run, by the scheduler's own count.
pub fn cpu(pid: u32) -> Duration {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return Duration::ZERO;
    };
    let nanos = threads.flatten().filter_map(|thread| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

/// What the disk takes to make 512 bytes durable in a file whose blocks are written already.
pub struct Disk {
    file: File,
    place: u64,
}

impl Disk {
    pub fn open(dir: &Path, syncs: usize) -> anyhow::Result<Self> {
        let file = File::create(dir.join("fdatasync"))?;
        file.write_all_at(&vec![0; syncs * BLOCK.len()], 0)?;
        file.sync_all()?;
        Ok(Self { file, place: 0 })
    }

    pub fn sync(&mut self) -> anyhow::Result<Duration> {
        let began = Instant::now();
        self.file.write_all_at(&BLOCK, self.place)?;
        self.file.sync_data()?;
        self.place += BLOCK.len() as u64;
        Ok(began.elapsed())
    }
}

/// In microseconds.
pub fn figures(mut took: Vec<Duration>) -> Value {
    took.sort_unstable();
    let at = |share: f64| {
        let last = took.len().saturating_sub(1) as f64;
        took.get((last * share) as usize).map(Duration::as_micros)
    };
    json!({ "p50": at(0.5), "p99": at(0.99) })
}

pub fn seconds(took: Duration) -> f64 {
    (took.as_secs_f64() * 1000.0).round() / 1000.0
}
