//! The keys of `orchestra.yaml`, each with its default. All of them are optional.

use std::{
    collections::BTreeMap, net::SocketAddr, ops::RangeInclusive, path::PathBuf, time::Duration,
};

use orchestra_types::{AccountName, Budget, Priority, RunnerName, limits};
use serde::Deserialize;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The head: where it listens.
    pub head: HeadConfig,
    /// The worker: how much it takes.
    pub worker: WorkerConfig,
    /// The runners, by name: `claude`, `codex`, … or a name of your own.
    #[serde(deserialize_with = "crate::value::runners")]
    pub runners: BTreeMap<RunnerName, RunnerConfig>,
    /// Accounts at providers, by name, as `ctl accounts` lists them.
    pub accounts: BTreeMap<AccountName, AccountConfig>,
    /// What projects may use in a day.
    pub budgets: BudgetsConfig,
    /// What tokens cost, by the model's name or the beginning of it, for CLIs that do not say it.
    pub prices: BTreeMap<String, Price>,
    /// Defaults and rules of the queue.
    pub queue: QueueConfig,
    /// How long what is over is kept.
    pub retention: RetentionConfig,
    /// How many events of attempts are kept.
    pub events: EventsConfig,
    /// The shared context of projects.
    pub context: ContextConfig,
    /// Logs, traces and metrics.
    pub telemetry: TelemetryConfig,
}

/// `head:`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HeadConfig {
    /// Address of the gRPC services. Default: 127.0.0.1:7117, or another free port of loopback
    /// when that one is taken; the port is kept for the next start.
    #[serde(deserialize_with = "crate::value::listen")]
    pub listen: Option<SocketAddr>,
    /// `HOST:PORT` that other machines reach the head by; named in join commands. Default: `listen`.
    #[serde(deserialize_with = "crate::value::host_and_port")]
    pub advertise: Option<String>,
    /// Address of the Prometheus endpoint. Default: 127.0.0.1 and a free port.
    #[serde(deserialize_with = "crate::value::listen")]
    pub metrics_listen: Option<SocketAddr>,
    /// Whether the Prometheus endpoint is served. Default: true.
    pub metrics: Option<bool>,
    /// Most tasks that may wait. Default: 1,000,000.
    #[serde(deserialize_with = "crate::value::queue_max")]
    pub queue_max: Option<u64>,
    /// Megabytes of the disk that stay free: with less, changes are refused or wait until there is
    /// room. Default: 64, or a tenth of a small disk.
    #[serde(deserialize_with = "crate::value::megabytes")]
    pub disk_reserve_mb: Option<u64>,
}

/// `worker:`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorkerConfig {
    /// A name for people. Default: the host name.
    #[serde(deserialize_with = "crate::value::text")]
    pub name: Option<String>,
    /// How many agents may run at once in all. Default: 4, or the sum of what `--agents` asks for.
    #[serde(deserialize_with = "crate::value::slots")]
    pub slots: Option<u32>,
    /// Labels that tasks may require.
    #[serde(deserialize_with = "crate::value::labels")]
    pub labels: BTreeMap<String, String>,
    /// Where workspaces are made. Default: `worker/workspaces` in the state directory.
    #[serde(deserialize_with = "crate::value::absolute_path")]
    pub workspaces: Option<PathBuf>,
    /// What each attempt may use, all of its processes together.
    pub limits: LimitsConfig,
    /// Of which ports each attempt gets its own.
    pub ports: Ports,
    /// How long running agents may take to end when the worker is stopped. Default: 15s.
    #[serde(deserialize_with = "crate::value::optional_stop_within")]
    pub stop_within: Option<Duration>,
    /// How much of what nobody uses stays, and for how long.
    pub keep: KeepConfig,
}

impl WorkerConfig {
    /// How long running agents may take to end when the worker is stopped.
    #[must_use]
    pub fn stops_within(&self) -> Duration {
        self.stop_within.unwrap_or(limits::STOP_WITHIN)
    }
}

/// Ports, as `20000-29999`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Ports(pub RangeInclusive<u16>);

/// Below those that Linux gives to outgoing connections, and above those of most services.
impl Default for Ports {
    fn default() -> Self {
        Self(20_000..=29_999)
    }
}

impl TryFrom<String> for Ports {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let ends = text.split_once('-');
        let ends = ends.and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
        match ends {
            Some((first, last)) if first >= 1024 && first <= last => Ok(Self(first..=last)),
            Some(_) | None => Err("must be of the form 20000-29999, from 1024 on"),
        }
    }
}

/// `worker: limits:`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Memory, as `8GiB`. Default: nine tenths of the machine's, where that needs no set-up.
    #[serde(deserialize_with = "crate::value::optional_memory")]
    pub memory: Option<u64>,
    /// Processes and threads. Default: 4096, where that needs no set-up.
    #[serde(deserialize_with = "crate::value::processes")]
    pub processes: Option<u64>,
    /// Processors, as `1.5`, in thousandths. Default: no limit.
    #[serde(deserialize_with = "crate::value::processors")]
    pub processors: Option<u64>,
    /// How much of each stream of its output is kept, beside its last lines. Default: 1GiB.
    #[serde(deserialize_with = "crate::value::optional_output")]
    pub output: Option<u64>,
}

