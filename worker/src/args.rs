//! The command line.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::builder::{PathBufValueParser, TypedValueParser};
use orchestra_types::{RunnerName, runner::KNOWN_RUNNERS};

const SIGNALS: &str = "\
Signals:
  SIGTERM, SIGINT  Stop: take no more work, stop the running agents (within --stop-within), keep
                   what they did so far, and report it (at the next start, when the head cannot be
                   reached).
  SIGHUP           End without stopping agents, for an upgrade: they run on, and the next worker
                   with the same state directory finds them again.
  SIGUSR1          The same.
What was ignored when the worker was started stays ignored, as SIGHUP after nohup.

Examples:
  ORCHESTRA_TOKEN=ORCH1.… orchestra-worker join --head 10.0.0.1:7117   make this machine a worker, and run it
  orchestra-worker                                                     run it again
  orchestra-worker --agents claude:2,codex:1                           at most so many at once";

/// The variable that a join token may be said in.
pub(crate) const TOKEN_VARIABLE: &str = "ORCHESTRA_TOKEN";

/// Run agents for a head
///
/// The worker connects to the head, takes tasks, runs the AI coding CLIs of this machine on them, and
/// sends events and results back. It needs credentials: `ctl start` makes them for the local
/// worker, `orchestra-worker join` gets them on another machine.
#[derive(Clone, Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, after_help = SIGNALS)]
pub struct Args {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Run the worker (the default)
    #[command(after_help = SIGNALS)]
    Run(RunArgs),
    /// Join a cluster with a token from `ctl token create`
    Join(JoinArgs),
    /// Own the process of one attempt
    #[command(hide = true)]
    Supervise {
        /// Its directory.
        dir: PathBuf,
    },
    /// Make supervisors for a worker
    #[command(hide = true)]
    Nursery,
    /// Make an attempt's directory ready, then become its CLI
    #[command(hide = true)]
    SetUp(SetUpArgs),
    /// Run Orchestra's own agent
    #[command(hide = true)]
    Agent {
        #[command(subcommand)]
        command: AgentCommand,
    },
}

#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum AgentCommand {
    /// Run it on the prompt from standard input
    Run(orchestra_agent::Args),
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SetUpArgs {
    /// Where it is written down why the CLI was not started.
    #[arg(long)]
    pub record: PathBuf,
    /// How long the command may run.
    #[arg(long)]
    pub timeout_ms: u64,
    /// Run by `sh -c` first.
    #[arg(long, allow_hyphen_values = true)]
    pub command: String,
    /// The CLI and its arguments.
    #[arg(last = true, required = true)]
    pub cli: Vec<OsString>,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub place: PlaceArgs,
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The head's address [default: the one kept with the credentials].
    #[arg(long, value_name = "HOST:PORT")]
    pub head: Option<String>,
    /// Directory of ca.pem, cert.pem and key.pem [default: worker/pki in the state directory].
    #[arg(long, value_name = "DIR")]
    pub credentials: Option<PathBuf>,
    #[command(flatten)]
    pub capacity: Capacity,
    /// A name for people [default: as configured, else the host name].
    #[arg(long)]
    pub name: Option<String>,
    /// How long running agents may take to end when the worker is stopped; then they are killed
    /// [default: as configured, else 15s].
    #[arg(long, value_name = "TIME", env = "ORCHESTRA_STOP_WITHIN", value_parser = orchestra_config::stop_within)]
    pub stop_within: Option<Duration>,
    /// Write logs as JSON lines.
    #[arg(long)]
    pub log_json: bool,
    /// Run in a session of its own, as a daemon does.
    #[arg(long, hide = true)]
    pub own_session: bool,
}

