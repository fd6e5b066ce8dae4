//! Getting everything out, and in again.
//!
//! A backup is one tar file, made while the head serves:
//!
//! ```text
//! backup.json      what it is: format, version, cluster, time
//! rows/000001 …    rows in the order of their keys, then rows that changed meanwhile; a later row
//!                  of a key replaces an earlier one
//! blobs/<sha256>   the stored bytes that rows refer to
//! events/…         what attempts did        context/…   the shared context of projects
//! pki/…            only when asked for: the cluster's certificates and secret keys
//! end.json         counts, and the SHA-256 of everything before it
//! ```
//!
//! The rows are those of one moment between two commits: the moment at which no row that was
//! copied before had changed since. What lies in files was stored before a row refers to it, so it
//! is copied after the rows, while nothing is removed. Events are those of one later moment, at
//! which all of what is copied was durable.

mod format;
mod headless;
mod input;
mod make;
mod origin;
mod restore;
mod touched;
mod verify;

#[cfg(test)]
mod tests;

pub use format::{FORMAT, Head, Summary};
pub use headless::headless;
pub use input::Input;
pub use make::Source;
pub use origin::Origin;
pub use restore::{Options, Restored, restore};
pub use touched::Touched;
pub use verify::verify;

/// Why a backup cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is something already.
    #[error(
        "`{dir}` holds a head already; name another state directory, or move it aside with --force"
    )]
    NotEmpty {
        /// The head's directory.
        dir: std::path::PathBuf,
    },
    /// There is no head, and the worker belongs to another cluster than the backup.
    #[error(
        "`{dir}` belongs to a worker that has joined the head at {endpoint}, and the backup is of another cluster"
    )]
    OtherCluster {
        /// The state directory.
        dir: std::path::PathBuf,
        /// Where the worker looks for its head.
        endpoint: String,
    },
    /// A head runs there.
    #[error(transparent)]
    Running(#[from] crate::lock::Error),
    /// There is no such file.
    #[error("there is no file `{file}`")]
    NoFile {
        /// Its path.
        file: std::path::PathBuf,
    },
    /// It is something else.
    #[error("{why}")]
    Foreign {
        /// What it is, or is not.
        why: String,
    },
    /// It was made by a newer version.
    #[error("the backup has format {found}, this version knows {FORMAT}; use a newer orchestra")]
    Newer {
        /// Its format.
        found: u32,
    },
    /// It is not whole, or not what was written.
    #[error("the backup is damaged: {why}")]
    Damaged {
        /// What is wrong.
        why: String,
    },
    /// Something else failed.
    #[error(transparent)]
    Failed(#[from] anyhow::Error),
}

impl Error {
    fn foreign(why: impl Into<String>) -> Self {
        Self::Foreign { why: why.into() }
    }

    fn damaged(why: impl Into<String>) -> Self {
        Self::Damaged { why: why.into() }
    }
}
