//! Reading stored bytes.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
};

use orchestra_types::{Digest, limits};

use super::{Blobs, Error};

/// Stored bytes, open for reading.
#[derive(Debug)]
pub struct Reader {
    file: File,
    total: u64,
}

impl Reader {
    /// How many bytes there are in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The next chunk; empty at the end.
    pub fn next_chunk(&mut self) -> io::Result<Vec<u8>> {
        let mut chunk = Vec::with_capacity(limits::CHUNK_BYTES);
        let max = limits::CHUNK_BYTES as u64;
        self.file.by_ref().take(max).read_to_end(&mut chunk)?;
        Ok(chunk)
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
        let mut file = File::open(&path).map_err(failed)?;
        let total = file.metadata().map_err(failed)?.len();
        file.seek(SeekFrom::Start(offset)).map_err(failed)?;
        Ok(Reader { file, total })
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
        read.map_err(|source| Error::io("read", &self.path(&digest), source))?;
        Ok(bytes)
    }

    /// Reads at most the first `max` stored bytes as text; what is not UTF-8 is shown as U+FFFD.
    pub fn read_text(&self, digest: &Digest, max: usize) -> Result<String, Error> {
        let reader = self.reader(digest, 0)?;
        let cut = reader.total() > max as u64;
        let mut bytes = Vec::new();
        let read = reader.file.take(max as u64).read_to_end(&mut bytes);
        read.map_err(|source| Error::io("read", &self.path(digest), source))?;
        let mut text = String::from_utf8_lossy(&bytes).into_owned();
        if cut {
            text.push_str("…[cut]");
        }
        Ok(text)
    }
}
