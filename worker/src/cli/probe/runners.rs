//! The list of runners.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use futures::{StreamExt, stream};
use orchestra_config::{AgentRunner, Prefetch, RunnerConfig};
use orchestra_types::{
    RunnerName,
    runner::{KNOWN_RUNNERS, Login, NOOP, Readiness, RunnerInfo, SHELL},
};

use super::{package, program};
use crate::cli::registry::{adapter_for, program_of};

/// How many are asked at once: each is a process of some 100 MB.
const ASKED_AT_ONCE: usize = 3;
/// Environment variables that hold a key the `agent` runner can use.
const AGENT_KEYS: [&str; 2] = ["ANTHROPIC_API_KEY", "OPENAI_API_KEY"];

/// How many `noop` tasks the head may give before those that run have ended: as many as it can
/// decide on while one message goes to it and back.
const NOOP_PREFETCH: u32 = 256;

/// What to look for, and where.
pub struct Probe<'a> {
    /// The configured runners.
    pub runners: &'a BTreeMap<RunnerName, RunnerConfig>,
    /// How many agents the worker runs at once.
    pub slots: u32,
    /// `PATH`.
    pub path: &'a OsStr,
    /// Whether an environment variable is set and not empty.
    pub has_env: &'a (dyn Fn(&str) -> bool + Sync),
}

/// Every known and every configured runner, missing ones too, in the order in which a task that names
/// none prefers them. A runner that is configured with `enabled: false` is left out.
pub async fn probe(probe: &Probe<'_>) -> Vec<RunnerInfo> {
    let names = probe.names().into_iter();
    let looked = stream::iter(names.map(|name| probe.runner(name))).buffered(ASKED_AT_ONCE);
    looked.chain(stream::iter([probe.noop()])).collect().await
}

/// The programs that a [`probe`] would ask, without asking them: what changes here tells that one came,
/// went or is another one.
pub fn glance(runners: &BTreeMap<RunnerName, RunnerConfig>, path: &OsStr) -> Vec<Option<Glance>> {
    let probe = Probe {
        runners,
        slots: 0,
        path,
        has_env: &|_| false,
    };
    let names = probe.names().into_iter();
    names.map(|name| probe.glance(&name)).collect()
}

/// A program, or a directory of programs, as it lies on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glance {
    path: PathBuf,
    inode: u64,
    mode: u32,
    size: u64,
    modified: (i64, i64),
}

