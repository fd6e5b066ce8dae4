//! How clones of a project are made ready: what `.orchestra.yaml` says, with the files that it names.

use orchestra_config::{PROJECT_FILE, SetupConfig};
use orchestra_repo::Checkout;
use orchestra_types::{ArtifactKind, CopiedFile, SetUp};

use super::upload::Uploads;
use crate::{
    blocking::blocking,
    error::{OrFailed, Result},
    ui::{Ui, escape},
};

/// Copies the ignored files that agents need. Which ones is said aloud: whoever can commit to the
/// project can name them.
pub async fn gather(
    ui: &Ui,
    uploads: &mut Uploads,
    checkout: &Checkout,
    config: SetupConfig,
) -> Result<Option<SetUp>> {
    if config == SetupConfig::default() {
        return Ok(None);
    }
    let mut set_up = SetUp {
        command: config.run,
        timeout: config.timeout,
        files: Vec::new(),
    };
    if !config.copy.is_empty() {
        let (checkout, patterns) = (checkout.clone(), config.copy);
        let to = uploads.directory()?;
        let (copied, warnings) = blocking(move || {
            let copied = checkout.copy_ignored(&patterns, &to);
            copied.or_failed(|| format!("failed to copy what `{PROJECT_FILE}` names"))
        })
        .await?;
        for warning in warnings {
            ui.warn(format!("{PROJECT_FILE}: {}", escape::naming(&warning)));
        }
        for file in copied {
            let content = uploads.add(ArtifactKind::Context, file.copy).await?;
            set_up.files.push(CopiedFile {
                path: file.path,
                executable: file.executable,
                content,
            });
        }
    }
    if !set_up.files.is_empty() {
        let paths: Vec<_> = set_up
            .files
            .iter()
            .map(|file| escape::path(&file.path))
            .collect();
        ui.next(format!("{PROJECT_FILE}: agents get {}", paths.join(", ")));
    }
    Ok(Some(set_up))
}
