//! Waits for a condition, never for a time.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::bail;

/// How long a condition may take to become true, on a machine that is busy with other tests.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Duration);

impl Deadline {
    /// For what takes no real work: 30 s.
    pub const SOON: Self = Self(Duration::from_secs(30));
    /// For real CLIs, which start slowly: 150 s.
    pub const CLI: Self = Self(Duration::from_secs(150));

    /// A deadline of its own.
    #[must_use]
    pub const fn secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }
}

/// Asks `condition` until it gives a value; past the deadline, fails with `what` and the last
/// answer.
pub fn until<T>(
    what: &str,
    deadline: Deadline,
    mut condition: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let started = Instant::now();
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if started.elapsed() > deadline.0 {
            bail!("not within {:?}: {what}", deadline.0);
        }
        thread::sleep(Duration::from_millis(30));
    }
}
