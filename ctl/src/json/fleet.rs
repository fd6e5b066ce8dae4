//! The cluster, its workers and agents.

use std::collections::BTreeMap;

use orchestra_proto::v1;
use orchestra_types::{
    AttemptId, WorkerId,
    runner::{Readiness, RunnerInfo, WorkerInfo},
};
use serde::Serialize;

use super::{account::Account, refused, some, time::Time};
use crate::error::Result;

/// `ctl status --json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// The head's version.
    pub version: String,
    /// The cluster's id.
    pub cluster: String,
    /// The head's process.
    pub pid: u32,
    /// The head's state directory.
    pub state_dir: String,
    /// How long the head has been up.
    pub uptime_seconds: f64,
    /// The address of the gRPC services.
    pub listen: String,
    /// The address of the Prometheus endpoint.
    pub metrics: Option<String>,
    /// The head's machine.
    pub machine: String,
    /// Tasks by status, also with 0.
    pub tasks: BTreeMap<String, u64>,
    /// Those of the running ones that take no slot any more: their result is being put in place.
    pub finishing: u64,
    /// Tasks that have not ended, by priority, also with 0.
    pub priorities: BTreeMap<String, u64>,
    /// Workers.
    pub workers: WorkerCounts,
    /// Agents: slots of runners.
    pub agents: AgentCounts,
    /// Accounts that nothing is started on.
    pub parked_accounts: Vec<Account>,
    /// Since when it starts nothing new; it ends when nothing runs any more.
    pub stopping_since: Option<Time>,
    /// Why the head changes nothing, and what to do; none while there is room on its disk.
    pub disk_full: Option<String>,
    /// Which backup its state comes from; none where it comes from none.
    pub restored: Option<Restored>,
    /// That no worker takes anything new because a person wants it, and what ends that; none else, and where
    /// nobody has looked.
    pub workers_closed: Option<String>,
}

/// Where the head's state comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Restored {
    /// When it was put in place.
    pub at: Time,
    /// When its backup was begun.
    pub backup_at: Time,
}

impl Restored {
    /// Whether something that was made then came after the backup, and went with the state that was replaced.
    pub fn lacks(self, made: Time) -> bool {
        self.backup_at < made && made <= self.at
    }
}

/// Counts of workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct WorkerCounts {
    /// Connected.
    pub connected: u32,
    /// Known, connected or not.
    pub known: u32,
}

/// Counts of agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct AgentCounts {
    /// At work.
    pub busy: u32,
    /// In all.
    pub total: u32,
}

impl Status {
    /// Reads the head's answer.
    pub fn read(wire: v1::ClusterStatus) -> Self {
        Self {
            version: wire.version,
            cluster: wire.cluster,
            pid: wire.pid,
            state_dir: wire.state_dir,
            uptime_seconds: std::time::Duration::from_millis(wire.uptime_ms).as_secs_f64(),
            listen: wire.listen,
            metrics: some(wire.metrics),
            machine: wire.machine,
            tasks: wire.by_status,
            finishing: wire.finishing,
            priorities: wire.by_priority,
            workers: WorkerCounts {
                connected: wire.workers_connected,
                known: wire.workers_known,
            },
            agents: AgentCounts {
                busy: wire.agents_busy,
                total: wire.agents_total,
            },
            parked_accounts: wire.parked.into_iter().map(Account::read).collect(),
            stopping_since: wire.stopping_since_ms.map(Time::from_ms),
            disk_full: Some(wire.disk_full).filter(|why| !why.is_empty()),
            restored: wire.restored.map(|restored| Restored {
                at: Time::from_ms(restored.at_ms),
                backup_at: Time::from_ms(restored.backup_ms),
            }),
            workers_closed: None,
        }
    }
}

/// A worker, in `ctl workers --json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Worker {
    /// Which.
    pub id: WorkerId,
    /// A name for people.
    pub name: String,
    /// `connected`, `disconnected`, `lost`.
    pub state: String,
    /// Whether it is given anything new: `open`, `cordoned`, `draining`, `drained`, `revoked`.
    pub availability: String,
    /// When the head last heard of it; null: not since it was started.
    pub last_seen: Option<Time>,
    /// When it first came.
    pub joined_at: Time,
    /// The machine's host name.
    pub hostname: String,
    /// The machine.
    pub machine: String,
    /// The machine's start; empty: it does not say.
    #[serde(skip)]
    pub boot_id: String,
    /// Where it connects from.
    pub address: Option<String>,
    /// Its version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// How many attempts may run at once.
    pub slots: u32,
    /// What runs there, or waits there for a slot.
    pub attempts: Vec<AttemptId>,
    /// How many of them only wait.
    pub waiting: u32,
    /// Until when its certificate is good, as far as the head has seen it.
    pub certificate_expires_at: Option<Time>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// How processes are ended: `cgroup`, `subreaper`.
    pub kill_method: String,
    /// What an attempt may use, in words.
    pub limits: String,
    /// Processors.
    pub cores: u32,
    /// Memory.
    pub memory_bytes: u64,
    /// The disk that it works on.
    pub disk_bytes: u64,
    /// What is free of it, about.
    pub disk_free_bytes: u64,
    /// What keeps agents from the rest of the machine.
    pub isolation: Option<String>,
    /// Its runners.
    pub runners: Vec<Runner>,
}

