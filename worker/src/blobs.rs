//! Content-addressed bytes to and from the head, verified by their hash on both ways.

mod cache;

pub use cache::{Cache, Held, remove_unused};

use std::{
    fs::File,
    io::{self, Read, Seek},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use orchestra_proto::v1;
use orchestra_types::{Artifact, ArtifactKind, Digest, limits};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;

use crate::bulk::{Bulk, DialError};

/// Chunks between the disk and the network.
const CHUNKS_BOUND: usize = 8;

/// Why bytes did not travel.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The head could not be reached.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The head refused, or the connection broke.
    #[error("the transfer failed: {}", .0.message())]
    Call(Box<tonic::Status>),
    /// The local file cannot be read or written.
    #[error("failed to {doing} `{path}`")]
    File {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What came is not what was asked for.
    #[error("the head sent other bytes than those of {0}")]
    WrongBytes(Digest),
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        Self::Call(Box::new(status))
    }
}

impl Error {
    /// Whether the same transfer may work later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        use tonic::Code;
        match self {
            Self::Dial(_) => true,
            Self::Call(status) => !matches!(
                status.code(),
                Code::InvalidArgument
                    | Code::FailedPrecondition
                    | Code::OutOfRange
                    | Code::NotFound
                    | Code::PermissionDenied
                    | Code::Unimplemented
                    // What the head has stored is damaged, or was sent with another hash than it has.
                    | Code::DataLoss
            ),
            Self::File { .. } | Self::WrongBytes(_) => false,
        }
    }
}

/// Names a file's bytes. Reads the whole file: call it from a blocking thread.
pub fn describe(kind: ArtifactKind, path: &Path) -> io::Result<Artifact> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; limits::CHUNK_BYTES];
    let mut size = 0;
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        hasher.update(&buffer[..n]);
        size += n as u64;
    }
    Ok(Artifact {
        kind,
        digest: Digest(hasher.finalize().into()),
        size,
    })
}

/// What the head lacks of these, and how much of each it has already.
pub async fn lacking(bulk: &Bulk, artifacts: &[Artifact]) -> Result<Vec<(Artifact, u64)>, Error> {
    let mut client = bulk.client().await?;
    let digests = artifacts.iter().map(|artifact| artifact.digest.0.to_vec());
    let request = v1::HaveRequest {
        digests: digests.collect(),
    };
    let answer = client.have(request).await;
    let answer = forget_broken(bulk, answer).await?.into_inner();
    let has = |place: usize| answer.have.get(place) == Some(&true);
    let part = |place: usize| answer.partial.get(place).copied().unwrap_or(0);
    let all = artifacts.iter().enumerate();
    let lacking = all.filter(|(place, _)| !has(*place));
    Ok(lacking.map(|(n, artifact)| (*artifact, part(n))).collect())
}

/// Stores a file at the head, which has its bytes up to `offset`.
pub async fn upload(
    bulk: &Bulk,
    artifact: Artifact,
    path: &Path,
    offset: u64,
) -> Result<(), Error> {
    let mut client = bulk.client().await?;
    let (chunks, outgoing) = mpsc::channel(CHUNKS_BOUND);
    let source = path.to_owned();
    let reader =
        tokio::task::spawn_blocking(move || send_chunks(artifact, offset, &source, &chunks));
    let reader = AbortOnDropHandle::new(reader);
    let answer = client.upload(ReceiverStream::new(outgoing)).await;
    let answer = forget_broken(bulk, answer).await;
    // A file that could not be read ends the stream early: that is the error to tell.
    reader
        .await
        .map_err(io::Error::other)
        .flatten()
        .map_err(|source| Error::File {
            doing: "read",
            path: path.to_owned(),
            source,
        })?;
    answer?;
    Ok(())
}

/// After a call that failed the next one dials anew.
async fn forget_broken<T>(
    bulk: &Bulk,
    answer: Result<T, tonic::Status>,
) -> Result<T, tonic::Status> {
    if answer.is_err() {
        bulk.forget().await;
    }
    answer
}

fn send_chunks(
    artifact: Artifact,
    offset: u64,
    path: &Path,
    chunks: &mpsc::Sender<v1::UploadChunk>,
) -> io::Result<()> {
    let mut file = File::open(path)?;
    file.seek(io::SeekFrom::Start(offset))?;
    let mut file = file.take(artifact.size.saturating_sub(offset));
    let mut first = Some(v1::Artifact::from(artifact));
    loop {
        let mut buffer = vec![0; limits::CHUNK_BYTES];
        let n = file.read(&mut buffer)?;
        if n == 0 && first.is_none() {
            return Ok(());
        }
        buffer.truncate(n);
        let chunk = v1::UploadChunk {
            offset: if first.is_some() { offset } else { 0 },
            artifact: first.take(),
            data: Bytes::from(buffer),
        };
        if chunks.blocking_send(chunk).is_err() {
            // The call ended; its answer says why.
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_head_has_of_a_file_is_not_sent_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let content: Vec<u8> = (0..limits::CHUNK_BYTES * 2)
            .map(|n| (n % 251) as u8)
            .collect();
        std::fs::write(&path, &content).unwrap();
        let artifact = describe(ArtifactKind::Bundle, &path).unwrap();
        for offset in [0, 1, content.len() - 1, content.len()] {
            let (chunks, mut sent) = mpsc::channel(10);
            send_chunks(artifact, offset as u64, &path, &chunks).unwrap();
            drop(chunks);
            let first = sent.blocking_recv().unwrap();
            assert_eq!(first.artifact, Some(artifact.into()));
            assert_eq!(first.offset, offset as u64);
            let mut bytes = first.data.to_vec();
            while let Some(chunk) = sent.blocking_recv() {
                assert_eq!((chunk.artifact, chunk.offset), (None, 0));
                bytes.extend(chunk.data);
            }
            assert_eq!(bytes, content[offset..]);
        }
    }
}
