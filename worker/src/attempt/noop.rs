//! The runner `noop`: its tasks succeed at once. There is no process, no workspace and no event, only
//! the report, which is as durable as any other. An order that a crash took is given again, and
//! doing nothing twice does no harm.
//!
//! All such attempts have one owner, so that those that come together share a sync and a wake-up.

use std::{
    collections::{BTreeSet, VecDeque},
    convert::Infallible,
    fmt,
    future::{Future, pending},
    pin::Pin,
};

use orchestra_proto::v1;
use orchestra_types::{AttemptId, Exit, Outcome};
use tokio::sync::watch;

use crate::{
    clock,
    spool::{self, Closed, NewReport, Progress},
};

type Recording = Pin<Box<dyn Future<Output = Result<u64, Closed>> + Send>>;

/// The attempts of `noop` that the head has not acknowledged yet.
pub struct Noops {
    spool: spool::Handle,
    progress: watch::Receiver<Progress>,
    held: BTreeSet<AttemptId>,
    /// Not in the spool yet.
    fresh: Vec<AttemptId>,
    /// Those that are being written, and the write.
    writing: Option<(Vec<AttemptId>, Recording)>,
    /// Those in the spool, by the number of the last report of each write.
    written: VecDeque<(u64, Vec<AttemptId>)>,
}

impl fmt::Debug for Noops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Noops")
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}

impl Noops {
    /// None yet.
    #[must_use]
    pub fn new(spool: spool::Handle) -> Self {
        Self {
            progress: spool.progress(),
            spool,
            held: BTreeSet::new(),
            fresh: Vec::new(),
            writing: None,
            written: VecDeque::new(),
        }
    }

    /// Takes an attempt. The same order twice is an ordinary thing.
    pub fn take(&mut self, attempt: AttemptId) {
        if self.held.insert(attempt) {
            self.fresh.push(attempt);
        }
    }

    /// The attempts that the head has not acknowledged.
    pub fn held(&self) -> impl Iterator<Item = AttemptId> {
        self.held.iter().copied()
    }

    /// Takes the attempts on, for ever. May be dropped at any time and called again. A closed spool
    /// ends the worker by itself; until then there is nothing to do here.
    pub async fn advance(&mut self) -> Infallible {
        loop {
            if self.writing.is_none() && !self.fresh.is_empty() {
                self.write();
            }
            let waits_for = self.written.front().map(|(last, _)| *last);
            let acked = async {
                match waits_for {
                    Some(last) => self.progress.wait_for(|p| p.acked >= last).await.is_ok(),
                    None => pending().await,
                }
            };
            let recorded = async {
                match &mut self.writing {
                    Some((_, recording)) => recording.await,
                    None => pending().await,
                }
            };
            tokio::select! {
                recorded = recorded => match recorded {
                    Ok(last) => self.on_written(last),
                    Err(Closed) => return pending().await,
                },
                open = acked => match open {
                    true => self.on_acknowledged(),
                    false => return pending().await,
                },
            }
        }
    }

    fn write(&mut self) {
        let attempts = std::mem::take(&mut self.fresh);
        let reports = attempts.iter().copied().map(report).collect();
        let spool = self.spool.clone();
        let recording = Box::pin(async move { spool.record_all(reports).await });
        self.writing = Some((attempts, recording));
    }

    fn on_written(&mut self, last: u64) {
        if let Some((attempts, _)) = self.writing.take() {
            self.written.push_back((last, attempts));
        }
    }

    fn on_acknowledged(&mut self) {
        for attempt in self
            .written
            .pop_front()
            .into_iter()
            .flat_map(|(_, all)| all)
        {
            tracing::debug!(%attempt, "attempt delivered");
            self.held.remove(&attempt);
        }
    }
}

fn report(attempt: AttemptId) -> NewReport {
    let now = clock::now();
    let success = Outcome::bare(Exit::Code(0), now);
    NewReport {
        attempt,
        time: now,
        body: v1::report::Body::Finished(success.into()),
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use orchestra_types::TaskId;

    use super::*;

    fn attempt(task: u64) -> AttemptId {
        AttemptId {
            task: TaskId(task),
            number: 1,
        }
    }

    async fn until(noops: &mut Noops, spool: &spool::Handle, done: impl Fn(&Progress) -> bool) {
        let mut progress = spool.progress();
        tokio::select! {
            never = noops.advance() => match never {},
            reached = progress.wait_for(done) => drop(reached.unwrap()),
        }
    }

    #[tokio::test]
    async fn an_attempt_is_held_until_its_durable_report_is_acknowledged() {
        let dir = tempfile::tempdir().unwrap();
        let (spool, _failure) = spool::start(dir.path().join("spool")).unwrap();
        let mut noops = Noops::new(spool.clone());
        noops.take(attempt(1));
        noops.take(attempt(2));
        noops.take(attempt(1));
        until(&mut noops, &spool, |progress| progress.last == 2).await;
        assert_eq!(noops.held().collect::<Vec<_>>(), [attempt(1), attempt(2)]);
        let reports = spool.waiting().after(0, 10);
        assert_eq!(reports.len(), 2, "the order that came twice is done once");
        noops.take(attempt(3));
        until(&mut noops, &spool, |progress| progress.last == 3).await;
        spool.acknowledged(2);
        until(&mut noops, &spool, |progress| progress.acked == 2).await;
        let _ = noops.advance().now_or_never();
        assert_eq!(noops.held().collect::<Vec<_>>(), [attempt(3)]);
    }
}
