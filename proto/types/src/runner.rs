//! What a worker says about its runners and itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{AccountName, MachineId, RunnerName, WorkerId};

/// Whether a runner can take work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Readiness {
    /// It can.
    Ready,
    /// It is not installed.
    Missing,
    /// It is there but cannot work.
    NotReady {
        /// Why, and what to do.
        reason: String,
    },
}

/// Whether a CLI has a credential, as far as can be seen without asking its provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Login {
    /// A key or a login is there.
    Yes,
    /// The places where its CLI keeps one are known, and it is in none of them.
    No,
    /// Nobody can know.
    #[default]
    Unknown,
}

impl Login {
    /// Its name on the wire and in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Unknown => "unknown",
        }
    }
}

/// A runner on a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunnerInfo {
    /// Which.
    pub name: RunnerName,
    /// The CLI's version; empty when unknown.
    pub version: String,
    /// The CLI's path; empty for a built-in runner.
    pub path: String,
    /// Whether it can take work.
    pub readiness: Readiness,
    /// How many may run at once.
    pub slots: u32,
    /// How many more attempts the worker takes than may run at once, so that the next one is there
    /// when one ends. They wait at the worker.
    pub prefetch: u32,
    /// Whether a task that names no runner may come here (`shell` does not).
    pub agentic: bool,
    /// The account that its CLI uses; none where there is none, or where nobody can know.
    pub account: Option<AccountName>,
    /// Whether its CLI is logged in.
    pub login: Login,
    /// The model that it uses when a task names none; empty where only the CLI knows.
    pub model: String,
}

impl RunnerInfo {
    /// An agent that can take work, one at a time; nothing else is known of it.
    #[must_use]
    pub fn ready(name: RunnerName) -> Self {
        Self {
            name,
            version: String::new(),
            path: String::new(),
            readiness: Readiness::Ready,
            slots: 1,
            prefetch: 0,
            agentic: true,
            account: None,
            login: Login::Unknown,
            model: String::new(),
        }
    }
}

/// A worker, as it describes itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerInfo {
    /// Which.
    pub id: WorkerId,
    /// A name for people.
    pub name: String,
    /// The machine's host name.
    pub hostname: String,
    /// The machine.
    pub machine: MachineId,
    /// Changes when the machine restarts.
    pub boot_id: String,
    /// Changes when the worker process restarts.
    pub incarnation: String,
    /// Orchestra's version.
    pub version: String,
    /// The process.
    pub pid: u32,
    /// How many attempts may run at once in all.
    pub slots: u32,
    /// Free labels to select it by.
    pub labels: BTreeMap<String, String>,
    /// Its runners.
    pub runners: Vec<RunnerInfo>,
    /// The kill method that is active: `cgroup`, `subreaper`.
    pub kill_method: String,
    /// What an attempt may use there, for people; what is asked for and cannot be kept is named.
    pub limits: String,
    /// Processors.
    pub cores: u32,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Size of the disk that it works on, in bytes; zero where it does not say.
    pub disk_bytes: u64,
    /// What of it was free when it was last told: a worker tells larger changes only.
    pub disk_free_bytes: u64,
    /// What keeps an agent from the rest of the machine: `none` beyond its private clone; empty
    /// where the worker does not say.
    pub isolation: String,
    /// What a copy of its state directory does not share with it, and a restart does; empty where it does
    /// not say.
    pub installation: String,
}

impl WorkerInfo {
    /// A worker with one slot of which nothing else is known.
    #[must_use]
    pub fn bare(id: WorkerId, machine: MachineId) -> Self {
        Self {
            name: id.to_string(),
            id,
            hostname: String::new(),
            machine,
            boot_id: String::new(),
            incarnation: String::new(),
            version: String::new(),
            pid: 0,
            slots: 1,
            labels: BTreeMap::new(),
            runners: Vec::new(),
            kill_method: String::new(),
            limits: String::new(),
            cores: 0,
            memory_bytes: 0,
            disk_bytes: 0,
            disk_free_bytes: 0,
            isolation: String::new(),
            installation: String::new(),
        }
    }
}

/// The runner whose tasks succeed at once, without a process: it measures what everything around a
/// task costs. Every worker has it.
pub const NOOP: &str = "noop";

/// The runner whose program is the task's own: it takes a command, and no prompt.
pub const SHELL: &str = "shell";

/// The runners that Orchestra knows by itself, in the order in which a task that names none
/// prefers them. A configuration may add others.
pub const KNOWN_RUNNERS: [&str; 12] = [
    "claude", "codex", "gemini", "opencode", "goose", "copilot", "cursor", "qwen", "cline",
    "droid", "agent", SHELL,
];

/// Runners that Orchestra can drive and that are offered only where the configuration names them.
pub const FURTHER_RUNNERS: [&str; 2] = ["kimi", "vibe"];
