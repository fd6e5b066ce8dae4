//! What the machine can do at all.

use std::{
    fs::File,
    io::Write,
    os::unix::fs::FileExt,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

const SYNCS: u32 = 300;
const WRITE_BYTES: usize = 256 * 1024 * 1024;
const CHUNK_BYTES: usize = 1024 * 1024;

/// How often one file can be made durable, how fast it can be written, and how fast memory copies.
pub fn limits(dir: &Path) -> anyhow::Result<Value> {
    Ok(json!({
        "cores": std::thread::available_parallelism()?.get(),
        "fdatasync_per_second": fdatasync(dir)? as u64,
        "write_mb_per_second": write(dir)? as u64,
        "memcpy_mb_per_second": memcpy() as u64,
    }))
}

/// Appends of 4 KiB, each made durable.
fn fdatasync(dir: &Path) -> anyhow::Result<f64> {
    let file = File::create(dir.join("fdatasync"))?;
    let began = Instant::now();
    for place in 0..SYNCS {
        file.write_all_at(&[7; 4096], u64::from(place) * 4096)?;
        file.sync_data()?;
    }
    Ok(f64::from(SYNCS) / began.elapsed().as_secs_f64())
}

/// One file, written in order and made durable at its end.
fn write(dir: &Path) -> anyhow::Result<f64> {
    let path = dir.join("write");
    let mut file = File::create(&path)?;
    let chunk = vec![7; CHUNK_BYTES];
    let began = Instant::now();
    for _ in 0..WRITE_BYTES / CHUNK_BYTES {
        file.write_all(&chunk)?;
    }
    file.sync_data()?;
    let took = began.elapsed();
    std::fs::remove_file(path)?;
    Ok(megabytes(WRITE_BYTES, took))
}

fn memcpy() -> f64 {
    let from = vec![7_u8; WRITE_BYTES];
    let mut to = vec![0_u8; WRITE_BYTES];
    let began = Instant::now();
    to.copy_from_slice(&from);
    std::hint::black_box(&to);
    megabytes(WRITE_BYTES, began.elapsed())
}

fn megabytes(bytes: usize, took: Duration) -> f64 {
    bytes as f64 / 1e6 / took.as_secs_f64()
}

/// Memory of this process that is resident.
pub fn resident_kb() -> u64 {
    resident_kb_of("self")
}

/// Memory of a process that is resident; 0 when it is gone.
pub fn resident_kb_of(pid: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Time on a processor that a process has used, `self` or by its id; in steps of 10 ms.
pub fn cpu_of(pid: &str) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let Some((_, fields)) = stat.rsplit_once(')') else {
        return Duration::ZERO;
    };
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks = || fields.next().and_then(|text| text.parse::<u64>().ok());
    let (user, system) = (ticks().unwrap_or(0), ticks().unwrap_or(0));
    Duration::from_millis((user + system) * 10)
}

/// How much of the disk the files of a directory take.
pub fn disk_bytes(dir: &Path) -> anyhow::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        bytes += match entry.file_type()?.is_dir() {
            true => disk_bytes(&entry.path())?,
            false => entry.metadata()?.blocks() * 512,
        };
    }
    Ok(bytes)
}