/// How much runs at once.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Capacity {
    /// How many of a runner may run at once, as `claude:2,codex:1` [default: as configured, else as
    /// many as there are slots].
    #[arg(long, value_name = "NAME:N", value_delimiter = ',', value_parser = parse_agents)]
    pub agents: Vec<AgentCount>,
    /// How many agents may run at once in all [default: as configured, else the sum of --agents,
    /// else 4].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub slots: Option<u32>,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct JoinArgs {
    #[command(flatten)]
    pub place: PlaceArgs,
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The head's address [default: the one in the token]. A machine that has joined, its worker running or not, takes another one
    /// when it reaches its head there.
    #[arg(long, value_name = "HOST:PORT")]
    pub head: Option<String>,
    /// The token. It is a secret and can be used once, and better said in the environment than here, where
    /// all users of the machine see it; a machine that has joined needs none. The worker goes on as a program that
    /// was not told it.
    #[arg(
        long,
        env = TOKEN_VARIABLE,
        hide_env_values = true,
        default_value = "",
        hide_default_value = true
    )]
    pub token: String,
    #[command(flatten)]
    pub capacity: Capacity,
    /// A name for people [default: as configured, else the host name].
    #[arg(long)]
    pub name: Option<String>,
    /// How long running agents may take to end when the worker is stopped; then they are killed
    /// [default: as configured, else 15s].
    #[arg(long, value_name = "TIME", env = "ORCHESTRA_STOP_WITHIN", value_parser = orchestra_config::stop_within)]
    pub stop_within: Option<Duration>,
    /// End after joining; `orchestra-worker` then runs the worker.
    #[arg(long)]
    pub only: bool,
}

/// The same for a join and for a start: a join goes on as the worker.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ConfigArgs {
    /// The configuration file [default: orchestra.yaml in the state directory, if it is there].
    #[arg(long, value_name = "FILE", env = "ORCHESTRA_CONFIG", value_parser = PathBufValueParser::new().try_map(orchestra_config::named_file))]
    pub config: Option<PathBuf>,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PlaceArgs {
    /// The state directory [default: orchestra in $XDG_STATE_HOME, else in ~/.local/state].
    #[arg(long, value_name = "DIR", env = "ORCHESTRA_STATE")]
    pub state: Option<PathBuf>,
}

impl PlaceArgs {
    /// The state directory, absolute.
    pub fn state(
        &self,
        xdg_state_home: Option<&Path>,
        home: Option<&Path>,
    ) -> anyhow::Result<orchestra_config::StateDir> {
        let default = || orchestra_config::StateDir::default_path(xdg_state_home, home);
        let path = self.state.clone().or_else(default).ok_or_else(|| {
            anyhow::anyhow!("HOME is not set; name the state directory with `--state`")
        })?;
        Ok(orchestra_config::StateDir::new(std::path::absolute(path)?))
    }
}

/// `claude:2`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AgentCount {
    pub runner: RunnerName,
    pub count: u32,
}

fn parse_agents(text: &str) -> Result<AgentCount, String> {
    let wrong = || format!("`{text}` is not of the form NAME:N, as `claude:2`");
    let (name, count) = text.split_once(':').ok_or_else(wrong)?;
    let count = count.parse().map_err(|_| wrong())?;
    if !(1..=100_000).contains(&count) {
        return Err(format!("`{text}`: the number is 1 to 100000"));
    }
    let runner = name.parse().map_err(|_| wrong())?;
    Ok(AgentCount { runner, count })
}

/// A name that neither Orchestra nor the configuration knows, with what there is.
pub(crate) fn unknown_runner(name: &RunnerName) -> anyhow::Error {
    anyhow::anyhow!(
        "unknown runner `{name}` in --agents; there are {}, and those in the configuration",
        KNOWN_RUNNERS.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_are_counted_by_name() {
        let two = AgentCount {
            runner: "claude".parse().unwrap(),
            count: 2,
        };
        assert_eq!(parse_agents("claude:2"), Ok(two));
        for text in ["claude", "claude:", "claude:0", ":2", "claude:x", "a b:1"] {
            assert!(parse_agents(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_machine_may_say_how_much_it_takes_when_it_joins() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: Args,
        }
        let line = "w join --token x --slots 3 --agents claude:2";
        let line = <Line as clap::Parser>::try_parse_from(line.split(' ')).unwrap();
        let Some(Command::Join(join)) = line.args.command else {
            panic!("another command");
        };
        assert_eq!(join.capacity.slots, Some(3));
        assert_eq!(join.capacity.agents[0].count, 2);
    }
}
