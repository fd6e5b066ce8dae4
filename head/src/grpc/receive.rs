//! Takes one upload in: chunks from the network, then to the disk in turns.
//!
//! A thread is taken for what has come, and given back when it is written. Chunks go on coming
//! meanwhile. An upload that ends early, however it ends, leaves what it has brought for the next one
//! to go on from.

use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt, future::OptionFuture};
use orchestra_proto::{Refused, convert, v1};
use orchestra_types::Artifact;
use tokio::{task::JoinHandle, time::timeout};

use super::{
    status::{self, Result},
    uploads::{Turn, Upload},
};
use crate::{
    blobs::{self, Blobs, Writer},
    disk::Disk,
};

/// Chunks that wait for the disk; the sender then waits too.
const CHUNKS_BOUND: usize = 16;
/// How long the next chunk may take.
const CHUNK_WITHIN: Duration = Duration::from_secs(120);

type Written = std::result::Result<Place, blobs::Error>;

/// Stores what comes. The answer comes when it is durable.
pub(super) async fn receive(
    blobs: &Blobs,
    disk: &Disk,
    upload: Upload,
    mut inbound: impl Stream<Item = Result<v1::UploadChunk>> + Unpin,
) -> Result<Artifact> {
    let first = next(&mut inbound).await?;
    let first = first.ok_or_else(|| status::refused(&Refused::new("artifact", "is missing")))?;
    let artifact = convert::artifact("artifact", first.artifact);
    let artifact = artifact.map_err(|e| status::refused(&e))?;
    let room = disk.room_for(artifact.size);
    room.map_err(|full| status::full(&full))?;
    let place = Place::Announced {
        blobs: blobs.clone(),
        artifact,
        offset: first.offset,
    };
    let place = write_all(place, first.data, &upload, &mut inbound).await?;
    let written = on_thread(upload.turn().await?, move || place.finish()).await;
    let written = written.map_err(|_| failed())?;
    written.map_err(|error| refuse(&error, first.offset))?;
    Ok(artifact)
}

/// Writes until there is nothing more, or until it is known that it is stored already.
async fn write_all(
    place: Place,
    first: Bytes,
    upload: &Upload,
    inbound: &mut (impl Stream<Item = Result<v1::UploadChunk>> + Unpin),
) -> Result<Place> {
    let offset = place.offset();
    let (mut place, mut writing) = (Some(place), OptionFuture::default());
    let (mut chunks, mut ended) = (vec![first], false);
    loop {
        match place.take() {
            Some(Place::Stored) => return Ok(Place::Stored),
            Some(idle) if chunks.is_empty() && ended => return Ok(idle),
            Some(idle) if chunks.is_empty() => place = Some(idle),
            Some(idle) => {
                // What came does not wait for what has not.
                let turn = upload.turn().await?;
                let chunks = std::mem::take(&mut chunks);
                writing = Some(on_thread(turn, move || idle.write(&chunks))).into();
            }
            None => {}
        }
        tokio::select! {
            Some(written) = &mut writing, if place.is_none() => {
                let written: Written = written.map_err(|_| failed())?;
                place = Some(written.map_err(|error| refuse(&error, offset))?);
            }
            came = next(inbound), if !ended && chunks.len() < CHUNKS_BOUND => match came? {
                Some(chunk) => chunks.push(chunk.data),
                None => ended = true,
            }
        }
    }
}

/// The next message; an error when nothing comes for too long.
async fn next(
    inbound: &mut (impl Stream<Item = Result<v1::UploadChunk>> + Unpin),
) -> Result<Option<v1::UploadChunk>> {
    let next = timeout(CHUNK_WITHIN, inbound.next()).await;
    next.map_err(|_| status::silent_upload(CHUNK_WITHIN))?
        .transpose()
}

fn on_thread<T: Send + 'static>(
    turn: Turn,
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    tokio::task::spawn_blocking(move || {
        let done = work();
        drop(turn);
        done
    })
}

