//! What attempts did: numbered events of all attempts in one stream of segment files.
//!
//! ```text
//! PushEvents ─► Events::append ─► one OS thread: one write, one fdatasync for all that waits ─► ack
//!                                      │ index: attempt ─► its frames
//! FollowEvents ◄─ Reader ◄─ memory when it keeps up, else the segments, up to what is durable
//! ```
//!
//! An event's bytes are written and read as they stand on the wire. Duplicates are passed over and
//! gaps are refused. A slow reader costs one batch of memory and misses nothing; what was dropped
//! or is damaged is told as a [`Gap`].

mod catalog;
mod check;
mod filter;
mod former;
mod frame;
mod index;
mod listed;
mod owner;
mod reader;
mod recover;
mod retention;
mod segment;
mod share;

#[cfg(test)]
mod tests;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use orchestra_config::durable;
use orchestra_core::Doubt;
use orchestra_types::AttemptId;
use tokio::sync::{mpsc, oneshot, watch};

pub use catalog::Hold;
pub use check::{Checked, Reached, check};
pub use orchestra_types::event::{Gap, GapReason};
pub use reader::Reader;
pub use retention::Limits;
pub use share::Share;

use crate::engine::Clock;

/// Appends that may wait. Above it, the workers' streams wait.
const COMMANDS_BOUND: usize = 256;

/// GapReason events are not stored or cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk refused.
    #[error("failed to {doing} `{path}`")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which path.
        path: PathBuf,
        /// GapReason it failed.
        source: io::Error,
    },
    /// There is no room for more. Nothing was taken.
    #[error("there is no room for events in `{path}`; free space on the head's disk")]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// Events that should be there are not found.
    #[error("the events of {attempt} behind {after} are not found")]
    Missing {
        /// The attempt.
        attempt: AttemptId,
        /// The last one that was read.
        after: u64,
    },
    /// The owner of the files has ended.
    #[error("the head is stopping; ask again when it is back")]
    Stopped,
}

/// What a reader gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Events that follow each other, each as its encoded message.
    Events {
        /// The number of the first one.
        first: u64,
        /// At least one.
        events: Vec<Bytes>,
    },
    /// What is missing before the next events.
    Gap(Gap),
}

/// How far an attempt's events are durable.
#[derive(Clone, Debug)]
struct Tail {
    /// The number of the last one.
    last: u64,
    /// What was dropped, always from the first one on.
    dropped: Option<Gap>,
    newest: Option<Newest>,
}

/// The latest events of an attempt, for those who keep up.
#[derive(Clone, Debug)]
struct Newest {
    first: u64,
    events: Arc<[Bytes]>,
}

/// The way to all events. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Events {
    commands: mpsc::Sender<Command>,
    catalog: Arc<catalog::Catalog>,
    doubt: Option<Doubt>,
}

/// The thread that owns the files, as its own owner sees it.
pub struct Owner {
    commands: mpsc::WeakSender<Command>,
    ended: oneshot::Receiver<Result<(), Error>>,
}

/// Events on their way to the disk.
#[derive(Debug)]
pub struct Pending {
    durable: oneshot::Receiver<Result<Stored, Error>>,
}

/// What is durable once appended events are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The number up to which the attempt's events are durable: behind a gap nothing is taken.
    pub up_to: u64,
    /// How many of the appended events were not there before.
    pub new: u64,
}

enum Command {
    Append {
        attempt: AttemptId,
        first: u64,
        events: Vec<Bytes>,
        done: oneshot::Sender<Result<Stored, Error>>,
    },
    Tail {
        attempt: AttemptId,
        done: oneshot::Sender<watch::Receiver<Tail>>,
    },
    Forget {
        last: AttemptId,
        done: oneshot::Sender<()>,
    },
    KeepLimits,
    Settle {
        done: oneshot::Sender<()>,
    },
    /// Ends, whoever else may have something to say.
    Stop,
}

impl Events {
    /// Starts the owner of the segments below `root`. It ends when it is told to, when the last `Events` is dropped, or
    /// at the first error: what could not be made durable is never acknowledged.
    pub fn start(root: &Path, limits: Limits) -> Result<(Self, Owner), Error> {
        Self::start_by(root, limits, Clock::start())
    }

