//! `ctl --version`.

use serde_json::json;

use crate::{error::Result, exit::Exit, ui::Ui};

/// Prints the version; with `--json`, more about this build.
pub fn run(ui: &Ui) -> Result<Exit> {
    let version = env!("CARGO_PKG_VERSION");
    if ui.is_json() {
        ui.document(&json!({
            "name": "ctl",
            "version": version,
            "wire": "orchestra.v1",
            "os": std::env::consts::OS,
            "arch": std::env::consts::ARCH,
            "commit": orchestra_version::COMMIT,
            "build": if cfg!(debug_assertions) { "debug" } else { "release" },
            "program": std::env::current_exe().ok(),
        }))?;
    } else {
        ui.print(format!("ctl {}\n", orchestra_version::LONG))?;
    }
    Ok(Exit::Ok)
}