/// `worker: keep:`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeepConfig {
    /// Most bytes of all of it: above this, what can be had again goes before its time.
    #[serde(deserialize_with = "crate::value::any_size")]
    pub quota: u64,
    /// How long what a build left stays in an attempt that was put aside.
    #[serde(deserialize_with = "crate::value::long_duration")]
    pub build_output: Duration,
    /// How long a work tree made in advance stays unused.
    #[serde(deserialize_with = "crate::value::long_duration")]
    pub spares: Duration,
    /// How long bytes fetched from the head stay unused.
    #[serde(deserialize_with = "crate::value::long_duration")]
    pub bundles: Duration,
    /// How long a project's repository stays unused.
    #[serde(deserialize_with = "crate::value::long_duration")]
    pub repositories: Duration,
    /// How long an attempt that was put aside stays.
    #[serde(deserialize_with = "crate::value::long_duration")]
    pub aside: Duration,
}

impl Default for KeepConfig {
    fn default() -> Self {
        Self {
            quota: 20 << 30,
            build_output: DAY,
            spares: 7 * DAY,
            bundles: 7 * DAY,
            repositories: 30 * DAY,
            aside: 14 * DAY,
        }
    }
}

/// `runners: NAME:`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunnerConfig {
    /// `false` hides a runner that is installed. Default: true.
    pub enabled: Option<bool>,
    /// The program, by name or path. Default: the runner's own name on PATH.
    #[serde(deserialize_with = "crate::value::text")]
    pub command: Option<String>,
    /// How many may run at once on a worker. Default: the worker's slots.
    #[serde(deserialize_with = "crate::value::slots")]
    pub max_instances: Option<u32>,
    /// How many more attempts may wait at a worker, so that the next one is there when one ends; a
    /// worker with nothing to do calls them back. Default: `auto` for `shell`, else 0.
    #[serde(deserialize_with = "crate::value::prefetch")]
    pub prefetch: Option<Prefetch>,
    /// The model. Default: the CLI's own.
    #[serde(deserialize_with = "crate::value::text")]
    pub model: Option<String>,
    /// More arguments for the program.
    #[serde(deserialize_with = "crate::value::args")]
    pub args: Vec<String>,
    /// More environment for the program.
    #[serde(deserialize_with = "crate::value::env")]
    pub env: BTreeMap<String, String>,
    /// How long an attempt may run, as `30m`. Default: `queue.default_timeout`.
    #[serde(deserialize_with = "crate::value::optional_duration")]
    pub timeout: Option<Duration>,
    /// The account that it uses, for limits over all workers. Default: told by its credential, else
    /// one of this worker's own.
    pub account: Option<AccountName>,
    /// For a runner of your own: speak ACP to `command`, or take plain text from it. Default: the
    /// built-in adapter of this name.
    pub protocol: Option<Protocol>,
    /// For `agent`: which model service it calls.
    pub agent: Option<AgentRunner>,
}

/// `accounts: NAME:`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccountConfig {
    /// How many attempts may work on it at once, over all workers. Default: no limit.
    /// `ctl accounts set` stands above it.
    #[serde(deserialize_with = "crate::value::slots")]
    pub max: Option<u32>,
}

impl Config {
    /// How many attempts accounts may have at once.
    #[must_use]
    pub fn account_limits(&self) -> BTreeMap<AccountName, u32> {
        let limits = self.accounts.iter();
        limits
            .filter_map(|(name, account)| Some((name.clone(), account.max?)))
            .collect()
    }
}

/// `budgets:`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BudgetsConfig {
    /// What each project may use in a day (UTC), as `5m-tokens,20usd`. Default: no limit.
    pub default: Option<Budget>,
    /// The same for single projects, by id or name.
    pub projects: BTreeMap<String, Budget>,
}

/// `prices: MODEL:`, in US dollars for a million tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Tokens sent.
    #[serde(deserialize_with = "crate::value::usd")]
    pub input: u64,
    /// Tokens received.
    #[serde(deserialize_with = "crate::value::usd")]
    pub output: u64,
    /// Tokens sent that were read from a cache. Default: as `input`.
    #[serde(default, deserialize_with = "crate::value::optional_usd")]
    pub cached: Option<u64>,
}

/// How many attempts may wait at a worker for a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefetch {
    /// As many as end while the head hears of an end.
    Auto,
    /// So many.
    Fixed(u32),
}

/// How to drive a program that has no adapter of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// The Agent Client Protocol on standard input and output.
    Acp,
    /// Plain JSON-lines agent events (`turn`, `thinking`, `tool_call`, …).
    JsonLines,
    /// Anything: each line is the agent's text.
    Text,
}

