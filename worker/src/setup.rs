//! From the command line, the environment and the configuration to a running worker.

use std::{env, ffi::OsString, path::Path, process::ExitCode, time::Duration};

use anyhow::Context;
use orchestra_config::{Config, StateDir, open_files};
use orchestra_telemetry::Format;
use orchestra_types::runner::KNOWN_RUNNERS;

use crate::{
    args::{AgentCount, Capacity, ConfigArgs, PlaceArgs, RunArgs, unknown_runner},
    bulk::Target,
    daemon::{self, Setup},
    self_command::SelfCommand,
};

/// How many agents may run at once when nobody says.
const SLOTS_DEFAULT: u32 = 4;
/// How long blocking work may hold up the end of the process.
const THREADS_END_WITHIN: Duration = Duration::from_secs(2);

/// Runs the worker until a signal ends it.
pub fn run(args: RunArgs, me: SelfCommand) -> anyhow::Result<ExitCode> {
    if args.own_session {
        // A process that leads its group already has a session, or is not meant to get one.
        if let Err(error) = rustix::process::setsid() {
            eprintln!("warning: no session of its own: {error}");
        }
    }
    if let Err(error) = crate::process::inherit_nothing() {
        eprintln!("warning: agents have the open files of whoever started this worker: {error}");
    }
    let state = state(&args.place)?;
    state
        .make()
        .with_context(|| format!("failed to make `{}`", state.path().display()))?;
    let mut config = load(&state, &args.config)?;
    let config_file = args.config.config.map(std::path::absolute).transpose();
    let config_file = config_file.context("failed to find the configuration file")?;
    if args.name.is_some() {
        config.worker.name.clone_from(&args.name);
    }
    config.worker.stop_within = args.stop_within.or(config.worker.stop_within);
    let Capacity { agents, slots } = args.capacity;
    let slots = slots.or(config.worker.slots);
    let slots = slots.unwrap_or_else(|| slots_of(&agents));
    limit(&mut config, &agents)?;
    let target = Target {
        credentials: args
            .credentials
            .unwrap_or_else(|| state.worker().join("pki")),
        endpoint: args.head,
    };
    target
        .endpoint()
        .map_err(|error| match error.is_missing() {
            true => anyhow::Error::new(error).context(
                "this worker belongs to no cluster yet; join one with `orchestra-worker join`",
            ),
            false => error.into(),
        })?;
    let environment: Vec<(OsString, OsString)> = env::vars_os().collect();
    open_files::raise();
    open_files::require()?;
    // One thread for all attempts, and for timers and signals, beside this one, which has their fleet: they mostly
    // wait, and each word from one thread to another costs more than what is done then. What takes long is done
    // on others.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("failed to start the async runtime")?;
    let done = runtime.block_on(daemon::run(Setup {
        state,
        config,
        config_file,
        slots,
        target,
        me,
        environment,
        log: if args.log_json {
            Format::Json
        } else {
            Format::Text
        },
    }));
    runtime.shutdown_timeout(THREADS_END_WITHIN);
    done.map(|()| ExitCode::SUCCESS)
}

/// The state directory that the command line or the environment names.
pub fn state(place: &PlaceArgs) -> anyhow::Result<StateDir> {
    let xdg = env::var_os("XDG_STATE_HOME");
    let home = env::var_os("HOME");
    place.state(
        xdg.as_deref().map(Path::new),
        home.as_deref().map(Path::new),
    )
}

/// The named configuration, or the one in the state directory, if there is one.
pub fn load(state: &StateDir, args: &ConfigArgs) -> anyhow::Result<Config> {
    let default = state.config_file();
    match &args.config {
        Some(path) => Ok(orchestra_config::load(path)?),
        None if default.exists() => Ok(orchestra_config::load(&default)?),
        None => Ok(Config::default()),
    }
}

fn slots_of(agents: &[AgentCount]) -> u32 {
    match agents {
        [] => SLOTS_DEFAULT,
        agents => agents
            .iter()
            .fold(0, |sum: u32, agent| sum.saturating_add(agent.count)),
    }
}

/// What `--agents` says stands above the configuration.
fn limit(config: &mut Config, agents: &[AgentCount]) -> anyhow::Result<()> {
    for agent in agents {
        let known = KNOWN_RUNNERS.contains(&agent.runner.as_str());
        if !known && !config.runners.contains_key(&agent.runner) {
            return Err(unknown_runner(&agent.runner));
        }
        let runner = config.runners.entry(agent.runner.clone()).or_default();
        runner.max_instances = Some(agent.count);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agents(all: &[(&str, u32)]) -> Vec<AgentCount> {
        let one = |(name, count): &(&str, u32)| AgentCount {
            runner: name.parse().unwrap(),
            count: *count,
        };
        all.iter().map(one).collect()
    }

    #[test]
    fn slots_follow_what_agents_asks_for() {
        assert_eq!(slots_of(&[]), 4);
        assert_eq!(slots_of(&agents(&[("claude", 2), ("codex", 2)])), 4);
        assert_eq!(slots_of(&agents(&[("claude", 1)])), 1);
    }

    #[test]
    fn a_runner_that_nobody_knows_is_refused_with_those_there_are() {
        let mut config = Config::default();
        limit(&mut config, &agents(&[("claude", 3)])).unwrap();
        assert_eq!(
            config.runners[&"claude".parse().unwrap()].max_instances,
            Some(3)
        );
        let error = limit(&mut config, &agents(&[("cloude", 1)])).unwrap_err();
        assert!(error.to_string().contains("claude, codex"), "{error}");
    }
}