    fn start_by(root: &Path, limits: Limits, clock: Clock) -> Result<(Self, Owner), Error> {
        let failed = |source| io_error("prepare", root, source);
        durable::create_private_dir(root).map_err(failed)?;
        let (catalog, writer, listed) = recover::open(root, clock.now())?;
        let catalog = Arc::new(catalog);
        let (commands, inbox) = mpsc::channel(COMMANDS_BOUND);
        let files = owner::Files::new(Arc::clone(&catalog), writer, listed, limits, clock);
        let doubt = files.doubt;
        let (end, ended) = oneshot::channel();
        let last = commands.downgrade();
        let body = move || {
            let result = owner::run(files, inbox);
            // A head that is gone needs not be told.
            let _ = end.send(result);
        };
        let builder = std::thread::Builder::new().name("events".to_owned());
        builder.spawn(body).map_err(failed)?;
        let events = Self {
            commands,
            catalog,
            doubt,
        };
        Ok((
            events,
            Owner {
                commands: last,
                ended,
            },
        ))
    }

    /// Why nothing is dropped for its age, since the start.
    #[must_use]
    pub fn doubt(&self) -> Option<Doubt> {
        self.doubt
    }

    /// Appends events of one attempt that follow each other, the first with the number `first`.
    /// Events of one attempt are taken in the order of these calls.
    pub async fn append(
        &self,
        attempt: AttemptId,
        first: u64,
        events: Vec<Bytes>,
    ) -> Result<Pending, Error> {
        let (done, durable) = oneshot::channel();
        self.send(Command::Append {
            attempt,
            first,
            events,
            done,
        })
        .await?;
        Ok(Pending { durable })
    }

    /// Reads events of an attempt from the one after `after` on.
    pub async fn read(&self, attempt: AttemptId, after: u64) -> Result<Reader, Error> {
        let (done, tail) = oneshot::channel();
        self.send(Command::Tail { attempt, done }).await?;
        let tail = tail.await.map_err(|_| Error::Stopped)?;
        Ok(Reader::new(Arc::clone(&self.catalog), attempt, after, tail))
    }

    /// Lets go of what is stored of a task, of which `last` is the latest attempt. Who reads it just
    /// now sees the end of what there was.
    pub async fn forget(&self, last: AttemptId) -> Result<(), Error> {
        let (done, gone) = oneshot::channel();
        self.send(Command::Forget { last, done }).await?;
        gone.await.map_err(|_| Error::Stopped)
    }

    /// The latest attempts of all tasks of which something is stored. Reads the disk.
    pub fn stored(&self) -> Result<Vec<AttemptId>, Error> {
        self.catalog.stored()
    }

    /// How far all events are durable just now.
    #[must_use]
    pub fn reached(&self) -> Reached {
        Reached::of(&self.catalog)
    }

    /// Drops what has become too old. What becomes too much is dropped without being asked.
    pub async fn keep_limits(&self) -> Result<(), Error> {
        self.send(Command::KeepLimits).await
    }

    /// As long as the guard lives, no file is removed or replaced; new ones may come.
    pub async fn hold(&self) -> Result<Hold, Error> {
        let hold = Hold::new(Arc::clone(&self.catalog));
        let (done, settled) = oneshot::channel();
        self.send(Command::Settle { done }).await?;
        settled.await.map_err(|_| Error::Stopped)?;
        Ok(hold)
    }

    async fn send(&self, command: Command) -> Result<(), Error> {
        self.commands
            .send(command)
            .await
            .map_err(|_| Error::Stopped)
    }
}

impl Pending {
    /// What is stored once these are durable: duplicates are passed over, and behind a gap nothing is taken.
    pub async fn durable(self) -> Result<Stored, Error> {
        self.durable.await.map_err(|_| Error::Stopped)?
    }
}

impl Owner {
    /// Has it end once all is durable that it was told before. What comes later is answered by `Stopped`.
    pub async fn stop(&self) {
        if let Some(commands) = self.commands.upgrade() {
            // One that has ended needs not be told.
            let _ = commands.send(Command::Stop).await;
        }
    }

    /// Resolves when the thread has ended: with an error, or when it was told to stop or the last
    /// `Events` was dropped, and everything is durable.
    pub async fn ended(&mut self) -> Result<(), Error> {
        // It is told once; who asks again has been told, and a second wait would panic.
        if self.ended.is_terminated() {
            return Ok(());
        }
        let ended = (&mut self.ended).await;
        ended.unwrap_or(Err(Error::Stopped))
    }
}

fn io_error(doing: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}