impl Glance {
    /// What is there.
    pub fn at(path: PathBuf) -> Option<Self> {
        let found = path.metadata().ok()?;
        Some(Self {
            inode: found.ino(),
            mode: found.mode(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            path,
        })
    }

    /// Where.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Probe<'_> {
    fn glance(&self, name: &RunnerName) -> Option<Glance> {
        Glance::at(program::find(self.command(name), self.path)?)
    }

    fn command<'a>(&'a self, name: &'a RunnerName) -> &'a str {
        let configured = self.config(name).and_then(|c| c.command.as_deref());
        configured.unwrap_or_else(|| program_of(name.as_str()))
    }

    /// Those whose number the user has set come first. Then known runners in their order; those of
    /// the user's own before `agent` and `shell`.
    fn names(&self) -> Vec<RunnerName> {
        let is_builtin = |name: &&str| matches!(*name, "agent" | "shell");
        let known = |name: &RunnerName| KNOWN_RUNNERS.contains(&name.as_str());
        let (builtin, clis): (Vec<&str>, Vec<&str>) =
            KNOWN_RUNNERS.into_iter().partition(|name| is_builtin(name));
        let parse = |name: &str| name.parse().expect("known runners have valid names");
        let own = self.runners.keys().filter(|name| !known(name)).cloned();
        let mut names: Vec<RunnerName> = clis
            .into_iter()
            .map(parse)
            .chain(own)
            .chain(builtin.into_iter().map(parse))
            .filter(|name| self.config(name).and_then(|c| c.enabled) != Some(false))
            .collect();
        names.sort_by_key(|name| self.config(name).and_then(|c| c.max_instances).is_none());
        names
    }

    fn config(&self, name: &RunnerName) -> Option<&RunnerConfig> {
        self.runners.get(name)
    }

    async fn runner(&self, name: RunnerName) -> RunnerInfo {
        let config = self.config(&name);
        let is_own_binary = config.and_then(|c| c.protocol).is_none();
        let found = match name.as_str() {
            "shell" if is_own_binary => Found::ready(),
            "agent" if is_own_binary => self.agent(config),
            _ if adapter_for(&name, config).is_none() => Found::not_ready(format!(
                "nothing tells how to drive it: set `runners.{name}.protocol` to acp, json_lines or text"
            )),
            _ => self.program(&name).await,
        };
        RunnerInfo {
            slots: config.and_then(|c| c.max_instances).unwrap_or(self.slots),
            prefetch: match config.and_then(|c| c.prefetch) {
                Some(Prefetch::Fixed(prefetch)) => prefetch,
                // What is granted follows what is seen.
                Some(Prefetch::Auto) | None => 0,
            },
            agentic: name.as_str() != SHELL,
            account: None,
            login: Login::Unknown,
            model: config.and_then(|c| c.model.clone()).unwrap_or_default(),
            version: found.version,
            path: found.path,
            readiness: found.readiness,
            name,
        }
    }

    fn noop(&self) -> RunnerInfo {
        let found = Found::ready();
        RunnerInfo {
            name: NOOP.parse().expect("a constant name is a name"),
            slots: self.slots,
            prefetch: NOOP_PREFETCH,
            agentic: false,
            account: None,
            login: Login::Unknown,
            model: String::new(),
            version: found.version,
            path: found.path,
            readiness: found.readiness,
        }
    }

    /// Our own agent is there; what it needs is a model service.
    fn agent(&self, config: Option<&RunnerConfig>) -> Found {
        let is_set =
            |name: &str| (self.has_env)(name) || config.is_some_and(|c| c.env.contains_key(name));
        let reason = match config.and_then(|c| c.agent.as_ref()) {
            Some(agent) => lacking_key(agent)
                .filter(|name| !is_set(name))
                .map(|name| format!("its key is not set: set {name} in the worker's environment")),
            None if AGENT_KEYS.into_iter().any(is_set) => None,
            None => Some(format!(
                "no model service: set {}, or configure `runners.agent.agent` with a local one",
                AGENT_KEYS.join(" or ")
            )),
        };
        reason.map_or_else(Found::ready, Found::not_ready)
    }

    async fn program(&self, name: &RunnerName) -> Found {
        let Some(path) = program::find(self.command(name), self.path) else {
            return Found::missing();
        };
        let is_known = KNOWN_RUNNERS.contains(&name.as_str());
        let (version, readiness) = match (is_known, package::version(&path, self.path)) {
            (false, _) => (String::new(), Readiness::Ready),
            (true, Some(told)) => told,
            (true, None) => program::ask(&path, self.path).await,
        };
        Found {
            version,
            path: path.to_string_lossy().into_owned(),
            readiness,
        }
    }
}

/// What became of looking for one runner.
struct Found {
    version: String,
    path: String,
    readiness: Readiness,
}

impl Found {
    fn of(readiness: Readiness) -> Self {
        Self {
            version: String::new(),
            path: String::new(),
            readiness,
        }
    }

    fn ready() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Self::of(Readiness::Ready)
        }
    }

    fn missing() -> Self {
        Self::of(Readiness::Missing)
    }

    fn not_ready(reason: String) -> Self {
        Self::of(Readiness::NotReady { reason })
    }
}

