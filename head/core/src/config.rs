//! Numbers that an operator may set.

use std::{collections::BTreeSet, time::Duration};

use orchestra_types::{
    RunnerName, limits,
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
    /// Most tasks that have not ended.
    pub queue_max: u64,
    /// Runner names that are accepted even when no worker has them yet.
    pub known_runners: BTreeSet<RunnerName>,
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
            queue_max: 1_000_000,
            known_runners: known.collect(),
        }
    }
}
