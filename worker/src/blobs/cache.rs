//! Bytes from the head, kept in a directory under their hash. A transfer that was cut goes on where it
//! stopped, after a restart as well.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
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
    pub async fn fetch(&self, bulk: &Bulk, digest: Digest) -> Result<Held, Error> {
        let path = self.dir.join(digest.to_string());
        if let Some(held) = Held::take(&path) {
            return Ok(held);
        }
        let _alone = self.transfer.lock().await;
        if let Some(held) = Held::take(&path) {
            return Ok(held);
        }
        let done = self.download(bulk, digest, path).await;
        if let Err(Error::Call(_)) = &done {
            bulk.forget().await;
        }
        done
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

    async fn download(&self, bulk: &Bulk, digest: Digest, path: PathBuf) -> Result<Held, Error> {
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

/// A file with a lock, which ends with this: a child that another thread has just made may have the file
/// open a little longer.
#[derive(Debug)]
struct Locked(File);

impl Drop for Locked {
    fn drop(&mut self) {
        // Else it ends when nobody has it open any more.
        let _later = self.0.unlock();
    }
}

/// A file of the cache that stays while this lives.
#[derive(Debug)]
pub struct Held {
    path: PathBuf,
    _file: Locked,
}

impl Held {
    /// It is used now, which the housekeeping looks at; none where it is not there, or goes right now.
    fn take(path: &Path) -> Option<Self> {
        let file = File::options().write(true).open(path).ok()?;
        file.lock_shared().ok()?;
        let file = Locked(file);
        file.0.set_modified(SystemTime::now()).ok()?;
        // It may have gone between the two.
        let is_there = file.0.metadata().is_ok_and(|meta| meta.nlink() > 0);
        is_there.then(|| Self {
            path: path.to_owned(),
            _file: file,
        })
    }
}

impl AsRef<Path> for Held {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

/// Removes a file that was not used for so long, unless somebody uses it; whether it is gone.
pub fn remove_unused(path: &Path, idle: Duration) -> io::Result<bool> {
    let file = File::open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(false),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let file = Locked(file);
    if file.0.metadata()?.modified()?.elapsed().unwrap_or_default() < idle {
        return Ok(false);
    }
    fs::remove_file(path).map(|()| true)
}

/// What has come so far. It stays while this lives.
struct Part {
    path: PathBuf,
    file: Locked,
    hasher: Sha256,
    size: u64,
}

impl Part {
    /// What has come before is read once more, since it is a part of the hash; the file then stands at
    /// its end.
    fn open(path: PathBuf) -> Result<Self, Error> {
        let mut file = open_held(&path).map_err(failed("open", &path))?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; limits::CHUNK_BYTES];
        let mut size = 0;
        loop {
            let read = file.0.read(&mut buffer).map_err(failed("read", &path))?;
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
        let wrote = self.file.0.write_all(data);
        wrote.map_err(failed("write", &self.path))?;
        self.hasher.update(data);
        self.size += data.len() as u64;
        Ok(())
    }

    /// Gives the bytes their name, when they are those of it.
    fn finish(mut self, digest: Digest, path: PathBuf) -> Result<Held, Error> {
        let hasher = std::mem::take(&mut self.hasher);
        if Digest(hasher.finalize().into()) != digest {
            return self.refuse(digest);
        }
        self.file.0.sync_all().map_err(failed("sync", &self.path))?;
        fs::rename(&self.path, &path).map_err(failed("keep", &path))?;
        let _file = self.file;
        Ok(Held { path, _file })
    }

    /// The next transfer begins anew.
    fn refuse(self, digest: Digest) -> Result<Held, Error> {
        fs::remove_file(&self.path).map_err(failed("remove", &self.path))?;
        Err(Error::WrongBytes(digest))
    }
}

/// Opens a file, made when it is not there, that nobody removes.
fn open_held(path: &Path) -> io::Result<Locked> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600);
    loop {
        let file = options.open(path)?;
        file.lock_shared()?;
        let file = Locked(file);
        // It may have gone between the two.
        if file.0.metadata()?.nlink() > 0 {
            return Ok(file);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_stays_and_goes_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bundle");
        assert!(Held::take(&path).is_none());
        fs::write(&path, "bytes").unwrap();
        let held = (Held::take(&path).unwrap(), Held::take(&path).unwrap());
        assert!(!remove_unused(&path, Duration::ZERO).unwrap());
        assert_eq!(fs::read(held.1.as_ref()).unwrap(), b"bytes");
        drop(held);
        assert!(!remove_unused(&path, Duration::from_secs(60)).unwrap());
        assert!(remove_unused(&path, Duration::ZERO).unwrap());
        assert!(Held::take(&path).is_none());
        let part = Part::open(path.clone()).unwrap();
        assert!(!remove_unused(&path, Duration::ZERO).unwrap());
        drop(part);
        assert!(remove_unused(&path, Duration::ZERO).unwrap());
    }
}
