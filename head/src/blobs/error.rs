//! Why bytes are not stored or cannot be read.

use std::{
    io,
    path::{Path, PathBuf},
};

use orchestra_types::Digest;

/// Why bytes are not stored or cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk refused.
    #[error("failed to {doing} `{path}`")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The bytes are not those that were announced.
    #[error("the bytes hash to {found}, not to {announced}; send them again")]
    WrongHash {
        /// The announced name.
        announced: Digest,
        /// What arrived.
        found: Digest,
    },
    /// There are more or fewer bytes than announced.
    #[error("{found} bytes arrived, {announced} were announced; send them again")]
    WrongSize {
        /// The announced size.
        announced: u64,
        /// How many arrived, at least.
        found: u64,
    },
    /// It is not there that an upload could go on.
    #[error(
        "there is no upload of {digest} that was cut after {offset} bytes; ask again, or send all"
    )]
    NoPartial {
        /// Which bytes.
        digest: Digest,
        /// From where on the rest was to come.
        offset: u64,
    },
    /// The disk gives other bytes than were stored.
    #[error("`{path}` is damaged: its bytes hash to {found}; restore it from a backup")]
    Damaged {
        /// The file, which is named by the right hash.
        path: PathBuf,
        /// What it hashes to.
        found: Digest,
    },
    /// Nobody has stored these bytes.
    #[error("no bytes named {0} are stored here; if they were once, restore them from a backup")]
    Unknown(Digest),
    /// The bytes are too many to be read at once.
    #[error("{digest} has {size} bytes, the limit here is {max}")]
    TooLarge {
        /// Which.
        digest: Digest,
        /// How many.
        size: u64,
        /// How many are allowed.
        max: u64,
    },
}

impl Error {
    pub(super) fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            doing,
            path: path.to_owned(),
            source,
        }
    }
}
