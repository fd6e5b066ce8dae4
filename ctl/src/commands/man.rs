//! `ctl man`.

use std::path::PathBuf;

use clap_mangen::Man;

use crate::{
    cli::for_people,
    error::{Error, OrFailed, Result},
    exit::Exit,
    ui::{Ui, suggest::did_you_mean},
};

/// Print a manual page, or write all of them into a directory
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ctl man add | man -l -
  ctl man --dir ~/.local/share/man/man1")]
pub struct Args {
    /// The command whose page it is. Default: ctl itself
    command: Option<String>,
    /// Write every page into this directory
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    dir: Option<PathBuf>,
}

/// Prints or writes pages.
pub fn run(ui: &Ui, args: &Args) -> Result<Exit> {
    let ctl = for_people();
    if let Some(dir) = &args.dir {
        let failed = || format!("failed to write manual pages into `{}`", dir.display());
        std::fs::create_dir_all(dir).or_failed(failed)?;
        clap_mangen::generate_to(ctl, dir).or_failed(failed)?;
        return Ok(Exit::Ok);
    }
    let page = match &args.command {
        None => ctl,
        Some(name) => find(&ctl, name)?.clone(),
    };
    let mut text = Vec::new();
    Man::new(page)
        .render(&mut text)
        .or_failed(|| "failed to make the manual page".to_owned())?;
    ui.print(text)?;
    Ok(Exit::Ok)
}

fn find<'c>(ctl: &'c clap::Command, name: &str) -> Result<&'c clap::Command> {
    ctl.find_subcommand(name).ok_or_else(|| {
        let known = ctl.get_subcommands().map(clap::Command::get_name);
        Error::usage(format!(
            "there is no command `{name}`{}",
            did_you_mean(name, known)
        ))
    })
}
