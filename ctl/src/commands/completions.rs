//! `ctl completions`.

use clap_complete::Shell;

use crate::{cli::for_people, error::Result, exit::Exit, ui::Ui};

/// Print the completions for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ctl completions bash > ~/.local/share/bash-completion/completions/ctl
  ctl completions zsh > ~/.zfunc/_ctl
  ctl completions fish > ~/.config/fish/completions/ctl.fish")]
pub struct Args {
    /// The shell
    shell: Shell,
}

/// Prints them.
pub fn run(ui: &Ui, args: &Args) -> Result<Exit> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut for_people(), "ctl", &mut text);
    ui.print(text)?;
    Ok(Exit::Ok)
}
