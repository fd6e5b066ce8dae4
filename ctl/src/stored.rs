//! Stored bytes on their way to a person or a pipe: escaped on a terminal, as they are elsewhere.

use std::path::Path;

use orchestra_proto::v1;
use orchestra_types::{Artifact, ArtifactKind};
use tokio::io::AsyncWriteExt;
use tonic::{Code, Status, Streaming};

use crate::{
    app::App,
    client::{Client, NAMES_LOSSES, status_error},
    error::{Error, OrFailed, Result},
    ui::{Ui, escape::block},
};

/// Prints an artifact.
pub async fn print(app: &App, client: &Client, artifact: Artifact) -> Result<()> {
    let mut chunks = client.download(artifact).await?;
    let mut rest = Vec::new();
    while let Some(data) = next(artifact.kind, &mut chunks).await? {
        if !app.ui.stdout.terminal {
            app.ui.print(&data)?;
            continue;
        }
        // Whole lines, so that no character is cut in two.
        rest.extend_from_slice(&data);
        let whole = rest
            .iter()
            .rposition(|b| *b == b'\n')
            .map_or(0, |at| at + 1);
        let after = rest.split_off(whole);
        print_text(&app.ui, &rest)?;
        rest = after;
    }
    print_text(&app.ui, &rest)
}

/// Prints bytes that may be anything.
pub fn print_text(ui: &Ui, bytes: &[u8]) -> Result<()> {
    if ui.stdout.terminal {
        ui.print(block(&String::from_utf8_lossy(bytes)).as_bytes())
    } else {
        ui.print(bytes)
    }
}

/// The whole artifact, which must be small enough for memory.
pub async fn read(client: &Client, artifact: Artifact, max: u64) -> Result<Vec<u8>> {
    if artifact.size > max {
        return Err(Error::failed(format!(
            "the {} is larger than {max} bytes",
            artifact.kind.as_str()
        )));
    }
    let mut chunks = client.download(artifact).await?;
    let mut whole = Vec::new();
    while let Some(data) = next(artifact.kind, &mut chunks).await? {
        whole.extend_from_slice(&data);
        if whole.len() as u64 > artifact.size {
            return Err(Error::failed("the head sent more than it announced"));
        }
    }
    Ok(whole)
}

/// Writes an artifact into a file, and checks that it is what its name says.
pub async fn save(client: &Client, artifact: Artifact, path: &Path) -> Result<()> {
    use sha2::Digest as _;
    let failed = || format!("failed to write `{}`", path.display());
    let mut file = tokio::fs::File::create(path).await.or_failed(failed)?;
    let mut chunks = client.download(artifact).await?;
    let mut hasher = sha2::Sha256::new();
    while let Some(data) = next(artifact.kind, &mut chunks).await? {
        hasher.update(&data);
        file.write_all(&data).await.or_failed(failed)?;
    }
    file.flush().await.or_failed(failed)?;
    if <[u8; 32]>::from(hasher.finalize()) != artifact.digest.0 {
        return Err(Error::failed(format!(
            "the {} did not arrive whole",
            artifact.kind.as_str()
        ))
        .hint("try again"));
    }
    Ok(())
}

async fn next(
    kind: ArtifactKind,
    chunks: &mut Streaming<v1::DownloadChunk>,
) -> Result<Option<bytes::Bytes>> {
    let chunk = chunks.message().await.map_err(|s| unreadable(kind, &s))?;
    Ok(chunk.map(|chunk| chunk.data))
}

/// Why an artifact does not come. A task names it, so that one which the head does not know was stored
/// there once and is lost.
pub fn unreadable(kind: ArtifactKind, status: &Status) -> Error {
    match status.code() {
        Code::NotFound | Code::DataLoss => {
            let (kind, why) = (kind.as_str(), status.message());
            Error::failed(format!("the {kind} cannot be read: {why}")).hint(NAMES_LOSSES)
        }
        _ => status_error(status),
    }
}