/// A runner on a worker.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Runner {
    /// `claude`, `codex`, …
    pub name: String,
    /// `ready`, `missing`, `not_ready`.
    pub state: &'static str,
    /// Why it is not ready, and what to do.
    pub reason: Option<String>,
    /// The CLI's version.
    pub version: Option<String>,
    /// The CLI's path.
    pub path: Option<String>,
    /// How many may run at once.
    pub slots: u32,
    /// How many more may wait at the worker.
    pub prefetch: u32,
    /// Whether a task that names no runner may come here.
    pub agentic: bool,
    /// The account that it uses.
    pub account: Option<String>,
    /// Whether its CLI is logged in: `yes`, `no`, `unknown`.
    pub login: &'static str,
    /// The model that it uses when a task names none; null where only the CLI knows.
    pub model: Option<String>,
}

impl From<RunnerInfo> for Runner {
    fn from(info: RunnerInfo) -> Self {
        let (state, reason) = match info.readiness {
            Readiness::Ready => ("ready", None),
            Readiness::Missing => ("missing", None),
            Readiness::NotReady { reason } => ("not_ready", Some(reason)),
        };
        Self {
            name: info.name.to_string(),
            state,
            reason,
            version: some(info.version),
            path: some(info.path),
            slots: info.slots,
            prefetch: info.prefetch,
            agentic: info.agentic,
            account: info.account.map(|a| a.to_string()),
            login: info.login.as_str(),
            model: some(info.model),
        }
    }
}

impl Worker {
    /// Reads the head's answer.
    pub fn read(wire: v1::Worker) -> Result<Self> {
        let info = WorkerInfo::try_from(wire.info.unwrap_or_default()).map_err(refused)?;
        let attempts = wire
            .attempts
            .into_iter()
            .map(|a| orchestra_proto::convert::attempt_id("attempts", Some(a)).map_err(refused));
        Ok(Self {
            id: info.id,
            name: info.name,
            state: wire.state,
            availability: if wire.availability.is_empty() {
                "open".to_owned()
            } else {
                wire.availability
            },
            last_seen: (wire.last_seen_ms > 0).then_some(Time::from_ms(wire.last_seen_ms)),
            joined_at: Time::from_ms(wire.joined_at_ms),
            hostname: info.hostname,
            machine: info.machine.to_string(),
            boot_id: info.boot_id,
            address: some(wire.address),
            version: info.version,
            pid: info.pid,
            slots: info.slots,
            attempts: attempts.collect::<Result<_>>()?,
            waiting: wire.waiting,
            certificate_expires_at: wire.certificate_expires_at_ms.map(Time::from_ms),
            labels: info.labels,
            kill_method: info.kill_method,
            limits: info.limits,
            cores: info.cores,
            memory_bytes: info.memory_bytes,
            disk_bytes: info.disk_bytes,
            disk_free_bytes: info.disk_free_bytes,
            isolation: some(info.isolation),
            runners: info.runners.into_iter().map(Runner::from).collect(),
        })
    }
}

/// An agent, in `ctl agents --json`: one slot of a runner on a worker, or an attempt that waits for one there.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Agent {
    /// The runner.
    pub runner: String,
    /// The worker's id.
    pub worker: String,
    /// The worker's name.
    pub worker_name: String,
    /// `idle`, `busy`, `waiting`, `offline`.
    pub state: String,
    /// What it works on.
    pub attempt: Option<AttemptId>,
    /// The description of that task.
    pub description: Option<String>,
    /// Since when it is in this state; null when unknown.
    pub since: Option<Time>,
}

impl Agent {
    /// Reads the head's answer.
    pub fn read(wire: v1::Agent) -> Result<Self> {
        let attempt = wire
            .attempt
            .map(|a| orchestra_proto::convert::attempt_id("attempt", Some(a)));
        Ok(Self {
            runner: wire.runner,
            worker: wire.worker,
            worker_name: wire.worker_name,
            state: wire.state,
            attempt: attempt.transpose().map_err(refused)?,
            description: some(wire.description),
            since: (wire.since_ms > 0).then(|| Time::from_ms(wire.since_ms)),
        })
    }
}
