//! What workers say about themselves.

use orchestra_types::{
    WorkerId,
    runner::{Login, Readiness, RunnerInfo, WorkerInfo},
};

use super::{Refused, Result, labels, name, optional_name, text};
use crate::v1;

/// Longest short text: host name, version, path.
const SHORT_MAX: usize = 4096;
/// Most runners of one worker.
const RUNNERS_MAX: usize = 256;
/// Most slots of one worker.
const SLOTS_MAX: u32 = 100_000;

impl TryFrom<v1::WorkerInfo> for WorkerInfo {
    type Error = Refused;

    fn try_from(wire: v1::WorkerInfo) -> Result<Self> {
        if wire.runners.len() > RUNNERS_MAX || wire.slots > SLOTS_MAX {
            return Err(Refused::new("worker", "has too many runners or slots"));
        }
        Ok(Self {
            id: name::<WorkerId>("worker", &wire.id)?,
            name: short(wire.name)?,
            hostname: short(wire.hostname)?,
            machine: name("machine", &wire.machine)?,
            boot_id: short(wire.boot_id)?,
            incarnation: short(wire.incarnation)?,
            version: short(wire.version)?,
            pid: wire.pid,
            slots: wire.slots,
            labels: labels("worker labels", wire.labels)?,
            runners: wire
                .runners
                .into_iter()
                .map(RunnerInfo::try_from)
                .collect::<Result<_>>()?,
            kill_method: short(wire.kill_method)?,
            limits: short(wire.limits)?,
            cores: wire.cores,
            memory_bytes: wire.memory_bytes,
            disk_bytes: wire.disk_bytes,
            disk_free_bytes: wire.disk_free_bytes,
            isolation: short(wire.isolation)?,
            installation: short(wire.installation)?,
        })
    }
}

impl From<WorkerInfo> for v1::WorkerInfo {
    fn from(info: WorkerInfo) -> Self {
        Self {
            id: info.id.to_string(),
            name: info.name,
            hostname: info.hostname,
            machine: info.machine.to_string(),
            boot_id: info.boot_id,
            incarnation: info.incarnation,
            version: info.version,
            pid: info.pid,
            slots: info.slots,
            labels: info.labels,
            runners: info.runners.into_iter().map(Into::into).collect(),
            kill_method: info.kill_method,
            limits: info.limits,
            cores: info.cores,
            memory_bytes: info.memory_bytes,
            disk_bytes: info.disk_bytes,
            disk_free_bytes: info.disk_free_bytes,
            isolation: info.isolation,
            installation: info.installation,
        }
    }
}

impl TryFrom<v1::RunnerInfo> for RunnerInfo {
    type Error = Refused;

    fn try_from(wire: v1::RunnerInfo) -> Result<Self> {
        let readiness = match wire.readiness.as_str() {
            "ready" => Readiness::Ready,
            "missing" => Readiness::Missing,
            "not_ready" => Readiness::NotReady {
                reason: short(wire.reason)?,
            },
            _ => return Err(Refused::new("runner", "unknown readiness")),
        };
        Ok(Self {
            name: name("runner", &wire.name)?,
            version: short(wire.version)?,
            path: short(wire.path)?,
            readiness,
            slots: wire.slots.min(SLOTS_MAX),
            prefetch: wire.prefetch,
            agentic: wire.agentic,
            account: optional_name("account", &wire.account)?,
            login: match wire.login.as_str() {
                "yes" => Login::Yes,
                "no" => Login::No,
                // An older worker does not say, a newer one may say more.
                _ => Login::Unknown,
            },
            model: short(wire.model)?,
        })
    }
}

impl From<RunnerInfo> for v1::RunnerInfo {
    fn from(info: RunnerInfo) -> Self {
        let (readiness, reason) = match info.readiness {
            Readiness::Ready => ("ready", String::new()),
            Readiness::Missing => ("missing", String::new()),
            Readiness::NotReady { reason } => ("not_ready", reason),
        };
        Self {
            name: info.name.to_string(),
            version: info.version,
            path: info.path,
            readiness: readiness.to_owned(),
            reason,
            slots: info.slots,
            prefetch: info.prefetch,
            agentic: info.agentic,
            account: info.account.map(|a| a.to_string()).unwrap_or_default(),
            login: info.login.as_str().to_owned(),
            model: info.model,
        }
    }
}

fn short(wire: String) -> Result<String> {
    text("worker", wire, SHORT_MAX)
}
