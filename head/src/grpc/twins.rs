//! One identity, one installation: a copied state directory has the identity of the worker that it was
//! copied from, and both would run the same attempts.
//!
//! ```text
//! same installation, or none told, or nobody attached ─► welcome, at once: a restart, a stream that broke
//! another one ─► is the attached one heard within the time? yes ─► refused; no ─► welcome: it was moved
//! ```
//!
//! A head that has started takes those that it welcomed last, as the workers' rows say, for attached and
//! silent: a copy that comes before the first one does waits for that one.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use orchestra_core::ConnectionId;
use orchestra_types::{MachineId, WorkerId, limits, runner::WorkerInfo};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

/// How many heartbeats may be missing before the attached one counts as gone: more than a worker needs to
/// give up a stream that is dead, and soon enough for who waits for its welcome.
const BEATS: u32 = 4;

/// The installations of attached workers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Twins {
    table: Arc<Mutex<BTreeMap<WorkerId, Attached>>>,
    /// Told when a worker was heard that somebody asks for, or has gone.
    news: Arc<Notify>,
    alive_within: Duration,
}

/// The worker that has an identity.
#[derive(Clone, Debug)]
pub(super) struct Attached {
    pub connection: ConnectionId,
    /// Empty where it does not say.
    pub installation: String,
    /// Its machine, for people.
    pub hostname: String,
    pub since: Instant,
    /// When it was last heard.
    pub heard: Instant,
    /// How many want to know when it is heard.
    pub asked_for: u32,
}

/// Another installation has the identity, and is alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Twin {
    pub hostname: String,
    pub attached_for: Duration,
}

impl Twins {
    /// None. `lease` says how often workers are heard.
    #[must_use]
    pub fn new(lease: Duration) -> Self {
        Self {
            table: Arc::default(),
            news: Arc::default(),
            alive_within: (lease / 6).min(limits::HEARTBEAT_EVERY) * BEATS,
        }
    }

    /// Takes the installation that a worker had before this head was started for attached, as long as it
    /// may take it to come back. One of this machine that the machine has outlived is gone.
    pub fn expect(&self, last: &WorkerInfo, machine: &MachineId, boot: &str) {
        let is_gone = last.machine == *machine && last.boot_id != boot;
        if is_gone || last.installation.is_empty() {
            return;
        }
        let now = Instant::now();
        let attached = Attached {
            // Before every stream of this head.
            connection: ConnectionId(0),
            installation: last.installation.clone(),
            hostname: last.hostname.clone(),
            since: now,
            heard: now,
            asked_for: 0,
        };
        self.table().insert(last.id.clone(), attached);
    }

    /// Whether this installation may have the identity. Waits for a sign of life of another one that has
    /// it, no longer than it takes to know that there is none.
    pub(super) async fn admit(&self, worker: &WorkerId, installation: &str) -> Result<(), Twin> {
        let began = Instant::now();
        loop {
            // IMPORTANT: before the look, so that nothing is missed between the two.
            let news = self.news.notified();
            let Some(other) = self.ask_for(worker, installation) else {
                return Ok(());
            };
            let _asking = Asking {
                twins: self,
                worker,
            };
            if other.heard > began {
                return Err(Twin {
                    hostname: other.hostname,
                    attached_for: other.since.elapsed(),
                });
            }
            if timeout_at(other.heard + self.alive_within, news)
                .await
                .is_err()
            {
                return Ok(());
            }
        }
    }

    /// A worker has come.
    pub(super) fn attached(&self, worker: &WorkerId, attached: Attached) {
        let mut table = self.table();
        let known = table.get(worker);
        // One that was replaced may be the last to say so.
        if known.is_none_or(|known| known.connection < attached.connection) {
            table.insert(worker.clone(), attached);
        }
        self.news.notify_waiters();
    }

    /// Something came from it.
    pub(super) fn heard(&self, worker: &WorkerId, connection: ConnectionId) {
        let mut table = self.table();
        let known = table.get_mut(worker);
        let Some(known) = known.filter(|known| known.connection == connection) else {
            return;
        };
        known.heard = Instant::now();
        if known.asked_for > 0 {
            self.news.notify_waiters();
        }
    }

    /// A stream is over.
    pub(super) fn detached(&self, worker: &WorkerId, connection: ConnectionId) {
        let mut table = self.table();
        if table
            .get(worker)
            .is_some_and(|known| known.connection == connection)
        {
            table.remove(worker);
            self.news.notify_waiters();
        }
    }

