//! The bytes of a backup. Old formats stay readable; a newer one is refused.

use std::io::{self, Read, Write};

use orchestra_types::Digest;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The format that this version writes.
pub const FORMAT: u32 = 1;
/// The first entry.
pub(super) const HEAD: &str = "backup.json";
/// The last entry.
pub(super) const END: &str = "end.json";
pub(super) const ROWS: &str = "rows";
pub(super) const BLOBS: &str = "blobs";
/// What attempts did.
pub(super) const EVENTS: &str = "events";
/// The shared context of projects.
pub(super) const CONTEXT: &str = "context";
/// Directories of the head whose files are copied.
pub(super) const TREES: [&str; 2] = [EVENTS, CONTEXT];
/// The directory of certificates and secret keys.
pub(super) const KEYS: &str = "pki";
/// A part of the rows is closed when it is so large.
pub(super) const PART_BYTES: usize = 4 * 1024 * 1024;
/// Largest part: one row can be large.
pub(super) const PART_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// Stands for the length of a row that is gone.
const GONE: u32 = u32::MAX;

/// What a backup says of itself first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The format of the file.
    pub format: u32,
    /// The version of Orchestra that made it.
    pub version: String,
    /// The cluster's name.
    pub cluster: String,
    /// When it was begun, in milliseconds since 1970.
    pub created_at_ms: u64,
    /// Whether the secret keys of the cluster are in it.
    pub keys: bool,
}

/// What a backup says of itself last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Rows, those that were written twice counted twice.
    pub rows: u64,
    /// Stored files that rows refer to.
    pub blobs: u64,
    /// Stored files that rows refer to and that are not there.
    pub missing: u64,
    /// Stored files that are not what was stored; their bytes are in it as they were read.
    #[serde(default)]
    pub damaged: u64,
    /// Other files.
    pub files: u64,
    /// Bytes before this entry.
    pub bytes: u64,
    /// SHA-256 of the bytes before this entry.
    pub sha256: Digest,
}

/// Adds a row to a part; without a message the row is gone.
pub(super) fn put_row(part: &mut Vec<u8>, key: &[u8], message: Option<&[u8]>) {
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).expect("rows are below 64 MiB");
    part.extend(length(key).to_le_bytes());
    part.extend(message.map_or(GONE, length).to_le_bytes());
    part.extend(key);
    part.extend(message.unwrap_or_default());
}

/// A row of a part.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PartRow<'a> {
    pub key: &'a [u8],
    pub message: Option<&'a [u8]>,
}

/// The rows of a part; none where its bytes are not rows.
pub(super) fn rows_of(mut part: &[u8]) -> Option<Vec<PartRow<'_>>> {
    let mut rows = Vec::new();
    while !part.is_empty() {
        let key_length = take_length(&mut part)?;
        let message_length = take_length(&mut part)?;
        let key = part.split_off(..key_length as usize)?;
        let message = match message_length {
            GONE => None,
            length => Some(part.split_off(..length as usize)?),
        };
        rows.push(PartRow { key, message });
    }
    Some(rows)
}

fn take_length(part: &mut &[u8]) -> Option<u32> {
    let bytes = part.split_off(..4)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

/// Counts and hashes what is written or read.
pub(super) struct Hashed<T> {
    inner: T,
    hash: Sha256,
    bytes: u64,
}

impl<T> Hashed<T> {
    pub fn new(inner: T) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
            bytes: 0,
        }
    }

    /// How many bytes, and their SHA-256.
    pub fn so_far(&self) -> (u64, Digest) {
        (self.bytes, Digest(self.hash.clone().finalize().into()))
    }

    fn passed(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
    }
}

impl<T: Write> Write for Hashed<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.passed(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Read> Read for Hashed<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.passed(&buffer[..read]);
        Ok(read)
    }
}
