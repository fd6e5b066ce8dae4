//! The machine's own limits, taken in the same run as what is compared with them.

use std::{
    os::unix::fs::FileExt,
    path::Path,
    time::{Duration, Instant},
};

/// How often a limit is tried.
pub const ROUNDS: u32 = 500;

/// The median of one `fdatasync` of 4 KiB in `dir`, in milliseconds.
pub fn fdatasync_ms(dir: &Path) -> anyhow::Result<f64> {
    let path = dir.join("fdatasync");
    let file = std::fs::File::create(&path)?;
    file.write_all_at(&vec![0; ROUNDS as usize * 4096], 0)?;
    file.sync_all()?;
    let mut took: Vec<Duration> = Vec::new();
    for place in 0..ROUNDS {
        let began = Instant::now();
        file.write_all_at(&[7; 4096], u64::from(place) * 4096)?;
        file.sync_data()?;
        took.push(began.elapsed());
    }
    std::fs::remove_file(&path)?;
    took.sort_unstable();
    Ok(took[took.len() / 2].as_secs_f64() * 1e3)
}