/// `runners: agent: agent:`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentRunner {
    /// `anthropic` (Messages API) or `openai` (Chat Completions, also local model servers).
    #[serde(deserialize_with = "crate::value::provider")]
    pub provider: String,
    /// The service's address, as `http://127.0.0.1:11434/v1`. Default: the provider's own.
    #[serde(default, deserialize_with = "crate::value::url")]
    pub base_url: Option<String>,
    /// The environment variable that holds the key. Default: `ANTHROPIC_API_KEY` or
    /// `OPENAI_API_KEY`. Local servers need none.
    #[serde(default, deserialize_with = "crate::value::env_name")]
    pub api_key_env: Option<String>,
}

/// `queue:`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueueConfig {
    /// Priority of tasks that name none. Default: normal.
    pub default_priority: Priority,
    /// How long an attempt may run. Default: 30m.
    #[serde(deserialize_with = "crate::value::duration")]
    pub default_timeout: Duration,
    /// How often a failed task is tried again. Default: 0.
    #[serde(deserialize_with = "crate::value::retries")]
    pub retries: u32,
    /// How long the first retry waits; each later one waits twice as long. Default: 10s.
    #[serde(deserialize_with = "crate::value::any_duration")]
    pub retry_delay: Duration,
    /// An agent of which nothing was heard for this long is shown as silent.
    #[serde(deserialize_with = "crate::value::duration")]
    pub stall_notice: Duration,
    /// A task that has waited this long counts as one priority higher. Default: 30m.
    #[serde(deserialize_with = "crate::value::duration")]
    pub promote_after: Duration,
    /// How long a worker may go unheard with its attempts its own. Nothing runs again before that,
    /// and half as long once more, is over. Default: 30s.
    #[serde(deserialize_with = "crate::value::lease")]
    pub lease: Duration,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            default_priority: Priority::Normal,
            default_timeout: Duration::from_secs(30 * 60),
            retries: 0,
            retry_delay: Duration::from_secs(10),
            stall_notice: Duration::from_secs(600),
            promote_after: Duration::from_secs(30 * 60),
            lease: limits::LEASE,
        }
    }
}

/// `retention:`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionConfig {
    /// A task that ended this long ago is forgotten, with its attempts, events and artifacts.
    /// Default: 30d.
    #[serde(deserialize_with = "crate::value::long_duration")]
    pub finished_for: Duration,
    /// Most finished tasks that are kept; the ones that ended first go first. Default: 100,000.
    #[serde(deserialize_with = "crate::value::finished_max")]
    pub finished_max: u64,
    /// How long a submission can be repeated with its key when its tasks are forgotten. Default: 7d.
    #[serde(deserialize_with = "crate::value::long_duration")]
    pub keys_for: Duration,
    /// How long stored bytes are kept that nothing refers to. Default: 7d.
    #[serde(deserialize_with = "crate::value::uploads_for")]
    pub uploads_for: Duration,
    /// How long the output of a forgotten task stays in its project's context. Default: 90d.
    #[serde(deserialize_with = "crate::value::long_duration")]
    pub outputs_for: Duration,
    /// Most outputs of tasks in a project's context; those of forgotten tasks go, the oldest first.
    /// Default: 1,000.
    #[serde(deserialize_with = "crate::value::finished_max")]
    pub outputs_max: u64,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self {
            finished_for: 30 * DAY,
            finished_max: 100_000,
            keys_for: 7 * DAY,
            uploads_for: 7 * DAY,
            outputs_for: 90 * DAY,
            outputs_max: 1_000,
        }
    }
}

/// `events:`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EventsConfig {
    /// Older events are dropped, also of tasks that are still known. Default: 30d.
    #[serde(deserialize_with = "crate::value::long_duration")]
    pub max_age: Duration,
    /// Most bytes of all events together; the oldest are dropped. Default: 8GiB.
    #[serde(deserialize_with = "crate::value::events_bytes")]
    pub max_bytes: u64,
    /// Most bytes of one attempt's events; its oldest are dropped. Default: 256MiB.
    #[serde(deserialize_with = "crate::value::attempt_bytes")]
    pub max_attempt_bytes: u64,
}

impl Default for EventsConfig {
    fn default() -> Self {
        Self {
            max_age: Duration::from_secs(30 * 24 * 3600),
            max_bytes: 8 << 30,
            max_attempt_bytes: 256 << 20,
        }
    }
}

/// `context:`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ContextConfig {
    /// The mirror's directory below the project. Default: context.
    #[serde(deserialize_with = "crate::value::directory_below")]
    pub directory: String,
    /// Whether agents are given the context and outputs are written. Default: true.
    pub enabled: bool,
}

impl Default for ContextConfig {
    fn default() -> Self {
        Self {
            directory: "context".to_owned(),
            enabled: true,
        }
    }
}

/// `telemetry:`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryConfig {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter as `RUST_LOG` takes it. Default: info.
    #[serde(deserialize_with = "crate::value::log_filter")]
    pub log: Option<String>,
    /// OTLP endpoint (gRPC). Default: `OTEL_EXPORTER_OTLP_ENDPOINT`, else none.
    #[serde(deserialize_with = "crate::value::collector")]
    pub otlp_endpoint: Option<String>,
}
