//! Measures how fast a file goes to the built head and comes back over its bulk service, durable and
//! checked by its hash, beside a plain copy of the same bytes through TLS into a file. Prints one JSON
//! document. Client and head share the processors, as client and server of the copy do.
//!
//! `cargo run --release -p orchestra-head --example transfer -- target/release/orchestra-head [MIB [ROUNDS]]`

#[expect(dead_code, reason = "the tests use the rest of it")]
#[path = "../../tests/support/mod.rs"]
mod support;

mod copy;

use std::{
    fs::File,
    io::{Read, Write},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use bytes::Bytes;
use orchestra_proto::v1::{self, bulk_client::BulkClient};
use orchestra_types::{Artifact, ArtifactKind, Digest, limits};
use ring::rand::SecureRandom;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use support::Head;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

const MIB: usize = 256;
const ROUNDS: usize = 5;
/// Chunks between the disk and the network, as a worker has them.
const CHUNKS_BOUND: usize = 8;

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args_os().skip(1);
    let binary = args.next().context("name the built orchestra-head")?;
    let number = |arg: Option<std::ffi::OsString>, default| {
        arg.map_or(Ok(default), |text| text.to_string_lossy().parse())
    };
    let mib: usize = number(args.next(), MIB)?;
    let rounds = number(args.next(), ROUNDS)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let head = runtime.block_on(Head::start_binary(&binary));
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("from");
    let copy = copy::Pair::new()?;
    let (mut plain, mut up, mut down) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        // New bytes each time: what the head has is not sent again.
        fill(&file, mib)?;
        plain.push(copy.run(&file, &dir.path().join("to"))?);
        let mut bulk = runtime.block_on(head.bulk());
        let (digest, took) = runtime.block_on(upload(&mut bulk, &file))?;
        up.push(took);
        down.push(runtime.block_on(download(&mut bulk, digest, &dir.path().join("back")))?);
    }
    let [plain, up, down] = [plain, up, down].map(|times| mb_per_second(mib, times));
    let document = json!({
        "mib": mib,
        "rounds": rounds,
        "plain_tls_copy_mb_per_second": plain.round(),
        "upload_mb_per_second": up.round(),
        "download_mb_per_second": down.round(),
        "upload_share_of_copy": (up / plain * 100.0).round() / 100.0,
        "download_share_of_copy": (down / plain * 100.0).round() / 100.0,
    });
    writeln!(std::io::stdout(), "{document:#}")?;
    Ok(())
}

/// The median.
fn mb_per_second(mib: usize, mut times: Vec<Duration>) -> f64 {
    times.sort();
    (mib << 20) as f64 / 1e6 / times[times.len() / 2].as_secs_f64()
}

fn fill(path: &Path, mib: usize) -> anyhow::Result<()> {
    let random = ring::rand::SystemRandom::new();
    let mut chunk = vec![0; 1 << 20];
    let mut file = File::create(path)?;
    for _ in 0..mib {
        let filled = random.fill(&mut chunk);
        filled.map_err(|_| anyhow::anyhow!("there is no randomness"))?;
        file.write_all(&chunk)?;
    }
    file.sync_all()?;
    Ok(())
}

/// Until the head has it on its disk. The name of the bytes is made before, as a worker does.
async fn upload(bulk: &mut BulkClient<Channel>, path: &Path) -> anyhow::Result<(Digest, Duration)> {
    let (digest, size) = describe(path)?;
    let artifact = v1::Artifact::from(Artifact {
        kind: ArtifactKind::Bundle,
        digest,
        size,
    });
    let began = Instant::now();
    let (chunks, outgoing) = mpsc::channel(CHUNKS_BOUND);
    let source = path.to_owned();
    let reader = tokio::task::spawn_blocking(move || read(&source, artifact, &chunks));
    bulk.upload(ReceiverStream::new(outgoing)).await?;
    reader.await??;
    Ok((digest, began.elapsed()))
}

fn describe(path: &Path) -> anyhow::Result<(Digest, u64)> {
    let bytes = std::fs::read(path)?;
    Ok((Digest(Sha256::digest(&bytes).into()), bytes.len() as u64))
}

fn read(
    path: &Path,
    artifact: v1::Artifact,
    chunks: &mpsc::Sender<v1::UploadChunk>,
) -> anyhow::Result<()> {
    let mut file = File::open(path)?;
    let mut artifact = Some(artifact);
    loop {
        let mut buffer = vec![0; limits::CHUNK_BYTES];
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(());
        }
        buffer.truncate(n);
        chunks.blocking_send(v1::UploadChunk {
            artifact: artifact.take(),
            data: Bytes::from(buffer),
            offset: 0,
        })?;
    }
}

/// Until it is on the disk here and its hash is right.
async fn download(
    bulk: &mut BulkClient<Channel>,
    digest: Digest,
    to: &Path,
) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let request = v1::DownloadRequest {
        digest: digest.0.to_vec(),
        offset: 0,
    };
    let mut stream = bulk.download(request).await?.into_inner();
    let (chunks, mut waiting) = mpsc::channel::<Bytes>(CHUNKS_BOUND);
    let to = to.to_owned();
    let writer = tokio::task::spawn_blocking(move || {
        let (mut file, mut hasher) = (File::create(to)?, Sha256::new());
        while let Some(chunk) = waiting.blocking_recv() {
            hasher.update(&chunk);
            file.write_all(&chunk)?;
        }
        file.sync_data()?;
        let found: [u8; 32] = hasher.finalize().into();
        anyhow::Ok(found)
    });
    while let Some(chunk) = stream.message().await? {
        chunks.send(chunk.data).await?;
    }
    drop(chunks);
    ensure!(writer.await?? == digest.0, "other bytes came");
    Ok(began.elapsed())
}
