//! Storing bytes: a temporary file, hash and size checked, fsync, rename, fsync of the directory.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use orchestra_types::Digest;
use sha2::{Digest as _, Sha256};

use super::{Blobs, Error, sync_dir, writeback};
use crate::points;

/// Bytes being stored. Dropped before `finish`, it leaves nothing.
#[derive(Debug)]
pub struct Writer {
    blobs: Blobs,
    digest: Digest,
    size: u64,
    part: Part,
}

/// What there is of them so far.
#[derive(Debug)]
pub(super) struct Part {
    temp: TempFile,
    hash: Sha256,
    pub written: u64,
}

impl Blobs {
    /// Begins to store bytes whose name and size are announced.
    pub fn writer(&self, digest: Digest, size: u64) -> Result<Writer, Error> {
        let number = self.inner.next_temp.fetch_add(1, Ordering::Relaxed);
        let temp = TempFile::create(self.temp_path(number))?;
        let part = Part {
            temp,
            hash: Sha256::new(),
            written: 0,
        };
        Ok(self.writer_on(digest, size, part))
    }

    /// Goes on to store bytes whose first `offset` came with an upload that was cut; from their
    /// beginning where that is 0.
    pub fn resume(&self, digest: Digest, size: u64, offset: u64) -> Result<Writer, Error> {
        let left = self.partials().take(&digest);
        match left {
            _ if offset == 0 => self.writer(digest, size),
            Some(part) if part.written == offset => Ok(self.writer_on(digest, size, part)),
            Some(_) | None => Err(Error::NoPartial { digest, offset }),
        }
    }

    fn writer_on(&self, digest: Digest, size: u64, part: Part) -> Writer {
        Writer {
            blobs: self.clone(),
            digest,
            size,
            part,
        }
    }

    /// Stores `bytes`. Returns when they are durable.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, Error> {
        let digest = Digest(Sha256::digest(bytes).into());
        if !self.has(&digest) {
            let mut writer = self.writer(digest, bytes.len() as u64)?;
            writer.write(bytes)?;
            writer.finish()?;
        }
        Ok(digest)
    }
}

impl Writer {
    /// Takes the next bytes. Refuses more than were announced at once.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let part = &mut self.part;
        part.written += bytes.len() as u64;
        if part.written > self.size {
            return Err(self.wrong_size());
        }
        part.hash.update(bytes);
        let written = points::reach("blob.write");
        let written = written.and_then(|()| part.temp.file.write_all(bytes));
        written.map_err(|source| Error::io("write", &part.temp.path, source))?;
        writeback::begin(&part.temp.file, part.written, bytes.len() as u64);
        Ok(())
    }

    /// No more bytes come: makes them durable under their name, if they are those that were
    /// announced. When there are too few, they wait for the rest.
    pub fn finish(self) -> Result<(), Error> {
        if self.part.written < self.size {
            let error = self.wrong_size();
            self.keep();
            return Err(error);
        }
        let found = Digest(self.part.hash.finalize().into());
        if found != self.digest {
            return Err(Error::WrongHash {
                announced: self.digest,
                found,
            });
        }
        let path = self.blobs.path(&self.digest);
        self.part
            .temp
            .publish(&path, &self.blobs)
            .map_err(|source| Error::io("store", &path, source))
    }

    /// Nothing more comes for now: what there is waits for the rest.
    pub fn keep(self) {
        self.blobs.partials().keep(self.digest, self.part);
    }

    fn wrong_size(&self) -> Error {
        Error::WrongSize {
            announced: self.size,
            found: self.part.written,
        }
    }
}

#[derive(Debug)]
struct TempFile {
    path: PathBuf,
    file: File,
}

impl TempFile {
    fn create(path: PathBuf) -> Result<Self, Error> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let opened = points::reach("blob.make").and_then(|()| options.open(&path));
        let file = opened.map_err(|source| Error::io("make", &path, source))?;
        Ok(Self { path, file })
    }

    fn publish(self, path: &Path, blobs: &Blobs) -> io::Result<()> {
        points::reach("blob.sync")?;
        self.file.sync_all()?;
        let dir = path.parent().expect("a blob lies in a fan-out directory");
        match fs::DirBuilder::new().mode(0o700).create(dir) {
            Ok(()) => sync_dir(&blobs.inner.root)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        {
            // What is stored anew must not go because of its old age.
            let _names = blobs.names();
            points::reach("blob.rename")?;
            fs::rename(&self.path, path)?;
        }
        sync_dir(dir)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        // After `publish` there is nothing to remove; an error leaves litter for the next start.
        let _ = fs::remove_file(&self.path);
    }
}
