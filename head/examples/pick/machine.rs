//! The clock, the memory, and what the machine itself can do.

use std::{fs, hint::black_box};

/// Processor time of this thread.
pub fn cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Resident memory of this process in bytes.
pub fn resident() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm
        .split_whitespace()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(0);
    pages * 4096
}

/// Reads of memory that hang on each other.
pub struct Chain {
    next: Vec<u32>,
    at: usize,
}

impl Chain {
    /// A chain through so many bytes, which visits every place once before it comes again.
    pub fn new(bytes: usize) -> Self {
        let words = bytes / size_of::<u32>();
        // A step that visits every place once: odd, and about a golden section of the whole.
        let step = (words as f64 * 0.618_034) as usize | 1;
        let next = (0..words).map(|at| ((at + step) % words) as u32).collect();
        Self { next, at: 0 }
    }

    /// Goes on for so many reads.
    pub fn read(&mut self, reads: usize) {
        for _ in 0..reads {
            self.at = self.next[self.at] as usize;
        }
        black_box(self.at);
    }
}

/// The time of one read of memory that hangs on the one before it, among 256 MiB.
pub fn memory_read_ns() -> u64 {
    const READS: usize = 2_000_000;
    let mut chain = Chain::new(256 * 1024 * 1024);
    let started = cpu_ns();
    chain.read(READS);
    (cpu_ns() - started) / READS as u64
}
