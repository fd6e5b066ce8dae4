//! Why the store cannot do what it was asked.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{blobs, disk, progress};

/// Why the store cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database failed.
    #[error("the database failed; check the disk and its free space, then start the head again")]
    Database(#[source] sled::Error),
    /// A file or directory of the database failed.
    #[error("failed to {doing} `{path}`")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Another process has the database.
    #[error("`{path}` is in use by another process; stop the other head first")]
    InUse {
        /// The database.
        path: PathBuf,
    },
    /// Files of the database or the journal are damaged.
    #[error("`{path}` is damaged: {why}; see `ctl check`, or restore a backup")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// There was a store, and it is not there any more.
    #[error(
        "`{path}` is gone, and this cluster is not new: put it back, or restore a backup with `ctl restore FILE --force`; \
         to begin a new cluster, move `head` of the state directory away"
    )]
    Gone {
        /// Where it was.
        path: PathBuf,
    },
    /// A row has a format that this version does not know.
    #[error("{row} has format {found}, this version knows {known}; use a newer orchestra-head")]
    Format {
        /// Which row.
        row: String,
        /// Its format.
        found: u8,
        /// What is known.
        known: u8,
    },
    /// A row's bytes are not what they should be.
    #[error("{row} is damaged: {why}")]
    Row {
        /// Which row.
        row: String,
        /// What is wrong.
        why: String,
    },
    /// The disk is full, and the database is closed until there is room.
    #[error(transparent)]
    Full(#[from] disk::Full),
    /// Who waited for something long has gone.
    #[error(transparent)]
    Cancelled(#[from] progress::Cancelled),
    /// A large row's bytes cannot be stored or read.
    #[error("failed to keep a large row")]
    Large(#[from] blobs::Error),
}

impl Error {
    /// Whether this user may not open the files: nothing is known of what is in them.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
    }

    /// Whether what was kept is not what was written, so that asking again does not help.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. }
            | Self::Gone { .. }
            | Self::Row { .. }
            | Self::Large(blobs::Error::Unknown(_) | blobs::Error::Damaged { .. }) => true,
            Self::Database(_)
            | Self::Io { .. }
            | Self::InUse { .. }
            | Self::Format { .. }
            | Self::Full(_)
            | Self::Cancelled(_)
            | Self::Large(_) => false,
        }
    }

    /// What is wrong, for a check: it says itself what to do.
    #[must_use]
    pub fn problem(&self) -> String {
        match self {
            Self::Damaged { path, why } => format!("`{}` is damaged: {why}", path.display()),
            Self::Gone { path } => {
                format!("`{}` is gone, and this cluster is not new", path.display())
            }
            Self::Database(_)
            | Self::Io { .. }
            | Self::InUse { .. }
            | Self::Format { .. }
            | Self::Row { .. }
            | Self::Full(_)
            | Self::Cancelled(_)
            | Self::Large(_) => in_full(self),
        }
    }
}

/// An error with all of its causes.
fn in_full(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

impl Error {
    /// Whether there was no room for a write.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let full = |error: &io::Error| {
            use io::ErrorKind::{QuotaExceeded, StorageFull};
            matches!(error.kind(), StorageFull | QuotaExceeded)
        };
        match self {
            Self::Database(sled::Error::Io(source)) | Self::Io { source, .. } => full(source),
            Self::Full(_) => true,
            Self::Database(_)
            | Self::InUse { .. }
            | Self::Damaged { .. }
            | Self::Gone { .. }
            | Self::Format { .. }
            | Self::Row { .. }
            | Self::Cancelled(_)
            | Self::Large(_) => false,
        }
    }
}

pub(super) fn io_error(doing: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}

/// Whether a file is there. One that may not be looked for is not one that is gone.
pub(super) fn is_there(path: &Path) -> Result<bool, Error> {
    let found = path.try_exists();
    found.map_err(|source| io_error("look for", path, source))
}
