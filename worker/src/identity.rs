//! Who this worker is: what stays for its whole life, for one boot of the machine, for one run.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use orchestra_config::{Config, StateDir, durable, owner};
use orchestra_types::{
    MachineId, WorkerId,
    runner::{RunnerInfo, WorkerInfo},
};
use rustix::fs::{FlockOperation, flock};
use tokio::time::sleep;

use crate::{
    clock,
    installation::Installation,
    process::Abilities,
    room::{self, Full, Room},
};

/// How long a lock may linger after its holder's death.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
/// What keeps an agent from the rest of the machine: it runs as the worker's user, in a clone of
/// its own and a process group or cgroup of its own.
const ISOLATION: &str = "none";
/// How often it is tried meanwhile.
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// A worker runs on this directory.
#[derive(Debug, thiserror::Error)]
#[error(
    "another worker already uses `{}`; stop it (SIGHUP to it leaves its agents to the next worker), or choose another \
     directory with `--state`", .0.display()
)]
pub struct InUse(PathBuf);

/// The worker's own directory, locked for this process.
#[derive(Debug)]
pub struct Home {
    dir: PathBuf,
    _lock: File,
}

impl Home {
    /// Makes the directory and locks it: two workers never share one. Waits a little, because the
    /// lock of a worker that was killed lives until the last of its threads is gone.
    pub fn lock(dir: &Path) -> anyhow::Result<Self> {
        Self::lock_within(dir, LOCK_PATIENCE)
    }

    fn lock_within(dir: &Path, patience: Duration) -> anyhow::Result<Self> {
        owner::refuse_foreign(dir, dir)?;
        durable::create_private_dir(dir)
            .with_context(|| format!("failed to make `{}`", dir.display()))?;
        let path = dir.join("lock");
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("failed to open `{}`", path.display()))?;
        let give_up = Instant::now() + patience;
        loop {
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {
                    return Ok(Self {
                        dir: dir.to_owned(),
                        _lock: lock,
                    });
                }
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < give_up => {
                    thread::sleep(LOCK_RETRY);
                }
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(InUse(dir.to_owned()).into());
                }
                Err(e) => {
                    return Err(e).with_context(|| format!("failed to lock `{}`", path.display()));
                }
            }
        }
    }

    /// The directory itself.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The reports that wait.
    #[must_use]
    pub fn spool(&self) -> PathBuf {
        self.dir.join("spool")
    }

    /// One directory for each attempt.
    #[must_use]
    pub fn attempts(&self) -> PathBuf {
        Self::attempts_in(&self.dir)
    }

    /// The same of a worker's directory that is not locked.
    #[must_use]
    pub fn attempts_in(worker: &Path) -> PathBuf {
        worker.join("attempts")
    }

    /// Files that only take up room.
    #[must_use]
    pub fn ballast(&self) -> PathBuf {
        self.dir.join("ballast")
    }

    /// Attempts whose files could not be used, for a person to look at.
    #[must_use]
    pub fn aside(&self) -> PathBuf {
        self.dir.join("aside")
    }

    /// The agents' directories, unless the configuration names another place.
    #[must_use]
    pub fn workspaces(&self) -> PathBuf {
        self.dir.join("workspaces")
    }

    /// What may be fetched again: repositories and bundles.
    #[must_use]
    pub fn cache(&self) -> PathBuf {
        self.dir.join("cache")
    }

    /// Tells other processes on this machine which process the worker is, once the disk has room for
    /// it: the worker's agents cannot wait so long for their worker.
    pub async fn announce(
        &self,
        identity: &Identity,
        stops_within: Duration,
    ) -> anyhow::Result<()> {
        let mut told = false;
        loop {
            match self.write_who(identity, stops_within, false) {
                Err(error) if is_full(&error) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::error!(%error, "the disk is full; other programs do not see this worker yet");
                    }
                    sleep(room::RETRY_AFTER).await;
                }
                done => return done,
            }
        }
    }

    /// Tells them that it is ending and takes nothing new: who wants a worker here waits for its end, and
    /// starts another one.
    pub fn announce_end(&self, identity: &Identity, stops_within: Duration) {
        if let Err(error) = self.write_who(identity, stops_within, true) {
            tracing::warn!(%error, "other programs do not see that this worker is ending");
        }
    }

    fn write_who(
        &self,
        identity: &Identity,
        stops_within: Duration,
        ending: bool,
    ) -> anyhow::Result<()> {
        let path = self.dir.join("worker.json");
        let document = serde_json::json!({
            "pid": identity.pid,
            "start_time": start_time().context("failed to read /proc/self/stat")?,
            "id": identity.id,
            "name": identity.name,
            "version": env!("CARGO_PKG_VERSION"),
            "stop_within_ms": clock::ms(stops_within),
            "ending": ending,
        });
        let text = format!("{document:#}\n");
        durable::write(&path, text.as_bytes(), durable::Access::Private)
            .with_context(|| format!("failed to write `{}`", path.display()))
    }

    /// The worker has ended in order.
    pub fn withdraw(&self) {
        match fs::remove_file(self.dir.join("worker.json")) {
            Ok(()) => {}
            // It ends before it could say who it is.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, "failed to remove worker.json"),
        }
    }
}

