//! A worker in memory: who it is, what it holds, what it could take.

use std::collections::BTreeMap;

use orchestra_types::{
    AttemptId, RunnerName, Timestamp,
    runner::{Readiness, RunnerInfo},
};

use crate::{ConnectionId, queue::Requirement, row::WorkerRow, view::Link};

/// A worker in memory.
#[derive(Debug)]
pub(crate) struct Worker {
    pub row: WorkerRow,
    pub link: Link,
    pub last_seen: Timestamp,
    /// When its lease ends, as it stands in `Core::leases`.
    pub lease_ends: Option<Timestamp>,
    /// Reports up to here are recorded.
    pub acked: u64,
    /// What it holds, and with which runner.
    pub attempts: BTreeMap<AttemptId, RunnerName>,
}

impl Worker {
    pub fn new(row: WorkerRow, acked: u64) -> Self {
        Self {
            last_seen: row.attached_at,
            row,
            link: Link::Disconnected,
            lease_ends: None,
            acked,
            attempts: BTreeMap::new(),
        }
    }

    /// Whether `connection` is its open stream.
    pub fn is_on(&self, connection: ConnectionId) -> bool {
        self.link == Link::Connected(connection)
    }

    /// How many more attempts it could take in all.
    pub fn free_slots(&self) -> u32 {
        self.row
            .info
            .slots
            .saturating_sub(count(self.attempts.len()))
    }

    /// The attempts that a runner works on here.
    pub fn attempts_of(&self, runner: &RunnerName) -> impl Iterator<Item = AttemptId> {
        self.attempts
            .iter()
            .filter(move |(_, r)| *r == runner)
            .map(|(id, _)| *id)
    }

    /// Whether it could take anything at all.
    pub fn can_take(&self) -> bool {
        match self.link {
            Link::Connected(_) => self.free_slots() > 0,
            Link::Disconnected | Link::Lost => false,
        }
    }

    /// Its first runner that fits, with the runner's place in its order of preference.
    pub fn runner_for(&self, requirement: &Requirement) -> Option<(usize, &RunnerName)> {
        let here = requirement
            .machine
            .as_ref()
            .is_none_or(|m| *m == self.row.info.machine);
        let labels = &self.row.info.labels;
        let labelled = requirement
            .labels
            .iter()
            .all(|(k, v)| labels.get(k) == Some(v));
        if !here || !labelled {
            return None;
        }
        let wanted = |runner: &RunnerInfo| match &requirement.runner {
            Some(name) => runner.name == *name,
            None => runner.agentic,
        };
        let mut runners = self.row.info.runners.iter().enumerate();
        let found = runners.find(|(_, runner)| wanted(runner) && self.has_free(runner));
        found.map(|(place, runner)| (place, &runner.name))
    }

    /// Its load in thousandths, for comparing workers without fractions.
    pub fn load(&self) -> u64 {
        let busy = self.attempts.len() as u64;
        busy * 1000 / u64::from(self.row.info.slots.max(1))
    }

    fn has_free(&self, runner: &RunnerInfo) -> bool {
        let ready = match runner.readiness {
            Readiness::Ready => true,
            Readiness::Missing | Readiness::NotReady { .. } => false,
        };
        ready && count(self.attempts_of(&runner.name).count()) < runner.slots
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
