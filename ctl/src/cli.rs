//! The command line: global options and the list of commands. Each command's own options stand in
//! its file.

use std::{ffi::OsString, path::PathBuf};

use clap::{
    Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueHint,
    builder::{NonEmptyStringValueParser, PathBufValueParser, Resettable, TypedValueParser},
    error::{ContextKind, ContextValue, ErrorKind},
};

use crate::{commands, help, parts, ui::ColourChoice};

/// Run AI coding agents as a fleet: queue tasks, watch them, get their changes back
#[derive(Debug, Parser)]
#[command(
    name = "ctl",
    disable_version_flag = true,
    arg_required_else_help = true,
    infer_subcommands = false,
    max_term_width = 100,
    after_help = "Start with `ctl start`, then `ctl add \"…\" --follow`. `ctl demo` shows it all with a scripted model."
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    /// Print the version; with --json, more about this build
    #[arg(short = 'V', long)]
    pub version: bool,
    #[command(subcommand)]
    pub command: Option<Command>,
}

impl Cli {
    /// The command line of this process.
    pub fn read() -> Result<Self, clap::Error> {
        let words: Vec<OsString> = std::env::args_os().collect();
        read(&words).map_err(|error| as_typed(error, &words))
    }

    /// A command line that asks for a part, and for nothing else.
    pub fn of_part(part: parts::Part) -> Self {
        Self {
            global: Global::default(),
            version: false,
            command: Some(Command::Part(part)),
        }
    }
}

/// Options that every command takes.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Print JSON: one document, or one per line for streams (see docs/json.md)
    #[arg(long, global = true)]
    pub json: bool,
    /// State directory. Default: $XDG_STATE_HOME/orchestra, else ~/.local/state/orchestra
    #[arg(
        long,
        value_name = "DIR",
        global = true,
        env = "ORCHESTRA_STATE",
        hide_env_values = true,
        value_hint = ValueHint::DirPath
    )]
    pub state: Option<PathBuf>,
    /// Configuration file. Default: orchestra.yaml in the state directory, if it is there
    #[arg(
        long,
        value_name = "FILE",
        global = true,
        env = "ORCHESTRA_CONFIG",
        hide_env_values = true,
        value_parser = PathBufValueParser::new().try_map(orchestra_config::named_file),
        value_hint = ValueHint::FilePath
    )]
    pub config: Option<PathBuf>,
    /// Address of the head, HOST:PORT. Default: the one that the state directory names
    #[arg(
        long,
        value_name = "HOST:PORT",
        global = true,
        env = "ORCHESTRA_HEAD",
        hide_env_values = true,
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub head: Option<String>,
    /// When to colour. Default: on a terminal, unless NO_COLOR is set or TERM is dumb
    #[arg(
        long,
        value_name = "WHEN",
        global = true,
        default_value = "auto",
        hide_default_value = true
    )]
    pub color: ColourChoice,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    #[command(flatten)]
    Ctl(CtlCommand),
    #[command(flatten)]
    Part(parts::Part),
}

/// The commands for people.
#[derive(Debug, Subcommand)]
pub enum CtlCommand {
    Start(commands::start::Args),
    Stop(commands::stop::Args),
    Add(Box<commands::add::Args>),
    Status(commands::status::Args),
    Tasks(commands::tasks::Args),
    Agents(commands::agents::Args),
    Workers(commands::workers::Args),
    Accounts(commands::accounts::Args),
    Budget(commands::budget::Args),
    Usage(commands::usage::Args),
    Show(commands::show::Args),
    Watch(commands::watch::Args),
    Wait(commands::wait::Args),
    Logs(commands::logs::Args),
    Files(commands::files::Args),
    Diff(commands::diff::Args),
    Apply(commands::apply::Args),
    Branches(commands::branches::Args),
    Cancel(Box<commands::cancel::Args>),
    Priority(commands::priority::Args),
    Release(commands::release::Args),
    Retry(Box<commands::retry::Args>),
    Schedules(commands::schedules::Args),
    Context(commands::context::Args),
    Token(commands::token::Args),
    Credentials(commands::credentials::Args),
    Config(commands::config::Args),
    Backup(commands::backup::Args),
    Restore(commands::restore::Args),
    Purge(commands::purge::Args),
    Check(commands::check::Args),
    Compact(commands::compact::Args),
    Demo(commands::demo::Args),
    Completions(commands::completions::Args),
    Man(commands::man::Args),
}

