//! `ctl`, the admin client of Orchestra. It also starts a local cluster: head and worker are
//! processes of this same program.

mod app;
mod apply;
mod blocking;
mod calls;
mod changing;
mod cli;
mod client;
mod commands;
mod error;
mod exit;
mod follow;
mod help;
mod interrupt;
mod json;
mod left_out;
mod local;
mod parts;
mod renewal;
mod repository;
mod stored;
mod submit;
mod surroundings;
mod told;
mod ui;
mod values;
mod warned;
mod writing;

use std::{process::ExitCode, time::Duration};

use clap::error::ErrorKind;

use crate::{
    app::App,
    cli::{Cli, Command, Global},
    error::{Error, OrFailed, Result},
    exit::Exit,
    ui::Ui,
};

/// How long an interrupted command waits for a thread that may be at something without end: standard
/// input that nobody closes, a lock that another one holds.
const LET_GO: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    match std::panic::catch_unwind(start) {
        Ok(code) => code,
        // The panic itself has been printed by the hook.
        Err(_) => {
            eprintln!("error: this is a bug in ctl; please report it with the lines above");
            Exit::Bug.into()
        }
    }
}

fn start() -> ExitCode {
    let part = parts::asked(std::env::args_os());
    let cli = match part.map_or_else(Cli::read, |part| Ok(Cli::of_part(part))) {
        Ok(cli) => cli,
        Err(e) => return usage(&e),
    };
    let ui = Ui::of_process(&cli.global);
    match dispatch(ui, cli) {
        Ok(code) => code,
        Err(e) => failed(ui, &e),
    }
}

/// Says why; nothing where nobody reads any more.
fn failed(ui: Ui, error: &Error) -> ExitCode {
    if !error.is_reader_gone() {
        ui.error(error);
    }
    error.exit().into()
}

fn dispatch(ui: Ui, cli: Cli) -> Result<ExitCode> {
    if cli.version {
        return commands::version::run(&ui).map(Into::into);
    }
    let Some(command) = cli.command else {
        return Err(Error::usage("no command is given").hint("`ctl --help` lists them"));
    };
    let command = match command {
        Command::Part(part) => return parts::run(part),
        Command::Ctl(command) => command,
    };
    let app = App::new(ui, &cli.global)?;
    let lets_go = commands::lets_go(&command);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .or_failed(|| "failed to start the async runtime".to_owned())?;
    let ended = runtime.block_on(commands::run(&app, command));
    if lets_go && ended.as_ref().is_err_and(|e| e.exit() == Exit::Interrupted) {
        runtime.shutdown_timeout(LET_GO);
    }
    ended.map(Into::into)
}

/// Help goes to standard output and is no error; the rest is.
fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        return match error.print().map_err(Error::of_stdout) {
            Ok(()) => Exit::Ok.into(),
            Err(e) => failed(Ui::of_process(&Global::default()), &e),
        };
    }
    let text = error.render().to_string();
    // The arguments could not be read, but whether JSON is wanted is plain to see.
    if std::env::args_os().any(|argument| argument == "--json") {
        let (message, hint) = text.split_once("\n\n").unwrap_or((text.as_str(), ""));
        let error = Error::usage(message.trim_start_matches("error: ")).hint(hint.trim());
        let global = Global {
            json: true,
            ..Global::default()
        };
        Ui::of_process(&global).error(&error);
    } else if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // Our own text, in clap's colours.
        let _ = error.print();
    } else {
        let ui = Ui::of_process(&Global::default());
        let lines = ui::mistake::lines(&text);
        lines.iter().for_each(|line| ui.note(line));
    }
    Exit::Usage.into()
}
