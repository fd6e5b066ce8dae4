//! Why there is no process, or no word with one.

use std::{
    io,
    path::{Path, PathBuf},
};

/// Why a process could not be started, found or spoken to.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The supervisor could not be started.
    #[error("failed to start the supervisor `{}`", program.display())]
    Supervisor {
        /// Our own program.
        program: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The supervisor ended before it had begun anything.
    #[error("the supervisor ended at once: {log}")]
    EndedAtOnce {
        /// The end of its log.
        log: String,
    },
    /// There is no attempt in this directory.
    #[error("`{}` holds no started process", dir.display())]
    NotThere {
        /// The directory.
        dir: PathBuf,
    },
    /// The CLI does not read what it is sent.
    #[error("the CLI has not read {pending} bytes of input; nothing more is taken")]
    InputFull {
        /// How much waits.
        pending: usize,
    },
    /// What to run could not be written: nothing was started.
    #[error("failed to {what} in `{}`", dir.display())]
    Unordered {
        /// What was being done.
        what: &'static str,
        /// The attempt's directory.
        dir: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file of the attempt could not be read or written.
    #[error("failed to {what} in `{}`", dir.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// The attempt's directory.
        dir: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

pub(super) type Result<T> = std::result::Result<T, ProcessError>;

pub(super) fn not_there(dir: &Path) -> ProcessError {
    ProcessError::NotThere {
        dir: dir.to_owned(),
    }
}

pub(super) fn at(what: &'static str, dir: &Path) -> impl Fn(io::Error) -> ProcessError {
    move |source| ProcessError::Io {
        what,
        dir: dir.to_owned(),
        source,
    }
}

pub(super) fn unordered(what: &'static str, dir: &Path) -> impl Fn(io::Error) -> ProcessError {
    move |source| ProcessError::Unordered {
        what,
        dir: dir.to_owned(),
        source,
    }
}