fn failed() -> tonic::Status {
    status::internal("failed to store the bytes")
}

fn refuse(error: &blobs::Error, offset: u64) -> tonic::Status {
    match error {
        // The bytes before it may have been wrong: these may be right.
        blobs::Error::WrongHash { .. } if offset > 0 => status::start_over(error),
        _ => status::blobs(error),
    }
}

/// Where the bytes go.
#[derive(Debug)]
enum Place {
    Announced {
        blobs: Blobs,
        artifact: Artifact,
        offset: u64,
    },
    Open(Kept),
    /// They are there already and are not written again.
    Stored,
}

impl Place {
    fn offset(&self) -> u64 {
        match self {
            Self::Announced { offset, .. } => *offset,
            Self::Open(_) | Self::Stored => 0,
        }
    }

    fn write(self, chunks: &[Bytes]) -> Written {
        let mut kept = match self.open()? {
            Self::Open(kept) => kept,
            other @ (Self::Stored | Self::Announced { .. }) => return Ok(other),
        };
        for chunk in chunks {
            kept.write(chunk)?;
        }
        Ok(Self::Open(kept))
    }

    fn finish(self) -> std::result::Result<(), blobs::Error> {
        match self {
            Self::Open(kept) => kept.finish(),
            Self::Stored | Self::Announced { .. } => Ok(()),
        }
    }

    fn open(self) -> Written {
        match self {
            Self::Announced {
                blobs,
                artifact: Artifact { digest, size, .. },
                offset,
            } => Ok(if blobs.has(&digest) {
                Self::Stored
            } else {
                Self::Open(Kept(Some(blobs.resume(digest, size, offset)?)))
            }),
            open @ (Self::Open(_) | Self::Stored) => Ok(open),
        }
    }
}

/// A writer whose bytes stay for the next upload when it is dropped.
#[derive(Debug)]
struct Kept(Option<Writer>);

impl Kept {
    fn write(&mut self, chunk: &[u8]) -> std::result::Result<(), blobs::Error> {
        let written = self.0.as_mut().map_or(Ok(()), |writer| writer.write(chunk));
        // What is wrong already is not gone on with.
        written.inspect_err(|_| self.0 = None)
    }

    fn finish(mut self) -> std::result::Result<(), blobs::Error> {
        self.0.take().map_or(Ok(()), Writer::finish)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(writer) = self.0.take() {
            writer.keep();
        }
    }
}

#[cfg(test)]
mod tests {
    use orchestra_types::{ArtifactKind, Digest};
    use sha2::{Digest as _, Sha256};
    use tokio::{sync::mpsc, task::JoinSet};
    use tokio_stream::wrappers::ReceiverStream;
    use tonic::Code;

    use super::{super::uploads::Uploads, *};
    use crate::security::Identity;

    struct Head {
        dir: tempfile::TempDir,
        blobs: Blobs,
        uploads: Uploads,
        calls: JoinSet<Result<Artifact>>,
    }

    type Sender = mpsc::Sender<Result<v1::UploadChunk>>;

    impl Head {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            Self {
                blobs: Blobs::open(&dir.path().join("blobs")).unwrap(),
                uploads: Uploads::default(),
                calls: JoinSet::new(),
                dir,
            }
        }

        fn upload(&mut self) -> Sender {
            let (chunks, inbound) = mpsc::channel(4);
            let upload = self.uploads.begin(&Identity::admin("me")).unwrap();
            let disk = Disk::watch(self.dir.path(), Some(0));
            let blobs = self.blobs.clone();
            let stream = ReceiverStream::new(inbound);
            self.calls
                .spawn(async move { receive(&blobs, &disk, upload, stream).await });
            chunks
        }

