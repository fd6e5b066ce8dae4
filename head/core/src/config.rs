//! Numbers that an operator may set.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use orchestra_types::{
    AccountName, RunnerName, limits,
    runner::{KNOWN_RUNNERS, NOOP},
};

/// What the core is told once, at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// A task that has waited this long counts as one priority higher.
    pub promote_after: Duration,
    /// How long the first retry waits; each later one waits twice as long.
    pub retry_delay: Duration,
    /// Longest delay of a retry.
    pub retry_delay_max: Duration,
    /// How long after its last sign of life a worker still holds its attempts.
    pub lease: Duration,
    /// How much longer a lost attempt is waited for.
    pub lease_grace: Duration,
    /// A task that loses this many workers waits for a person.
    pub losses_max: u32,
    /// How much later than the worker the head ends an attempt that runs longer than it may.
    pub timeout_margin: Duration,
    /// How long a worker may take to end an attempt that it was told to end.
    pub give_up_after: Duration,
    /// An agent of which nothing was heard for this long is noted as silent.
    pub stall_notice: Duration,
    /// Most tasks that have not ended.
    pub queue_max: u64,
    /// How many attempts accounts may have at once.
    pub accounts: BTreeMap<AccountName, u32>,
    /// Runner names that are accepted even when no worker has them yet.
    pub known_runners: BTreeSet<RunnerName>,
    /// How long what is over is kept.
    pub retention: Retention,
}

/// How long what is over is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// A task that ended this long ago is forgotten.
    pub finished_for: Duration,
    /// Most finished tasks that are kept; the ones that ended first go first.
    pub finished_max: u64,
    /// How long a submission can be repeated with its key, when all its tasks are forgotten.
    pub keys_for: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        Self {
            finished_for: 30 * DAY,
            finished_max: 100_000,
            keys_for: 7 * DAY,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        let known = KNOWN_RUNNERS.iter().chain([&NOOP]);
        let known = known.map(|name| name.parse().expect("constant names are names"));
        Self {
            promote_after: Duration::from_secs(30 * 60),
            retry_delay: Duration::from_secs(10),
            retry_delay_max: Duration::from_secs(3600),
            lease: limits::LEASE,
            lease_grace: limits::LEASE_GRACE,
            losses_max: 3,
            timeout_margin: Duration::from_secs(60),
            give_up_after: Duration::from_secs(600),
            stall_notice: Duration::from_secs(600),
            queue_max: 1_000_000,
            accounts: BTreeMap::new(),
            known_runners: known.collect(),
            retention: Retention::default(),
        }
    }
}
