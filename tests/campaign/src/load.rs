//! The load: many submitters and one worker, which all end when the head does.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout_at},
};

use crate::{
    client::{self, Answer, Clients},
    head::Site,
    ledger::Shared,
    submitter::Submitter,
    worker::Worker,
};

/// How many submit at once.
pub const SUBMITTERS: usize = 32;

/// How long the worker waits before it attaches again.
const ATTACH_AGAIN: Duration = Duration::from_millis(10);

/// How long everybody together may take to notice that the head is gone: six times what a connection may
/// take that nobody answers.
const NOTICED_WITHIN: Duration = Duration::from_secs(60);

/// Those who speak to one head after another.
#[derive(Debug)]
pub struct Load {
    site: Site,
    ledger: Shared,
    submitters: Vec<Submitter>,
    worker: Option<Worker>,
}

/// A load that is on.
pub struct Running {
    load: Load,
    /// Dropped when the head is gone for good.
    stop: watch::Sender<()>,
    submitters: JoinSet<Submitter>,
    worker: JoinSet<Worker>,
}

impl Load {
    /// A load on `site`. Names of submissions begin with `name`.
    pub fn new(site: &Site, ledger: &Shared, name: &str, seed: u64) -> anyhow::Result<Self> {
        let submitter = |n| Submitter::new(format!("{name}-{n}"), seed ^ (n as u64) << 32);
        Ok(Self {
            site: site.clone(),
            ledger: ledger.clone(),
            submitters: (0..SUBMITTERS).map(submitter).collect(),
            worker: Some(Worker::new(site.worker_id()?, seed)),
        })
    }

    /// Takes the worker over from an earlier load on the same site.
    #[must_use]
    pub fn with_worker(mut self, worker: Option<Worker>) -> Self {
        self.worker = worker.or(self.worker);
        self
    }

    /// Gives the worker away.
    #[must_use]
    pub fn into_worker(self) -> Option<Worker> {
        self.worker
    }

    /// Starts it. Everybody ends by himself when the head is gone.
    pub fn start(mut self, clients: &Clients) -> Running {
        let mut submitters = JoinSet::new();
        for (n, mut submitter) in self.submitters.drain(..).enumerate() {
            let (admin, ledger) = (clients.nth(n), self.ledger.clone());
            submitters.spawn(async move {
                submitter.run(admin, &ledger).await;
                submitter
            });
        }
        let mut worker = JoinSet::new();
        let (stop, stopped) = watch::channel(());
        if let Some(mut hand) = self.worker.take() {
            let (site, ledger) = (self.site.clone(), self.ledger.clone());
            worker.spawn(async move {
                while stopped.has_changed().is_ok() {
                    // It always ends with an error: the head ended its stream, or is gone.
                    drop(hand.run(&site, &ledger).await);
                    tokio::time::sleep(ATTACH_AGAIN).await;
                }
                hand
            });
        }
        Running {
            load: self,
            stop,
            submitters,
            worker,
        }
    }
}

impl Running {
    /// Waits until everybody has noticed that the head is gone.
    pub async fn ended(mut self) -> anyhow::Result<Load> {
        drop(self.stop);
        self.load.submitters = all(self.submitters, "submitter").await?;
        self.load.worker = all(self.worker, "worker").await?.pop().or(self.load.worker);
        Ok(self.load)
    }
}

/// All of them, once they have ended.
async fn all<T: 'static>(mut running: JoinSet<T>, who: &str) -> anyhow::Result<Vec<T>> {
    let mut ended = Vec::new();
    let until = Instant::now() + NOTICED_WITHIN;
    while let Some(one) = timeout_at(until, running.join_next())
        .await
        .with_context(|| format!("a {who} has not noticed that the head is gone"))?
    {
        ended.push(one?);
    }
    Ok(ended)
}

/// Sends every submission again that has no answer yet.
pub async fn settle(clients: &Clients, ledger: &Shared) -> anyhow::Result<()> {
    let open: Vec<_> = ledger
        .lock()
        .submits
        .iter()
        .filter(|(_, submit)| submit.ids.is_none())
        .map(|(key, submit)| (key.clone(), submit.count, submit.kind))
        .collect();
    let mut asked = JoinSet::new();
    let limit = Arc::new(tokio::sync::Semaphore::new(SUBMITTERS));
    for (n, (key, count, kind)) in open.into_iter().enumerate() {
        let (mut admin, ledger) = (clients.nth(n), ledger.clone());
        let permit = Arc::clone(&limit).acquire_owned().await?;
        asked.spawn(async move {
            let answer = admin.submit(client::submission(&key, count, kind)).await;
            drop(permit);
            let answer =
                answer.map(|response| ledger.lock().submitted(&key, response.into_inner().ids));
            answer.map_err(|status| (key, status))
        });
    }
    while let Some(answer) = asked.join_next().await {
        if let Err((key, status)) = answer? {
            ensure!(
                client::meaning(&status) != Answer::Refused,
                "submission {key} was refused when it was sent again: {status}"
            );
            return Err(status).context("failed to send a submission again");
        }
    }
    Ok(())
}
