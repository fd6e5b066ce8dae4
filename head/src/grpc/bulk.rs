//! The Bulk service: stored bytes up and down, and events up.

use std::sync::Arc;

use bytes::Bytes;
use orchestra_proto::{
    Refused, convert,
    v1::{self, bulk_server},
};
use orchestra_types::{Artifact, Digest};
use tokio::sync::mpsc;
use tonic::{Request, Response, Streaming};

use super::{
    Services, push,
    status::{self, Result},
    stream::{self, Answers, Stream},
};
use crate::blobs::{self, Blobs};

/// Chunks that wait for the disk; the sender then waits too.
const CHUNKS_BOUND: usize = 16;
/// Most digests in one question.
const HAVE_MAX: usize = 10_000;

/// The Bulk service.
pub(super) struct Bulk {
    pub services: Arc<Services>,
}

#[tonic::async_trait]
impl bulk_server::Bulk for Bulk {
    async fn upload(
        &self,
        request: Request<Streaming<v1::UploadChunk>>,
    ) -> Result<Response<v1::Artifact>> {
        let artifact = upload(&self.services, request.into_inner()).await?;
        Ok(Response::new(artifact.into()))
    }

    type DownloadStream = Stream<v1::DownloadChunk>;

    async fn download(
        &self,
        request: Request<v1::DownloadRequest>,
    ) -> Result<Response<Self::DownloadStream>> {
        let request = request.into_inner();
        let digest = convert::digest("digest", &request.digest).map_err(|e| status::refused(&e))?;
        let blobs = self.services.blobs.clone();
        let opened =
            tokio::task::spawn_blocking(move || blobs.reader(&digest, request.offset)).await;
        let opened = opened.map_err(|_| status::internal("failed to open the bytes"))?;
        let reader = opened.map_err(|e| status::blobs(&e))?;
        let stream = stream::produce(&self.services, |answers| send_chunks(reader, answers));
        Ok(Response::new(stream))
    }

    async fn have(&self, request: Request<v1::HaveRequest>) -> Result<Response<v1::HaveResponse>> {
        let digests = request.into_inner().digests;
        if digests.len() > HAVE_MAX {
            let why = format!("more than {HAVE_MAX}; ask in parts");
            return Err(status::refused(&Refused::new("digests", why)));
        }
        let digests = digests
            .iter()
            .map(|digest| convert::digest("digests", digest));
        let digests: Vec<Digest> = digests
            .collect::<std::result::Result<_, _>>()
            .map_err(|e| status::refused(&e))?;
        let blobs = self.services.blobs.clone();
        let look = move || v1::HaveResponse {
            have: digests.iter().map(|digest| blobs.has(digest)).collect(),
            partial: digests.iter().map(|d| blobs.partial(d)).collect(),
        };
        let have = tokio::task::spawn_blocking(look).await;
        let have = have.map_err(|_| status::internal("failed to look for the bytes"))?;
        Ok(Response::new(have))
    }

    type PushEventsStream = Stream<v1::EventAck>;

    async fn push_events(
        &self,
        request: Request<Streaming<v1::EventUpload>>,
    ) -> Result<Response<Self::PushEventsStream>> {
        let stream = push::start(Arc::clone(&self.services), request)?;
        Ok(Response::new(stream))
    }
}

async fn upload(services: &Services, mut inbound: Streaming<v1::UploadChunk>) -> Result<Artifact> {
    let first = inbound.message().await?;
    let first = first.ok_or_else(|| status::refused(&Refused::new("artifact", "is missing")))?;
    let artifact = convert::artifact("artifact", first.artifact);
    let artifact = artifact.map_err(|e| status::refused(&e))?;
    let offset = first.offset;
    let room = services.disk.room_for(artifact.size);
    room.map_err(|full| status::full(&full))?;
    let blobs = services.blobs.clone();
    let (chunks, waiting) = mpsc::channel(CHUNKS_BOUND);
    let writing = tokio::task::spawn_blocking(move || write(&blobs, artifact, offset, waiting));
    // A closed channel means that the writer has an answer already.
    let mut open = chunks.send(first.data).await.is_ok();
    while open {
        let Some(next) = inbound.message().await? else {
            break;
        };
        open = chunks.send(next.data).await.is_ok();
    }
    drop(chunks);
    let written = writing.await;
    let written = written.map_err(|_| status::internal("failed to store the bytes"))?;
    written.map_err(|error| match error {
        // The bytes before it may have been wrong: these may be right.
        blobs::Error::WrongHash { .. } if offset > 0 => status::start_over(&error),
        _ => status::blobs(&error),
    })?;
    Ok(artifact)
}

/// Writes chunks until there are no more. What is stored already is not written again.
fn write(
    blobs: &Blobs,
    artifact: Artifact,
    offset: u64,
    mut chunks: mpsc::Receiver<Bytes>,
) -> std::result::Result<(), blobs::Error> {
    if blobs.has(&artifact.digest) {
        return Ok(());
    }
    let mut writer = blobs.resume(artifact.digest, artifact.size, offset)?;
    while let Some(chunk) = chunks.blocking_recv() {
        writer.write(&chunk)?;
    }
    writer.finish()
}

async fn send_chunks(mut reader: blobs::Reader, answers: Answers<v1::DownloadChunk>) -> Result<()> {
    let mut total = reader.total();
    loop {
        let read = tokio::task::spawn_blocking(move || (reader.next_chunk(), reader)).await;
        let (chunk, returned) = read.map_err(|_| status::internal("failed to read the bytes"))?;
        reader = returned;
        let data = Bytes::from(chunk.map_err(|e| status::blobs(&e))?);
        let done = data.is_empty();
        // An empty file still says its size.
        if (!done || total > 0 || reader.total() == 0)
            && stream::send(&answers, v1::DownloadChunk { total, data })
                .await
                .is_err()
        {
            return Ok(());
        }
        if done {
            return Ok(());
        }
        total = 0;
    }
}
