//! Lists of changed files, as workers stored them.

use orchestra_proto::v1;
use orchestra_types::{Digest, Manifest};
use prost::Message;

use crate::blobs::{self, Blobs};

/// Largest manifest: 200,000 entries with long paths.
const BYTES_MAX: u64 = 128 * 1024 * 1024;

/// Why a manifest cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its bytes cannot be read.
    #[error(transparent)]
    Blobs(#[from] blobs::Error),
    /// Its bytes are no message.
    #[error("the worker's list of files is not readable")]
    Decode(#[from] prost::DecodeError),
    /// It has what no manifest may have.
    #[error("the worker's list of files is refused")]
    Refused(#[from] orchestra_proto::Refused),
}

/// Reads a stored manifest. A worker wrote it: it is checked like everything from a peer.
pub fn read(blobs: &Blobs, digest: &Digest) -> Result<Manifest, Error> {
    let bytes = blobs.read(digest, BYTES_MAX)?;
    Ok(v1::Manifest::decode(bytes.as_slice())?.try_into()?)
}
