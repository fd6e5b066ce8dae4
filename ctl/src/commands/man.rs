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
  ctl man workers gc | man -l -             or workers-gc
  ctl man --dir ~/.local/share/man/man1")]
pub struct Args {
    /// The command whose page it is, as add, workers gc or workers-gc. Default: ctl itself
    command: Vec<String>,
    /// Write every page into this directory
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath, conflicts_with = "command")]
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
    let page = find(&ctl, &args.command.join(" "))?;
    let mut text = Vec::new();
    Man::new(page.clone())
        .render(&mut text)
        .or_failed(|| "failed to make the manual page".to_owned())?;
    ui.print(text)?;
    Ok(Exit::Ok)
}

/// The command that `name` means: `workers gc`, or `workers-gc` and `ctl-workers-gc` as its page is
/// called.
fn find<'c>(ctl: &'c clap::Command, name: &str) -> Result<&'c clap::Command> {
    let words: Vec<&str> = name.split_whitespace().collect();
    let path = words.join("-");
    let path = path.strip_prefix("ctl-").unwrap_or(&path);
    let mut found = ctl;
    let mut rest = if path == "ctl" { "" } else { path };
    while !rest.is_empty() {
        let next = found.get_subcommands().find_map(|c| {
            let after = after_name(rest, c.get_name())?;
            Some((c, after))
        });
        let Some((command, after)) = next else {
            let known = found.get_subcommands().map(clap::Command::get_name);
            let name = words.join(" ");
            return Err(Error::usage(format!(
                "there is no command `{name}`{}",
                did_you_mean(rest, known)
            ))
            .hint("`ctl --help` lists the commands"));
        };
        (found, rest) = (command, after);
    }
    Ok(found)
}

/// What stands in `path` after the command `name` that it begins with.
fn after_name<'p>(path: &'p str, name: &str) -> Option<&'p str> {
    let after = path.strip_prefix(name)?;
    if after.is_empty() {
        Some(after)
    } else {
        after.strip_prefix('-')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_found_however_its_command_is_spelled() {
        let ctl = for_people();
        let page = |name: &str| find(&ctl, name).map(|c| c.get_display_name().map(str::to_owned));
        for name in [
            "workers gc",
            "workers-gc",
            " workers  gc ",
            "ctl workers gc",
            "ctl-workers-gc",
        ] {
            assert_eq!(page(name).unwrap().as_deref(), Some("ctl-workers-gc"));
        }
        assert_eq!(page("add").unwrap().as_deref(), Some("ctl-add"));
        for name in ["", "ctl"] {
            assert_eq!(find(&ctl, name).unwrap().get_name(), "ctl");
        }
    }

    #[test]
    fn a_command_that_is_not_there_is_refused_with_a_guess() {
        let ctl = for_people();
        for (name, guess) in [("ad", "add"), ("workers drian", "drain")] {
            let error = find(&ctl, name).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("there is no command `{name}`")),
                "{error}"
            );
            assert!(error.contains(&format!("`{guess}`")), "{error}");
        }
    }
}
