//! The spool's owner: one thread, which makes all reports that wait durable with one sync, and the
//! handle through which everything else reaches it.

use std::{path::PathBuf, thread, time::Duration};

use orchestra_proto::v1;
use orchestra_types::AttemptId;
use tokio::sync::{mpsc, oneshot, watch};

use super::{Appended, Error, NewReport, Spool, unwritten::Unwritten};

/// Reports that may wait for the disk; a writer beyond waits too.
const COMMANDS_BOUND: usize = 1024;
/// Most commands that are handled together.
const BATCH_MAX: usize = 256;
/// While the disk is full, questions are answered and the write is tried again this often. The session
/// asks between two heartbeats.
const WHILE_FULL_EVERY: Duration = Duration::from_millis(50);

/// How far reports have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The last durable report.
    pub last: u64,
    /// The last report that the head has acknowledged.
    pub acked: u64,
}

/// The spool's thread has ended: the worker is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the spool is closed")]
pub struct Closed;

enum Command {
    /// Answered with the number of the last one.
    Record(Vec<NewReport>, oneshot::Sender<u64>),
    Rest(Rest),
}

/// What needs no room on the disk.
enum Rest {
    Acknowledged(u64),
    Ending(oneshot::Sender<Vec<AttemptId>>),
    Waiting {
        after: u64,
        max: usize,
        reply: oneshot::Sender<Vec<v1::Report>>,
    },
}

/// Reaches the spool; cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    progress: watch::Receiver<Progress>,
}

/// Starts the spool's thread. The receiver tells why it ended.
pub fn start(path: PathBuf) -> Result<(Handle, oneshot::Receiver<Error>), Error> {
    let spool = Spool::open(&path)?;
    let (commands, inbox) = mpsc::channel(COMMANDS_BOUND);
    let (progress, watcher) = watch::channel(progress_of(&spool));
    let (failed, failure) = oneshot::channel();
    thread::Builder::new()
        .name("spool".to_owned())
        .spawn(move || {
            let owner = Owner {
                spool,
                unwritten: Unwritten::default(),
                full: false,
            };
            if let Err(error) = owner.serve(inbox, &progress) {
                // Nobody listens when the worker is already stopping.
                failed.send(error).unwrap_or_default();
            }
        })
        .expect("the system gives a thread at start");
    let handle = Handle {
        commands,
        progress: watcher,
    };
    Ok((handle, failure))
}

impl Handle {
    /// Makes a report durable; its number.
    pub async fn record(&self, report: NewReport) -> Result<u64, Closed> {
        self.record_all(vec![report]).await
    }

    /// Makes reports durable together; the number of the last one.
    pub async fn record_all(&self, reports: Vec<NewReport>) -> Result<u64, Closed> {
        let (done, number) = oneshot::channel();
        self.send(Command::Record(reports, done)).await?;
        number.await.map_err(|_| Closed)
    }

    /// Passes on the head's cumulative acknowledgement.
    pub async fn acknowledged(&self, up_to: u64) -> Result<(), Closed> {
        self.send(Command::Rest(Rest::Acknowledged(up_to))).await
    }

    /// The first waiting reports behind number `after`.
    pub async fn waiting(&self, after: u64, max: usize) -> Result<Vec<v1::Report>, Closed> {
        let (reply, reports) = oneshot::channel();
        self.send(Command::Rest(Rest::Waiting { after, max, reply }))
            .await?;
        reports.await.map_err(|_| Closed)
    }

    /// The attempts whose last report the head has not acknowledged.
    pub async fn ending(&self) -> Result<Vec<AttemptId>, Closed> {
        let (reply, attempts) = oneshot::channel();
        self.send(Command::Rest(Rest::Ending(reply))).await?;
        attempts.await.map_err(|_| Closed)
    }

    /// Follows how far reports have come.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Has a report made durable, behind all that were given before, and waits for nothing.
    pub async fn post(&self, report: NewReport) -> Result<(), Closed> {
        let (done, _nobody_waits) = oneshot::channel();
        self.send(Command::Record(vec![report], done)).await
    }

    async fn send(&self, command: Command) -> Result<(), Closed> {
        self.commands.send(command).await.map_err(|_| Closed)
    }
}

/// What the thread has. A disk that is full holds up reports only: what has happened cannot be reported
/// before there is room, but the session must go on, or the head would count every attempt as lost.
struct Owner {
    spool: Spool,
    unwritten: Unwritten,
    /// Whether the last write found no room.
    full: bool,
}

impl Owner {
    fn serve(
        mut self,
        mut inbox: mpsc::Receiver<Command>,
        progress: &watch::Sender<Progress>,
    ) -> Result<(), Error> {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while self.next(&mut inbox, &mut batch) {
            self.handle(batch.drain(..))?;
            publish(progress, progress_of(&self.spool));
        }
        Ok(())
    }

    /// Waits for commands, on a full disk only for a while; whether anybody is there to give some.
    fn next(&self, inbox: &mut mpsc::Receiver<Command>, batch: &mut Vec<Command>) -> bool {
        if !self.full {
            return inbox.blocking_recv_many(batch, BATCH_MAX) > 0;
        }
        thread::sleep(WHILE_FULL_EVERY);
        while batch.len() < BATCH_MAX {
            match inbox.try_recv() {
                Ok(command) => batch.push(command),
                Err(mpsc::error::TryRecvError::Empty) => break,
                Err(mpsc::error::TryRecvError::Disconnected) => return !batch.is_empty(),
            }
        }
        true
    }

    /// Handles commands in their order, with one sync for all reports among them.
    fn handle(&mut self, batch: impl Iterator<Item = Command>) -> Result<(), Error> {
        let mut rest = Vec::new();
        for command in batch {
            match command {
                Command::Record(reports, done) => self.unwritten.push(reports, done),
                Command::Rest(other) => rest.push(other),
            }
        }
        self.write()?;
        rest.into_iter()
            .try_for_each(|other| self.serve_rest(other))
    }

    fn write(&mut self) -> Result<(), Error> {
        let last = self.spool.last();
        let append = |reports: &[NewReport]| self.spool.append(reports);
        let full = match self.unwritten.write(last, append)? {
            Appended::Durable => false,
            Appended::DiskFull => true,
        };
        let before = std::mem::replace(&mut self.full, full);
        let path = self.spool.path().display();
        match (before, full) {
            (false, true) => tracing::error!(%path, "the disk is full; a report waits for room"),
            (true, false) => tracing::info!(%path, "there is room again; what waited is written"),
            (false, false) | (true, true) => {}
        }
        Ok(())
    }

    fn serve_rest(&mut self, rest: Rest) -> Result<(), Error> {
        // Whoever asked may be gone.
        match rest {
            Rest::Acknowledged(up_to) => self.spool.acknowledge(up_to)?,
            Rest::Ending(reply) => {
                let mut ending = self.spool.ending();
                ending.extend(self.unwritten.ending());
                reply.send(ending).unwrap_or_default();
            }
            Rest::Waiting { after, max, reply } => {
                let waiting = self.spool.waiting_after(after, max);
                reply.send(waiting).unwrap_or_default();
            }
        }
        Ok(())
    }
}

/// Wakes those who follow only when there is something new: they ask the spool in return.
fn publish(progress: &watch::Sender<Progress>, new: Progress) {
    progress.send_if_modified(|old| {
        let changed = *old != new;
        *old = new;
        changed
    });
}

fn progress_of(spool: &Spool) -> Progress {
    Progress {
        last: spool.last(),
        acked: spool.acked(),
    }
}
