//! A backup, streamed while it is made.

use std::io;

use bytes::Bytes;
use orchestra_proto::v1;
use tokio::sync::{mpsc, oneshot};

use super::{
    Services,
    status::{self, Result},
    stream::{self, Answers, Stream},
};
use crate::{backup, engine::Clock};

/// Chunks that wait for the reader; the copy then waits too.
const CHUNKS_BOUND: usize = 16;
/// Size of a chunk.
const CHUNK_BYTES: usize = 256 * 1024;

pub(super) fn start(services: &Services, request: v1::BackupRequest) -> Stream<v1::BackupChunk> {
    let head = backup::Head {
        format: backup::FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        cluster: services.security.cluster().to_owned(),
        created_at_ms: Clock::start().now().0,
        keys: request.keys,
    };
    let source = backup::Source {
        engine: services.engine.clone(),
        runtime: tokio::runtime::Handle::current(),
        blobs: services.blobs.clone(),
        events: services.events.clone(),
        dir: orchestra_config::StateDir::new(&services.about.state_dir).head(),
        head,
    };
    let keeper = services.keeper.clone();
    stream::produce(services, |answers| async move {
        // Nothing that the backup still has to copy is removed meanwhile.
        let _hold = keeper.hold().await.map_err(|e| status::events(&e))?;
        make(source, answers).await
    })
}

async fn make(source: backup::Source, answers: Answers<v1::BackupChunk>) -> Result<()> {
    let (chunks, mut made) = mpsc::channel(CHUNKS_BOUND);
    let head = source.head.clone();
    let (about, told) = oneshot::channel();
    let making = tokio::task::spawn_blocking(move || {
        // Who asked may be gone.
        let _ = about.send(source.about_bytes());
        let out = io::BufWriter::with_capacity(CHUNK_BYTES, Chunks(chunks));
        source.copy_to(out)
    });
    let about_bytes = told.await.unwrap_or(0);
    while let Some(data) = made.recv().await {
        let chunk = v1::BackupChunk {
            data,
            summary: None,
            about_bytes,
        };
        let sent = stream::send(&answers, chunk).await;
        if sent.is_err() {
            // The copy sees that nobody takes it any more.
            drop(made);
            break;
        }
    }
    let made = making.await;
    let made = made.map_err(|_| status::internal("the making of the backup broke"))?;
    let made = made.map_err(|error| status::failed("failed to make the backup", &error))?;
    let summary = v1::BackupSummary {
        rows: made.rows,
        blobs: made.blobs,
        missing: made.missing,
        damaged: made.damaged,
        files: made.files,
        created_at_ms: head.created_at_ms,
        cluster: head.cluster,
    };
    let last = v1::BackupChunk {
        data: Bytes::new(),
        summary: Some(summary),
        about_bytes,
    };
    // The reader may be gone.
    let _ = stream::send(&answers, last).await;
    Ok(())
}

/// Writes into a channel, and waits while it is full.
struct Chunks(mpsc::Sender<Bytes>);

impl io::Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Bytes::copy_from_slice(bytes));
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
