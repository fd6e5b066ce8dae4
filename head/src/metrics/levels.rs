//! What is read when someone looks, in place of being counted when it happens.

use std::{
    fs, io,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use orchestra_types::TaskStatus;

/// The current levels. The engine sets them after each commit; a reader takes what is there.
#[derive(Debug, Default)]
pub struct Levels {
    tasks: [AtomicU64; TaskStatus::ALL.len()],
    workers_connected: AtomicU64,
    agents_busy: AtomicU64,
    /// 0 before all rows were read.
    live_bytes: AtomicU64,
    accounts_parked: AtomicU64,
}

impl Levels {
    /// How many tasks have this status.
    pub fn set_tasks(&self, status: TaskStatus, count: u64) {
        self.tasks[index(status)].store(count, Ordering::Relaxed);
    }

    /// How many workers are connected.
    pub fn set_workers_connected(&self, count: u64) {
        self.workers_connected.store(count, Ordering::Relaxed);
    }

    /// How many agents work.
    pub fn set_agents_busy(&self, count: u64) {
        self.agents_busy.store(count, Ordering::Relaxed);
    }

    /// What all rows of the store take.
    pub fn set_live_bytes(&self, bytes: u64) {
        self.live_bytes.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn live_bytes(&self) -> Option<u64> {
        let bytes = self.live_bytes.load(Ordering::Relaxed);
        (bytes > 0).then_some(bytes)
    }

    /// How many accounts nothing is started on.
    pub fn set_accounts_parked(&self, count: u64) {
        self.accounts_parked.store(count, Ordering::Relaxed);
    }

    pub(super) fn tasks(&self, status: TaskStatus) -> u64 {
        self.tasks[index(status)].load(Ordering::Relaxed)
    }

    pub(super) fn workers_connected(&self) -> u64 {
        self.workers_connected.load(Ordering::Relaxed)
    }

    pub(super) fn agents_busy(&self) -> u64 {
        self.agents_busy.load(Ordering::Relaxed)
    }

    pub(super) fn accounts_parked(&self) -> u64 {
        self.accounts_parked.load(Ordering::Relaxed)
    }
}

/// The place of a status in `TaskStatus::ALL`.
fn index(status: TaskStatus) -> usize {
    match status {
        TaskStatus::Blocked => 0,
        TaskStatus::Queued => 1,
        TaskStatus::Assigned => 2,
        TaskStatus::Running => 3,
        TaskStatus::Succeeded => 4,
        TaskStatus::Failed => 5,
        TaskStatus::Cancelled => 6,
        TaskStatus::NeedsReview => 7,
    }
}

/// The bytes that the files below `dir` take on disk.
pub(super) fn size_on_disk(dir: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            bytes += size_on_disk(&entry.path())?;
        } else if kind.is_file() {
            // The file may have been removed since it was listed.
            bytes += entry.metadata().map_or(0, |m| m.blocks() * 512);
        }
    }
    Ok(bytes)
}

/// The memory of this process that is in RAM, where the system says it.
pub(super) fn resident_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}