/// The variable that the configured service needs its key in. A service at an address of its own, for
/// which no variable is named, needs none.
fn lacking_key(agent: &AgentRunner) -> Option<&str> {
    match (&agent.api_key_env, &agent.base_url) {
        (Some(name), _) => Some(name),
        (None, Some(_)) => None,
        (None, None) if agent.provider == "anthropic" => Some(AGENT_KEYS[0]),
        (None, None) => Some(AGENT_KEYS[1]),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, path::Path};

    use super::*;

    #[tokio::test]
    async fn every_runner_is_listed_with_what_it_lacks() {
        let bin = tempfile::tempdir().unwrap();
        program(bin.path(), "claude", "echo '2.1.197 (Claude Code)'");
        program(
            bin.path(),
            "codex",
            "echo 'env: node: No such file' >&2; exit 127",
        );
        program(bin.path(), "mine", "touch ran; echo 9.9");
        let own: RunnerConfig = RunnerConfig {
            command: Some(bin.path().join("mine").display().to_string()),
            protocol: Some(orchestra_config::Protocol::Text),
            max_instances: Some(1),
            ..RunnerConfig::default()
        };
        let hidden = RunnerConfig {
            enabled: Some(false),
            ..RunnerConfig::default()
        };
        let runners = BTreeMap::from([
            ("mine".parse().unwrap(), own),
            ("goose".parse().unwrap(), hidden),
            ("nobody".parse().unwrap(), RunnerConfig::default()),
        ]);
        let path = std::env::join_paths([bin.path(), Path::new("/usr/bin"), Path::new("/bin")]);
        let found = probe(&Probe {
            runners: &runners,
            slots: 4,
            path: &path.unwrap(),
            has_env: &|_| false,
        })
        .await;

        let find = |name: &str| found.iter().find(|r| r.name.as_str() == name);
        let claude = find("claude").unwrap();
        assert_eq!((claude.version.as_str(), claude.slots), ("2.1.197", 4));
        assert_eq!(claude.readiness, Readiness::Ready);
        assert!(reason(find("codex").unwrap()).contains("env: node: No such file"));
        assert_eq!(find("droid").unwrap().readiness, Readiness::Missing);
        assert!(find("goose").is_none());
        assert!(reason(find("agent").unwrap()).contains("ANTHROPIC_API_KEY"));
        assert!(reason(find("nobody").unwrap()).contains("runners.nobody.protocol"));
        let mine = find("mine").unwrap();
        assert_eq!((&mine.readiness, mine.slots), (&Readiness::Ready, 1));
        assert_eq!(
            mine.version, "",
            "a program of the user's own is not started to ask"
        );
        assert_eq!(found[0].name.as_str(), "mine", "its number was set");
        let last: Vec<_> = found.iter().rev().take(2).collect();
        let last = last.iter().map(|r| (r.name.as_str(), r.agentic));
        assert!(last.eq([("noop", false), ("shell", false)]));
    }

    #[test]
    fn the_agent_is_ready_with_a_key_or_a_service_that_needs_none() {
        let runners = BTreeMap::new();
        let ready = |config: Option<&RunnerConfig>, set: &'static str| {
            let probe = Probe {
                runners: &runners,
                slots: 1,
                path: OsStr::new(""),
                has_env: &|name| name == set,
            };
            probe.agent(config).readiness == Readiness::Ready
        };
        let service = |url: Option<&str>, key: Option<&str>| RunnerConfig {
            agent: Some(AgentRunner {
                provider: "openai".to_owned(),
                base_url: url.map(str::to_owned),
                api_key_env: key.map(str::to_owned),
            }),
            ..RunnerConfig::default()
        };
        assert!(ready(None, "OPENAI_API_KEY") && !ready(None, "OTHER"));
        assert!(ready(
            Some(&service(Some("http://127.0.0.1:1/v1"), None)),
            ""
        ));
        assert!(!ready(Some(&service(None, None)), "ANTHROPIC_API_KEY"));
        assert!(ready(Some(&service(None, Some("MY_KEY"))), "MY_KEY"));
    }

    fn reason(info: &RunnerInfo) -> &str {
        match &info.readiness {
            Readiness::NotReady { reason } => reason,
            Readiness::Ready | Readiness::Missing => {
                panic!("{} is {:?}", info.name, info.readiness)
            }
        }
    }

    fn program(dir: &Path, name: &str, script: &str) {
        let path = dir.join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}
