//! What attempts did: numbered events, one append-only file for each attempt.
//!
//! ```text
//! PushEvents ─► Events::append ─► one OS thread: write, fdatasync once for all that waits ─► ack
//! FollowEvents ◄─ Reader ◄─ the file, up to what is durable
//! ```
//!
//! An event's number is its place in the file, so that duplicates are seen and gaps are refused.
//! Readers always read from disk: a slow one costs no memory and misses nothing.

mod file;
mod owner;
mod reader;

#[cfg(test)]
mod tests;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use orchestra_config::durable;
use orchestra_proto::v1;
use orchestra_types::AttemptId;
use tokio::sync::{mpsc, oneshot, watch};

pub use file::{Tail, stored};
pub use reader::Reader;

/// Appends that may wait. Above it, the workers' streams wait.
const COMMANDS_BOUND: usize = 256;

/// Why events are not stored or cannot be read.
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
    /// Bytes that were durable are not what was written.
    #[error("`{path}` is damaged at byte {offset}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
    },
    /// The owner of the files has ended.
    #[error("the head is stopping; ask again when it is back")]
    Stopped,
}

/// The way to all events. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Events {
    commands: mpsc::Sender<Command>,
    root: Arc<Path>,
}

/// The thread that owns the files, as its own owner sees it.
pub struct Owner {
    ended: oneshot::Receiver<Result<(), Error>>,
}

enum Command {
    Append {
        attempt: AttemptId,
        events: Vec<v1::Event>,
        done: oneshot::Sender<u64>,
    },
    Tail {
        attempt: AttemptId,
        done: oneshot::Sender<watch::Receiver<Tail>>,
    },
    Forget {
        last: AttemptId,
        done: oneshot::Sender<()>,
    },
}

impl Events {
    /// Starts the owner of the files below `root`. It ends when the last `Events` is dropped, or at
    /// the first error: what could not be made durable is never acknowledged.
    pub fn start(root: &Path) -> Result<(Self, Owner), Error> {
        let failed = |source| file::io_error("prepare", root, source);
        durable::create_private_dir(root).map_err(failed)?;
        let (commands, inbox) = mpsc::channel(COMMANDS_BOUND);
        let root: Arc<Path> = root.into();
        let files = owner::Files::new(Arc::clone(&root));
        let (end, ended) = oneshot::channel();
        let body = move || {
            let result = owner::run(files, inbox);
            // A head that is gone needs not be told.
            let _ = end.send(result);
        };
        let builder = std::thread::Builder::new().name("events".to_owned());
        builder.spawn(body).map_err(failed)?;
        Ok((Self { commands, root }, Owner { ended }))
    }

    /// Appends events of one attempt that follow each other. Returns the number up to which its
    /// events are durable: duplicates are passed over, and behind a gap nothing is taken.
    pub async fn append(&self, attempt: AttemptId, events: Vec<v1::Event>) -> Result<u64, Error> {
        let (done, durable) = oneshot::channel();
        let command = Command::Append {
            attempt,
            events,
            done,
        };
        self.send(command).await?;
        durable.await.map_err(|_| Error::Stopped)
    }

    /// Reads events of an attempt from the one after `after` on.
    pub async fn read(&self, attempt: AttemptId, after: u64) -> Result<Reader, Error> {
        let (done, tail) = oneshot::channel();
        self.send(Command::Tail { attempt, done }).await?;
        let tail = tail.await.map_err(|_| Error::Stopped)?;
        Ok(Reader::new(file::path(&self.root, attempt), after, tail))
    }

    /// Removes what is stored of a task, of which `last` is the latest attempt. Who reads it just now
    /// sees the end of what there was.
    pub async fn forget(&self, last: AttemptId) -> Result<(), Error> {
        let (done, gone) = oneshot::channel();
        self.send(Command::Forget { last, done }).await?;
        gone.await.map_err(|_| Error::Stopped)
    }

    /// Where everything is stored.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    async fn send(&self, command: Command) -> Result<(), Error> {
        self.commands
            .send(command)
            .await
            .map_err(|_| Error::Stopped)
    }
}

impl Owner {
    /// Resolves when the thread has ended: with an error, or when the last `Events` was dropped and
    /// everything is durable.
    pub async fn ended(&mut self) -> Result<(), Error> {
        // It is told once; who asks again has been told, and a second wait would panic.
        if self.ended.is_terminated() {
            return Ok(());
        }
        let ended = (&mut self.ended).await;
        ended.unwrap_or(Err(Error::Stopped))
    }
}
