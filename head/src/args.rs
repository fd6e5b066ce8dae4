//! The command line of `orchestra-head`.

use std::{net::SocketAddr, path::PathBuf};

use clap::builder::{PathBufValueParser, TypedValueParser};
use orchestra_config::StateDir;

/// Run the head: the durable queue, the scheduler and the services that workers and `ctl` call
///
/// `ctl start` runs it by itself. Everything is kept below the state directory; SIGTERM and SIGINT
/// stop it cleanly, and nothing that was acknowledged is lost if it is killed.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The state directory. Default: $XDG_STATE_HOME/orchestra, else ~/.local/state/orchestra
    #[arg(long, env = "ORCHESTRA_STATE", value_name = "DIR")]
    pub state: Option<PathBuf>,

    /// The configuration file. Default: orchestra.yaml in the state directory, if it is there
    #[arg(long, value_name = "FILE", value_parser = PathBufValueParser::new().try_map(orchestra_config::named_file))]
    pub config: Option<PathBuf>,

    /// Where the services listen. Default: `head.listen` of the configuration, else the address
    /// of the last time, else 127.0.0.1 with 7117, else with any free port
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,

    /// What other machines reach the head by; named in join commands. Default: `head.advertise` of
    /// the configuration, else the address it listens on
    #[arg(long, value_name = "HOST:PORT", value_parser = orchestra_config::advertised)]
    pub advertise: Option<String>,

    /// Where Prometheus metrics are served. Default: `head.metrics_listen` of the configuration,
    /// else 127.0.0.1 and a free port
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics_listen: Option<SocketAddr>,

    /// Write the log as JSON lines instead of text
    #[arg(long)]
    pub log_json: bool,
}

impl Args {
    pub(crate) fn state_dir(&self) -> anyhow::Result<StateDir> {
        if let Some(state) = &self.state {
            return Ok(StateDir::new(std::path::absolute(state)?));
        }
        let var = |name| std::env::var_os(name).map(PathBuf::from);
        let default =
            StateDir::default_path(var("XDG_STATE_HOME").as_deref(), var("HOME").as_deref());
        let default = default.ok_or_else(|| {
            anyhow::anyhow!("neither XDG_STATE_HOME nor HOME is set; name a directory with --state")
        })?;
        Ok(StateDir::new(default))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn a_configuration_that_is_named_is_there() {
        let error = Cli::try_parse_from(["head", "--config", "/nonexistent"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(
            error.to_string().contains("there is no such file"),
            "{error}"
        );
    }

    #[test]
    fn what_nobody_can_connect_to_is_not_advertised() {
        for wrong in ["nonsense", "head.example", ":7117", "head:0", "a b:1"] {
            let error = Cli::try_parse_from(["head", "--advertise", wrong]).unwrap_err();
            assert!(error.to_string().contains("HOST:PORT, as"), "{error}");
        }
        let cli = Cli::try_parse_from(["head", "--advertise", "head.example:7117"]).unwrap();
        assert_eq!(cli.args.advertise.as_deref(), Some("head.example:7117"));
    }
}
