//! The spool's owner: one thread, which makes all reports that wait durable with one sync, and the
//! handle through which everything else reaches it.

use std::{path::PathBuf, sync::Arc, thread};

use tokio::sync::{mpsc, oneshot, watch};

use super::{Error, NewReport, Spool, Waiting};

/// Reports that may wait for the disk; a writer beyond waits too.
const COMMANDS_BOUND: usize = 1024;
/// Most reports in one sync.
const BATCH_MAX: usize = 256;

/// How far reports have come. That they are acknowledged is known at once, also while the disk takes
/// nothing: what attempts may remove then is what makes room.
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
    /// The head has acknowledged more than there is: the file was lost.
    Beyond,
    /// It has acknowledged reports that it never had: they are recorded again.
    Anew(Claimed),
}

/// Reports that the head takes for others.
struct Claimed {
    reports: Vec<NewReport>,
    /// The last of them, and the last number that is somebody else's.
    after: u64,
    up_to: u64,
}

impl Claimed {
    fn new(waiting: &Waiting, after: u64, up_to: u64) -> Self {
        let reports = waiting.after(after, usize::MAX).into_iter();
        let reports: Vec<_> = reports.filter(|report| report.seq <= up_to).collect();
        Self {
            after: reports.last().map_or(after, |report| report.seq),
            reports: reports.into_iter().filter_map(NewReport::of).collect(),
            up_to,
        }
    }

    /// The same with what was recorded since. The head has all of those numbers.
    fn take(self, waiting: &Waiting) -> Vec<NewReport> {
        let since = Self::new(waiting, self.after, self.up_to);
        waiting.acknowledge(self.up_to);
        self.reports.into_iter().chain(since.reports).collect()
    }
}

/// Reaches the spool; cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    progress: Arc<watch::Sender<Progress>>,
    waiting: Waiting,
}

/// Starts the spool's thread. The receiver tells why it ended.
pub fn start(path: PathBuf) -> Result<(Handle, oneshot::Receiver<Error>), Error> {
    let spool = Spool::open(&path)?;
    let (commands, inbox) = mpsc::channel(COMMANDS_BOUND);
    let (failed, failure) = oneshot::channel();
    let handle = Handle {
        commands,
        progress: Arc::new(watch::Sender::new(progress_of(&spool))),
        waiting: spool.waiting(),
    };
    let progress = Arc::clone(&handle.progress);
    thread::Builder::new()
        .name("spool".to_owned())
        .spawn(move || {
            if let Err(error) = serve(spool, inbox, &progress) {
                // Nobody listens when the worker is already stopping.
                failed.send(error).unwrap_or_default();
            }
        })
        .expect("the system gives a thread at start");
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

    /// Passes on the head's cumulative acknowledgement. Waits for nothing, and wakes nobody without need: a
    /// thread costs more to wake than all that there is to do. The next report makes the file smaller.
    pub fn acknowledged(&self, up_to: u64) {
        self.waiting.acknowledge(up_to);
        self.progress
            .send_if_modified(|progress| raise(&mut progress.acked, up_to));
        if up_to > self.progress.borrow().last {
            // The thread looks at it after all that it has to do; one that has ended needs nothing.
            let _ = self.commands.try_send(Command::Beyond);
        }
    }

    /// The head has all up to a number, and has those behind `after` from somebody else: ours are sent again, behind
    /// them. Waits for nothing.
    pub fn claimed(&self, after: u64, up_to: u64) {
        let claimed = Claimed::new(&self.waiting, after, up_to);
        if self.commands.try_send(Command::Anew(claimed)).is_err() {
            tracing::error!(
                "reports of this worker are not sent again: too many wait for the disk"
            );
            self.acknowledged(up_to);
        }
    }

    /// The durable reports that the head has not acknowledged.
    #[must_use]
    pub fn waiting(&self) -> &Waiting {
        &self.waiting
    }

    /// Follows how far reports have come.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
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

fn serve(
    mut spool: Spool,
    mut inbox: mpsc::Receiver<Command>,
    progress: &watch::Sender<Progress>,
) -> Result<(), Error> {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while inbox.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
        let mut commands = Vec::with_capacity(batch.len());
        let mut again = Vec::new();
        for command in batch.drain(..) {
            match command {
                Command::Anew(claimed) => again.extend(claimed.take(&spool.waiting())),
                Command::Record(..) | Command::Beyond => commands.push(command),
            }
        }
        spool.tidy()?;
        record(&mut spool, again, commands.into_iter())?;
        let acked = spool.waiting().acked();
        // Those who follow are woken only when there is something new.
        progress.send_if_modified(|progress| {
            let is_acked = raise(&mut progress.acked, acked);
            raise(&mut progress.last, spool.last()) || is_acked
        });
    }
    Ok(())
}

/// Whether it is more than before.
fn raise(number: &mut u64, to: u64) -> bool {
    let more = *number < to;
    *number = to.max(*number);
    more
}

/// Makes all reports of a batch durable with one sync, in their order, behind those that come `again`.
fn record(
    spool: &mut Spool,
    again: Vec<NewReport>,
    batch: impl Iterator<Item = Command>,
) -> Result<(), Error> {
    let mut reports = again;
    let mut waiters = Vec::new();
    for command in batch {
        match command {
            Command::Record(new, done) => {
                reports.extend(new);
                waiters.push((spool.last() + reports.len() as u64, done));
            }
            Command::Beyond | Command::Anew(_) => {}
        }
    }
    if !reports.is_empty() {
        spool.append(reports)?;
        for (number, done) in waiters {
            // The attempt may have been aborted; its report stands all the same.
            done.send(number).unwrap_or_default();
        }
    }
    Ok(())
}

fn progress_of(spool: &Spool) -> Progress {
    Progress {
        last: spool.last(),
        acked: spool.waiting().acked(),
    }
}
