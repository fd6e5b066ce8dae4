//! Reading stored bytes: never other ones than their name says.

use std::{
    fs::File,
    io::{self, Read},
    path::PathBuf,
};

use orchestra_types::{Digest, limits};
use sha2::{Digest as _, Sha256};

use super::{Blobs, Error};

/// What is passed over is read in pieces of this size.
const SKIP_BYTES: usize = 16 * 1024;

/// Stored bytes, open for reading.
///
/// The last chunk is given only after all bytes have been hashed, so that nobody takes damaged
/// bytes for whole ones.
#[derive(Debug)]
pub struct Reader {
    digest: Digest,
    path: PathBuf,
    file: File,
    hash: Sha256,
    total: u64,
    /// Read, and not given yet: it may be the last.
    ahead: Option<Vec<u8>>,
}

impl Reader {
    /// How many bytes there are in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The next chunk; empty at the end.
    pub fn next_chunk(&mut self) -> Result<Vec<u8>, Error> {
        let chunk = match self.ahead.take() {
            Some(chunk) => chunk,
            None => self.read_chunk()?,
        };
        if !chunk.is_empty() {
            self.ahead = Some(self.read_chunk()?);
        }
        Ok(chunk)
    }

    /// What is read is given only when the chunk behind it has been read as well.
    fn read_chunk(&mut self) -> Result<Vec<u8>, Error> {
        let mut chunk = Vec::with_capacity(limits::CHUNK_BYTES);
        let max = limits::CHUNK_BYTES as u64;
        let read = self.file.by_ref().take(max).read_to_end(&mut chunk);
        read.map_err(|source| Error::io("read", &self.path, source))?;
        self.hash.update(&chunk);
        if chunk.is_empty() {
            self.verify()?;
        }
        Ok(chunk)
    }

    /// Passes bytes over that are not wanted, but belong to the hash.
    fn skip(&mut self, bytes: u64) -> Result<(), Error> {
        let mut left = bytes;
        let mut buffer = [0; SKIP_BYTES];
        while left > 0 {
            let max = usize::try_from(left).map_or(SKIP_BYTES, |left| left.min(SKIP_BYTES));
            let read = self.file.read(&mut buffer[..max]);
            let read = read.map_err(|source| Error::io("read", &self.path, source))?;
            if read == 0 {
                break;
            }
            self.hash.update(&buffer[..read]);
            left -= read as u64;
        }
        Ok(())
    }

    fn verify(&self) -> Result<(), Error> {
        let found = Digest(self.hash.clone().finalize().into());
        if found == self.digest {
            return Ok(());
        }
        Err(Error::Damaged {
            path: self.path.clone(),
            found,
        })
    }
}

impl Blobs {
    /// Opens stored bytes from `offset` on.
    pub fn reader(&self, digest: &Digest, offset: u64) -> Result<Reader, Error> {
        let path = self.path(digest);
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => Error::Unknown(*digest),
            _ => Error::io("read", &path, source),
        };
        let file = File::open(&path).map_err(failed)?;
        let total = file.metadata().map_err(failed)?.len();
        let mut reader = Reader {
            digest: *digest,
            path,
            file,
            hash: Sha256::new(),
            total,
            ahead: None,
        };
        reader.skip(offset)?;
        Ok(reader)
    }

    /// Reads stored bytes whole, if they are at most `max`.
    pub fn read(&self, digest: &Digest, max: u64) -> Result<Vec<u8>, Error> {
        let mut reader = self.reader(digest, 0)?;
        let (digest, size) = (*digest, reader.total());
        if size > max {
            return Err(Error::TooLarge { digest, size, max });
        }
        let mut bytes = Vec::new();
        let read = reader.file.read_to_end(&mut bytes);
        read.map_err(|source| Error::io("read", &reader.path, source))?;
        reader.hash.update(&bytes);
        reader.verify()?;
        Ok(bytes)
    }

    /// Reads at most the first `max` stored bytes as text; what is not UTF-8 is shown as U+FFFD.
    pub fn read_text(&self, digest: &Digest, max: usize) -> Result<String, Error> {
        let mut reader = self.reader(digest, 0)?;
        let cut = reader.total() > max as u64;
        let mut bytes = Vec::new();
        let read = reader
            .file
            .by_ref()
            .take(max as u64)
            .read_to_end(&mut bytes);
        read.map_err(|source| Error::io("read", &reader.path, source))?;
        reader.hash.update(&bytes);
        reader.skip(u64::MAX)?;
        reader.verify()?;
        let mut text = String::from_utf8_lossy(&bytes).into_owned();
        if cut {
            text.push_str("…[cut]");
        }
        Ok(text)
    }
}
