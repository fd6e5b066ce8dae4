//! Sends files to the head by their hash, each once, and only those that it does not have.

use std::{
    collections::BTreeMap,
    io::{Read, SeekFrom},
    path::{Path, PathBuf},
};

use bytes::{Bytes, BytesMut};
use orchestra_proto::v1;
use orchestra_repo::Temporary;
use orchestra_types::{Artifact, ArtifactKind, Digest, limits};
use sha2::Digest as _;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tonic::Code;

use crate::{
    client::{Client, patiently},
    error::{OrFailed, Result},
};

/// Files to send.
#[derive(Debug, Default)]
pub struct Uploads {
    files: BTreeMap<Digest, (Artifact, PathBuf)>,
    /// Files that exist only to be sent; they vanish with this value.
    scratch: Vec<Temporary>,
}

/// Those of `artifacts` that the head does not have.
pub async fn missing(client: &Client, artifacts: &[Artifact]) -> Result<Vec<Artifact>> {
    if artifacts.is_empty() {
        return Ok(Vec::new());
    }
    let bulk = client.bulk().await?;
    let digests = artifacts.iter().map(|a| a.digest.0.to_vec()).collect();
    let request = v1::HaveRequest { digests };
    let answer = patiently(async || bulk.clone().have(request.clone()).await).await?;
    let pairs = artifacts.iter().zip(answer.have);
    Ok(pairs
        .filter(|(_, have)| !have)
        .map(|(artifact, _)| *artifact)
        .collect())
}

impl Uploads {
    /// A path for a file that is made only to be sent.
    pub fn scratch(&mut self) -> Result<PathBuf> {
        Ok(self.directory()?.join("file"))
    }

    /// A directory for such files.
    pub fn directory(&mut self) -> Result<PathBuf> {
        let dir =
            Temporary::new().or_failed(|| "failed to make a temporary directory".to_owned())?;
        let path = dir.path().to_owned();
        self.scratch.push(dir);
        Ok(path)
    }

    /// Notes a file and gives its name by content.
    pub async fn add(&mut self, kind: ArtifactKind, path: PathBuf) -> Result<Artifact> {
        let of = path.clone();
        let hashed = tokio::task::spawn_blocking(move || hash(&of)).await;
        let (digest, size) = hashed
            .or_failed(|| "failed to hash a file".to_owned())?
            .or_failed(|| format!("failed to read `{}`", path.display()))?;
        let artifact = Artifact { kind, digest, size };
        self.files.insert(digest, (artifact, path));
        Ok(artifact)
    }

    /// Sends what the head does not have yet.
    pub async fn send(self, client: &Client) -> Result<()> {
        let artifacts: Vec<Artifact> = self.files.values().map(|(artifact, _)| *artifact).collect();
        let missing = missing(client, &artifacts).await?;
        if missing.is_empty() {
            return Ok(());
        }
        let bulk = client.bulk().await?;
        for artifact in missing {
            let (_, path) = &self.files[&artifact.digest];
            patiently(async || {
                let mut bulk = bulk.clone();
                let digests = vec![artifact.digest.0.to_vec()];
                let have = bulk.have(v1::HaveRequest { digests }).await?.into_inner();
                let offset = have.partial.first().copied().unwrap_or(0);
                match bulk.upload(chunks(artifact, offset, path.clone())).await {
                    // What came earlier is gone, or was not right.
                    Err(status) if status.code() == Code::Aborted => {
                        bulk.upload(chunks(artifact, 0, path.clone())).await
                    }
                    done => done,
                }
            })
            .await?;
        }
        Ok(())
    }
}

/// The file in chunks, from `offset` on. A file that cannot be read to its end gives fewer bytes than announced,
/// which the head refuses.
fn chunks(
    artifact: Artifact,
    offset: u64,
    path: PathBuf,
) -> impl futures::Stream<Item = v1::UploadChunk> + Send + 'static {
    enum Place {
        Start(Artifact, u64, PathBuf),
        Inside(tokio::fs::File),
    }
    futures::stream::unfold(
        Place::Start(artifact, offset, path),
        async |place| match place {
            Place::Start(artifact, offset, path) => {
                let mut file = tokio::fs::File::open(path).await.ok()?;
                file.seek(SeekFrom::Start(offset)).await.ok()?;
                let data = read_chunk(&mut file).await?;
                let first = v1::UploadChunk {
                    artifact: Some(artifact.into()),
                    data,
                    offset,
                };
                Some((first, Place::Inside(file)))
            }
            Place::Inside(mut file) => {
                let data = read_chunk(&mut file)
                    .await
                    .filter(|data| !data.is_empty())?;
                Some((
                    v1::UploadChunk {
                        artifact: None,
                        data,
                        offset: 0,
                    },
                    Place::Inside(file),
                ))
            }
        },
    )
}

async fn read_chunk(file: &mut tokio::fs::File) -> Option<Bytes> {
    let mut buffer = BytesMut::with_capacity(limits::CHUNK_BYTES);
    while buffer.len() < limits::CHUNK_BYTES {
        if file.read_buf(&mut buffer).await.ok()? == 0 {
            break;
        }
    }
    Some(buffer.freeze())
}

fn hash(path: &Path) -> std::io::Result<(Digest, u64)> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; limits::CHUNK_BYTES];
    let mut size = 0;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok((Digest(hasher.finalize().into()), size));
        }
        hasher.update(&buffer[..count]);
        size += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    #[tokio::test]
    async fn the_first_chunk_names_the_artifact_and_all_together_are_the_file() {
        let dir = tempfile::tempdir().unwrap();
        for size in [0, 10, limits::CHUNK_BYTES, limits::CHUNK_BYTES * 2 + 1] {
            let path = dir.path().join("file");
            let content: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
            std::fs::write(&path, &content).unwrap();
            let mut uploads = Uploads::default();
            let artifact = uploads
                .add(ArtifactKind::Context, path.clone())
                .await
                .unwrap();
            let rest: Vec<_> = chunks(artifact, size as u64 / 2, path.clone())
                .collect()
                .await;
            assert_eq!(rest[0].offset, size as u64 / 2);
            let rest: Vec<u8> = rest.iter().flat_map(|c| c.data.to_vec()).collect();
            assert_eq!(rest, content[size / 2..]);
            let sent: Vec<_> = chunks(artifact, 0, path).collect().await;
            assert_eq!(sent[0].artifact, Some(artifact.into()));
            assert!(sent[1..].iter().all(|c| c.artifact.is_none()));
            let joined: Vec<u8> = sent.iter().flat_map(|c| c.data.to_vec()).collect();
            assert_eq!((joined.len() as u64, joined), (artifact.size, content));
        }
    }
}
