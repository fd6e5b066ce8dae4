//! The Bulk service: stored bytes up and down, and events up.

use std::sync::Arc;

use bytes::Bytes;
use orchestra_proto::{
    Refused, convert,
    v1::{self, bulk_server},
};
use orchestra_types::Digest;
use tonic::{Request, Response, Streaming};

use super::{
    Services, push, receive,
    status::{self, Result},
    stream::{self, Answers, Stream},
};
use crate::{blobs, security};

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
        let services = &self.services;
        let upload = services.uploads.begin(security::caller(&request)?)?;
        let inbound = request.into_inner();
        let artifact = receive::receive(&services.blobs, &services.disk, upload, inbound).await?;
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