    /// The other installation that has the identity; its next sign of life will be told.
    fn ask_for(&self, worker: &WorkerId, installation: &str) -> Option<Attached> {
        let mut table = self.table();
        let known = table.get_mut(worker)?;
        let told = !installation.is_empty() && !known.installation.is_empty();
        let is_another = told && known.installation != installation;
        let other = is_another.then_some(known)?;
        other.asked_for += 1;
        Some(other.clone())
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<WorkerId, Attached>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody wants to know when a worker is heard, and may go away.
struct Asking<'a> {
    twins: &'a Twins,
    worker: &'a WorkerId,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let mut table = self.twins.table();
        // A worker that came in its place has been asked for by nobody yet.
        if let Some(known) = table.get_mut(self.worker) {
            known.asked_for = known.asked_for.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use orchestra_proto::v1;

    use super::*;

    const LEASE: Duration = Duration::from_secs(30);

    fn worker() -> WorkerId {
        "w-1".parse().unwrap()
    }

    fn attach(twins: &Twins, connection: u64, installation: &str) {
        let attached = Attached {
            connection: ConnectionId(connection),
            installation: installation.to_owned(),
            hostname: "host-1".to_owned(),
            since: Instant::now(),
            heard: Instant::now(),
            asked_for: 0,
        };
        twins.attached(&worker(), attached);
    }

    async fn pass(seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_installation_comes_back_at_once_and_so_does_one_that_says_nothing() {
        let twins = Twins::new(LEASE);
        let began = Instant::now();
        twins.admit(&worker(), "a").await.unwrap();
        attach(&twins, 1, "a");
        twins.admit(&worker(), "a").await.unwrap();
        twins.admit(&worker(), "").await.unwrap();
        attach(&twins, 2, "");
        twins.admit(&worker(), "b").await.unwrap();
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn another_installation_is_refused_when_the_first_one_is_heard() {
        let twins = Twins::new(LEASE);
        attach(&twins, 1, "a");
        pass(7).await;
        let first = async {
            pass(3).await;
            twins.heard(&worker(), ConnectionId(1));
        };
        let id = worker();
        let refused = tokio::join!(twins.admit(&id, "b"), first).0;
        let twin = Twin {
            hostname: "host-1".to_owned(),
            attached_for: Duration::from_secs(10),
        };
        assert_eq!(refused, Err(twin));
        assert_eq!(twins.table()[&worker()].asked_for, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn another_installation_takes_the_place_of_one_that_is_silent_or_has_gone() {
        let twins = Twins::new(LEASE);
        let began = Instant::now();
        attach(&twins, 1, "a");
        twins.admit(&worker(), "b").await.unwrap();
        assert_eq!(began.elapsed(), Duration::from_secs(20));
        attach(&twins, 2, "b");
        let ends = async {
            pass(1).await;
            // What is heard of a stream that was replaced says nothing.
            twins.heard(&worker(), ConnectionId(1));
            twins.detached(&worker(), ConnectionId(1));
            pass(1).await;
            twins.detached(&worker(), ConnectionId(2));
        };
        let id = worker();
        tokio::join!(twins.admit(&id, "c"), ends).0.unwrap();
        assert_eq!(began.elapsed(), Duration::from_secs(22));
    }

    fn last(installation: &str) -> WorkerInfo {
        WorkerInfo::try_from(v1::WorkerInfo {
            id: worker().to_string(),
            machine: "m-1".to_owned(),
            boot_id: "b-1".to_owned(),
            hostname: "host-1".to_owned(),
            installation: installation.to_owned(),
            ..v1::WorkerInfo::default()
        })
        .unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_restart_a_copy_waits_for_the_first_one_and_is_refused_when_it_comes() {
        let twins = Twins::new(LEASE);
        twins.expect(&last("a"), &"m-2".parse().unwrap(), "b-2");
        let first = async {
            pass(7).await;
            twins.admit(&worker(), "a").await.unwrap();
            attach(&twins, 1, "a");
            pass(3).await;
            twins.heard(&worker(), ConnectionId(1));
        };
        let id = worker();
        let refused = tokio::join!(twins.admit(&id, "b"), first).0;
        assert!(refused.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_restart_one_that_was_moved_is_welcome_when_the_first_one_does_not_come() {
        let began = Instant::now();
        let twins = Twins::new(LEASE);
        let here = "m-1".parse().unwrap();
        twins.expect(&last("a"), &here, "b-1");
        twins.admit(&worker(), "b").await.unwrap();
        assert_eq!(began.elapsed(), Duration::from_secs(20));
        // Before the machine was restarted, or by an earlier head that did not note it.
        for (installation, boot) in [("a", "b-2"), ("", "b-1")] {
            let twins = Twins::new(LEASE);
            twins.expect(&last(installation), &here, boot);
            twins.admit(&worker(), "b").await.unwrap();
        }
        assert_eq!(began.elapsed(), Duration::from_secs(20));
    }
}