        async fn answer(&mut self) -> Result<Artifact> {
            self.calls.join_next().await.unwrap().unwrap()
        }
    }

    fn artifact(bytes: &[u8]) -> Artifact {
        Artifact {
            kind: ArtifactKind::Patch,
            digest: Digest(Sha256::digest(bytes).into()),
            size: bytes.len() as u64,
        }
    }

    fn chunk(artifact: Option<Artifact>, offset: u64, data: &[u8]) -> Result<v1::UploadChunk> {
        Ok(v1::UploadChunk {
            artifact: artifact.map(Into::into),
            offset,
            data: Bytes::copy_from_slice(data),
        })
    }

    #[tokio::test]
    async fn chunks_are_stored_in_their_order() {
        let mut head = Head::new();
        let bytes: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        let whole = artifact(&bytes);
        let chunks = head.upload();
        for (n, data) in bytes.chunks(1000).enumerate() {
            let first = (n == 0).then_some(whole);
            chunks.send(chunk(first, 0, data)).await.unwrap();
        }
        drop(chunks);
        assert_eq!(head.answer().await.unwrap(), whole);
        assert_eq!(head.blobs.read(&whole.digest, u64::MAX).unwrap(), bytes);
        // Again: the answer comes before all of it was sent.
        let chunks = head.upload();
        chunks.send(chunk(Some(whole), 0, b"")).await.unwrap();
        assert_eq!(head.answer().await.unwrap(), whole);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_upload_ends_and_the_next_one_goes_on_from_it() {
        let mut head = Head::new();
        let whole = artifact(b"first second");
        let chunks = head.upload();
        chunks.send(chunk(Some(whole), 0, b"first ")).await.unwrap();
        let silent = head.answer().await.unwrap_err();
        assert_eq!(silent.code(), Code::Unavailable, "{silent}");
        assert_eq!(head.blobs.partial(&whole.digest), 6);
        let chunks = head.upload();
        chunks.send(chunk(Some(whole), 6, b"second")).await.unwrap();
        drop(chunks);
        head.answer().await.unwrap();
        assert!(head.blobs.has(&whole.digest));
    }

    #[tokio::test(start_paused = true)]
    async fn an_upload_that_never_says_what_it_is_ends() {
        let mut head = Head::new();
        let _chunks = head.upload();
        assert_eq!(head.answer().await.unwrap_err().code(), Code::Unavailable);
    }

    #[tokio::test]
    async fn a_call_that_is_dropped_leaves_what_it_has_brought() {
        let mut head = Head::new();
        let whole = artifact(b"first second");
        let chunks = head.upload();
        chunks.send(chunk(Some(whole), 0, b"first ")).await.unwrap();
        while chunks.capacity() < chunks.max_capacity() {
            tokio::task::yield_now().await;
        }
        head.calls.shutdown().await;
        // What is being written still is kept when it is written.
        while head.blobs.partial(&whole.digest) != 6 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn too_many_bytes_and_wrong_bytes_leave_nothing() {
        let mut head = Head::new();
        let whole = artifact(b"right");
        for (data, code) in [(&b"wrong"[..], Code::DataLoss), (b"right!", Code::DataLoss)] {
            let chunks = head.upload();
            chunks.send(chunk(Some(whole), 0, data)).await.unwrap();
            drop(chunks);
            assert_eq!(head.answer().await.unwrap_err().code(), code);
            assert_eq!(head.blobs.partial(&whole.digest), 0);
        }
    }

    /// With a thread for each, as before, these would have none left.
    #[test]
    fn idle_uploads_hold_no_thread() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(4)
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut head = Head::new();
            let mut idle = Vec::new();
            for n in 0..100_u32 {
                let chunks = head.upload();
                let whole = artifact(&n.to_le_bytes());
                chunks.send(chunk(Some(whole), 0, b"")).await.unwrap();
                idle.push(chunks);
            }
            let whole = artifact(b"of another");
            let chunks = head.upload();
            chunks
                .send(chunk(Some(whole), 0, b"of another"))
                .await
                .unwrap();
            drop(chunks);
            assert_eq!(head.answer().await.unwrap(), whole);
            drop(idle);
        });
    }
}
