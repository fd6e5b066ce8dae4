//! Bytes from the head, kept in a directory under their hash. A transfer that was cut goes on where it
//! stopped, after a restart as well.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use orchestra_config::durable;
use orchestra_proto::v1;
use orchestra_types::{ArtifactKind, Digest, limits};
use sha2::{Digest as _, Sha256};
use tokio::{sync::Mutex, task::spawn_blocking};

use super::Error;
use crate::bulk::Bulk;

/// How long fetched bytes are kept: what they carry is in a repository by then.
const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

/// Bytes from the head, kept in a directory under their hash.
#[derive(Clone, Debug)]
pub struct Cache {
    dir: PathBuf,
    /// One transfer at a time: two of the same bytes would write into one file.
    transfer: Arc<Mutex<()>>,
}

impl Cache {
    /// The cache in `dir`, without what has not been fetched for long. Whatever is in it can be
    /// fetched again, and nobody uses it yet.
    pub fn open(dir: PathBuf) -> io::Result<Self> {
        durable::create_private_dir(&dir)?;
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            let age = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
            if age > KEPT_FOR {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(Self {
            dir,
            transfer: Arc::default(),
        })
    }

    /// The file with these bytes, fetched when it is not there.
    pub async fn fetch(&self, bulk: &Bulk, digest: Digest) -> Result<PathBuf, Error> {
        let path = self.dir.join(digest.to_string());
        if touch(&path) {
            return Ok(path);
        }
        let _alone = self.transfer.lock().await;
        if touch(&path) {
            return Ok(path);
        }
        let done = self.download(bulk, digest, &path).await;
        if let Err(Error::Call(_)) = &done {
            bulk.forget().await;
        }
        done.map(|()| path)
    }

    /// Removes the file with these bytes when it has others, so that it is fetched again. Whether that was so.
    /// Reads the whole file.
    pub async fn remove_if_damaged(&self, digest: Digest) -> Result<bool, Error> {
        let path = self.dir.join(digest.to_string());
        let _alone = self.transfer.lock().await;
        let file = path.clone();
        let read = spawn_blocking(move || super::describe(ArtifactKind::Bundle, &file)).await;
        match read.map_err(io::Error::other).flatten() {
            Ok(found) if found.digest == digest => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Ok(_) | Err(_) => fs::remove_file(&path)
                .map(|()| true)
                .map_err(failed("remove", &path)),
        }
    }

    async fn download(&self, bulk: &Bulk, digest: Digest, path: &Path) -> Result<(), Error> {
        let mut client = bulk.client().await?;
        // Somebody may have removed the whole cache.
        durable::create_private_dir(&self.dir).map_err(failed("make", &self.dir))?;
        let mut part = Part::open(path.with_extension("part"))?;
        if part.size > 0 {
            tracing::debug!(%digest, offset = part.size, "a transfer goes on");
        }
        let request = v1::DownloadRequest {
            digest: digest.0.to_vec(),
            offset: part.size,
        };
        let mut chunks = client.download(request).await?.into_inner();
        while let Some(chunk) = chunks.message().await? {
            if part.size + chunk.data.len() as u64 > limits::ARTIFACT_BYTES_MAX {
                return part.refuse(digest);
            }
            part.add(&chunk.data)?;
        }
        part.finish(digest, path)
    }
}

/// Whether it is there; then it was used now, which the housekeeping looks at.
fn touch(path: &Path) -> bool {
    let file = File::options().write(true).open(path);
    file.and_then(|file| file.set_modified(SystemTime::now()))
        .is_ok()
}

/// What has come so far.
struct Part {
    path: PathBuf,
    file: File,
    hasher: Sha256,
    size: u64,
}

impl Part {
    /// What has come before is read once more, since it is a part of the hash; the file then stands at
    /// its end.
    fn open(path: PathBuf) -> Result<Self, Error> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed("open", &path))?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; limits::CHUNK_BYTES];
        let mut size = 0;
        loop {
            let read = file.read(&mut buffer).map_err(failed("read", &path))?;
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read]);
            size += read as u64;
        }
        Ok(Self {
            path,
            file,
            hasher,
            size,
        })
    }

    fn add(&mut self, data: &[u8]) -> Result<(), Error> {
        let wrote = self.file.write_all(data);
        wrote.map_err(failed("write", &self.path))?;
        self.hasher.update(data);
        self.size += data.len() as u64;
        Ok(())
    }

    /// Gives the bytes their name, when they are those of it.
    fn finish(mut self, digest: Digest, path: &Path) -> Result<(), Error> {
        let hasher = std::mem::take(&mut self.hasher);
        if Digest(hasher.finalize().into()) != digest {
            return self.refuse(digest);
        }
        self.file.sync_all().map_err(failed("sync", &self.path))?;
        fs::rename(&self.path, path).map_err(failed("keep", path))
    }

    /// The next transfer begins anew.
    fn refuse(self, digest: Digest) -> Result<(), Error> {
        fs::remove_file(&self.path).map_err(failed("remove", &self.path))?;
        Err(Error::WrongBytes(digest))
    }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::File {
        doing,
        path,
        source,
    }
}
