//! Tells other processes of this machine that the head serves: `head.json`, and the address beside
//! the credentials of `ctl` and of the local worker.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::Context;
use orchestra_config::{
    StateDir,
    durable::{self, Access},
};
use serde::Serialize;

use crate::listen;

/// What `head.json` says.
#[derive(Debug, Serialize)]
struct Record<'a> {
    pid: u32,
    /// In clock ticks after boot, as in `/proc/PID/stat`: with the pid it names this process and no
    /// later one.
    start_time: u64,
    listen: SocketAddr,
    metrics: Option<SocketAddr>,
    version: &'a str,
}

/// The announcement; `withdraw` takes it back.
#[derive(Debug)]
pub struct Announcement {
    path: PathBuf,
}

/// Writes everything down, `head.json` last: who sees it can connect.
pub fn announce(
    state: &StateDir,
    listen: SocketAddr,
    metrics: Option<SocketAddr>,
) -> anyhow::Result<Announcement> {
    let endpoint = format!("{}\n", listen::local_endpoint(listen));
    for dir in [state.client(), state.worker().join("pki")] {
        write(&dir.join("endpoint"), endpoint.as_bytes())?;
    }
    let record = Record {
        pid: std::process::id(),
        start_time: start_time().context("failed to read the own start time")?,
        listen,
        metrics,
        version: env!("CARGO_PKG_VERSION"),
    };
    let path = state.head().join("head.json");
    write(&path, &serde_json::to_vec_pretty(&record)?)?;
    Ok(Announcement { path })
}

impl Announcement {
    /// Says that the head no longer serves.
    pub fn withdraw(self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "cannot be removed");
        }
    }
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let written = durable::write(path, bytes, Access::Private);
    written.with_context(|| format!("failed to write `{}`", path.display()))
}

/// Field 22 of `/proc/self/stat`. The program's name, field 2, may hold spaces and parentheses.
fn start_time() -> io::Result<u64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rfind(')').map_or("", |end| &stat[end + 1..]);
    let field = after_name.split_ascii_whitespace().nth(19);
    let ticks = field.and_then(|field| field.parse().ok());
    ticks.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/self/stat reads odd"))
}