fn is_full(error: &anyhow::Error) -> bool {
    let cause = error.downcast_ref::<io::Error>();
    cause.is_some_and(Full::is_full)
}

/// Who this worker is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// For its whole life.
    pub id: WorkerId,
    /// For people.
    pub name: String,
    machine: MachineId,
    hostname: String,
    boot_id: String,
    incarnation: String,
    installation: Arc<Installation>,
    pid: u32,
    labels: std::collections::BTreeMap<String, String>,
    cores: u32,
    memory_bytes: u64,
}

impl Identity {
    /// Gathers it; what must stay is made at the first time.
    pub fn gather(state: &StateDir, config: &Config) -> anyhow::Result<Self> {
        let hostname = hostname::get()
            .context("failed to read the host name")?
            .to_string_lossy()
            .into_owned();
        let boot_id =
            orchestra_config::boot_id().context("failed to read the machine's boot id")?;
        let machine = orchestra_config::machine_id(state)?;
        let installation = Installation::of(&state.worker(), &machine, &boot_id)
            .context("failed to find out whether this directory is a copy")?;
        Ok(Self {
            id: orchestra_config::worker_id(&state.worker())?,
            name: config
                .worker
                .name
                .clone()
                .unwrap_or_else(|| hostname.clone()),
            machine,
            hostname,
            boot_id,
            installation: Arc::new(installation),
            incarnation: uuid::Uuid::new_v4().to_string(),
            pid: std::process::id(),
            labels: config.worker.labels.clone(),
            cores: std::thread::available_parallelism().map_or(1, |n| saturate(n.get())),
            memory_bytes: memory_bytes(),
        })
    }

    /// The worker as the head shall know it.
    #[must_use]
    pub fn describe(
        &self,
        slots: u32,
        runners: Vec<RunnerInfo>,
        can: &Abilities,
        room: &Room,
    ) -> WorkerInfo {
        WorkerInfo {
            id: self.id.clone(),
            name: self.name.clone(),
            hostname: self.hostname.clone(),
            machine: self.machine.clone(),
            boot_id: self.boot_id.clone(),
            incarnation: self.incarnation.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: self.pid,
            slots,
            labels: self.labels.clone(),
            runners,
            kill_method: can.kill_method.to_string(),
            limits: can.words(),
            cores: self.cores,
            memory_bytes: self.memory_bytes,
            disk_bytes: room.total,
            disk_free_bytes: room.free,
            isolation: ISOLATION.to_owned(),
            installation: self.installation.value().to_owned(),
        }
    }

    /// This installation.
    #[must_use]
    pub fn installation(&self) -> &Arc<Installation> {
        &self.installation
    }

    /// This boot of the machine.
    #[must_use]
    pub fn boot(&self) -> &str {
        &self.boot_id
    }

    /// The machine, which in-place work must be on.
    #[must_use]
    pub fn machine(&self) -> &MachineId {
        &self.machine
    }
}

fn saturate(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// When this process started, in clock ticks since boot: field 22 of its stat line. With the pid
/// it names a process for one boot.
fn start_time() -> io::Result<u64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The name in parentheses may hold anything; the fields behind its last `)` begin with 3.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    fields
        .split_whitespace()
        .nth(22 - 3)
        .and_then(|field| field.parse().ok())
        .ok_or_else(|| io::Error::other("it has another form than expected"))
}

/// Zero where the system does not say.
pub fn memory_bytes() -> u64 {
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = info.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_worker_in_the_same_directory_is_refused_with_a_way_out() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::lock(dir.path()).unwrap();
        let error = Home::lock_within(dir.path(), Duration::ZERO)
            .unwrap_err()
            .to_string();
        assert!(error.contains("--state"), "{error}");
        drop(home);
        Home::lock(dir.path()).unwrap();
    }

    #[test]
    fn the_machine_tells_when_we_started_and_how_much_memory_it_has() {
        assert!(start_time().unwrap() > 0);
        assert!(memory_bytes() > 0);
    }
}