/// All that can be typed, with help that fits the terminal.
pub fn command() -> clap::Command {
    help::flowing(Cli::command())
}

fn read(words: &[OsString]) -> Result<Cli, clap::Error> {
    let mut command = command();
    let matches = command.try_get_matches_from_mut(words)?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

/// The error without what the environment says: clap's usage line takes every option that is set
/// there for a required one. Help names the variables, and stays as it is.
fn as_typed(error: clap::Error, words: &[OsString]) -> clap::Error {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            return error;
        }
        _ => {}
    }
    if let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg) {
        let variable = |name: &str| std::env::var_os(name);
        if let Some(why) = orchestra_config::empty_variable(option, words, variable) {
            return clap::Error::raw(error.kind(), why);
        }
    }
    let global = ["state", "config", "head"];
    let typed = global.into_iter().fold(command(), |command, option| {
        command.mut_arg(option, |option| option.env(Resettable::Reset))
    });
    match typed.try_get_matches_from(words) {
        Err(same) if same.kind() == error.kind() => same,
        Ok(_) | Err(_) => error,
    }
}

/// The command line as people see it, for completions and manual pages: without the hidden parts,
/// and without a page for each `help COMMAND`.
pub fn for_people() -> clap::Command {
    let full = Cli::command();
    let ctl = clap::Command::new("ctl").args(full.get_arguments().cloned());
    // The texts come after the subcommands, which bring their own.
    let mut ctl = CtlCommand::augment_subcommands(ctl)
        .about(full.get_about().cloned().unwrap_or_default())
        .after_help(full.get_after_help().cloned().unwrap_or_default())
        .disable_version_flag(true)
        .disable_help_subcommand(true)
        .mut_subcommands(|command| command.disable_help_subcommand(true));
    ctl.build();
    ctl
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_fits_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_visible_command_and_option_says_what_it_is_for() {
        fn check(command: &clap::Command) {
            let name = command.get_name();
            assert!(command.get_about().is_some(), "{name} has no help");
            for argument in command.get_arguments().filter(|a| !a.is_hide_set()) {
                assert!(
                    argument.get_help().is_some(),
                    "{name} {} has no help",
                    argument.get_id()
                );
            }
            command
                .get_subcommands()
                .filter(|c| !c.is_hide_set())
                .for_each(check);
        }
        check(&Cli::command());
    }

    #[test]
    fn help_names_the_variables_of_the_environment_and_no_value() {
        for line in [&["ctl", "--help"][..], &["ctl", "add", "--help"]] {
            let words: Vec<OsString> = line.iter().map(Into::into).collect();
            let help = read(&words).map_err(|error| as_typed(error, &words));
            let help = help.unwrap_err().to_string();
            for name in ["STATE", "CONFIG", "HEAD"] {
                assert!(help.contains(&format!("[env: ORCHESTRA_{name}]")), "{help}");
            }
        }
    }

    #[test]
    fn a_number_below_zero_is_refused_by_what_reads_it() {
        let rows = [
            "add x --retries -1",
            "add x --ports -1",
            "add x --at -2h",
            "add x --every -2h",
            "add x --timeout -1s",
            "add x --budget-tokens -1",
            "add x --budget-usd -0.5",
            "budget 1 --time -1s",
            "budget 1 --usd -1",
            "budget 1 --attempts -1",
            "accounts set a --max -1",
            "tasks --limit -1",
            "logs 1 --attempt -1",
            "logs 1 --after -1",
            "wait 1 --timeout -1s",
            "token create --ttl -1h",
            "start --slots -1",
            "start --stop-within -1s",
            "stop --within -1s",
        ];
        for row in rows {
            let words = ["ctl"].into_iter().chain(row.split(' '));
            let words: Vec<OsString> = words.map(Into::into).collect();
            let error = read(&words).unwrap_err().to_string();
            assert!(error.contains("invalid value '-"), "{row}: {error}");
            assert!(!error.contains("to pass"), "{row}: {error}");
        }
    }

    #[test]
    fn people_see_every_command_and_none_of_the_hidden_parts() {
        let names: Vec<String> = for_people()
            .get_subcommands()
            .map(|c| c.get_name().to_owned())
            .collect();
        assert!(names.contains(&"add".to_owned()) && names.contains(&"watch".to_owned()));
        for hidden in ["head", "worker", "scripted-model", "help"] {
            assert!(!names.contains(&hidden.to_owned()), "{hidden}");
        }
    }
}
