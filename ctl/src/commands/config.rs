//! `ctl config check`.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::{
    app::App,
    error::{Error, Result},
    exit::Exit,
    submit::misnamed,
    ui::style::{Line, Style},
};

/// Look at the configuration
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Check(Check),
}

/// Check a configuration file, and say where it is wrong
#[derive(Debug, clap::Args)]
struct Check {
    /// The file. Default: the one that ctl uses
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Checks the file.
pub fn run(app: &App, args: Args) -> Result<Exit> {
    let Command::Check(Check { file }) = args.command;
    // Who checks one in a project may mean that file.
    if let Some(warning) = misnamed::warning(Path::new(".")) {
        app.ui.warn(warning);
    }
    let Some(path) = file.or_else(|| app.config_file()) else {
        let path = app.state.config_file();
        return app.show(&json!({ "path": null, "valid": true }), |_| {
            let text = format!(
                "there is no configuration file at {}; every key has its default",
                path.display()
            );
            app.ui.line(&Line::of(Style::Plain, text))
        });
    };
    orchestra_config::load(&path).map_err(|e| {
        Error::failed("the configuration is not valid")
            .because(e)
            .hint("docs/configuration.md has every key")
    })?;
    app.show(&json!({ "path": path, "valid": true }), |_| {
        app.ui.line(
            &Line::of(Style::Good, "✓ valid").with(Style::Plain, format!("  {}", path.display())),
        )
    })
}
