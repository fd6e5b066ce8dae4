//! Signs of life of an attempt while its project's set-up command runs.
//!
//! The head counts how long nothing is heard of an agent. The command is none, may be silent and has a time
//! of its own.

use std::time::Duration;

use orchestra_types::AttemptId;
use tokio::{task::JoinSet, time::sleep};

use super::run::Attempt;
use crate::{bulk::Bulk, clock, events};

/// From one sign to the next: several in the shortest silence that a task may be stopped for.
const EVERY: Duration = Duration::from_secs(3);

/// They are given until it is dropped.
pub(super) struct Signs {
    _giver: JoinSet<()>,
}

impl Attempt {
    /// Begins to give signs of life for an attempt that has been under way for so long.
    pub(super) fn give_signs(&self, under_way: Duration) -> Option<Signs> {
        let left = self.set_up_command()?.timeout.saturating_sub(under_way);
        let mut giver = JoinSet::new();
        giver.spawn(give(self.shared.bulk.clone(), self.id, left));
        Some(Signs { _giver: giver })
    }
}

/// A command that is not ended when its time is over is stopped or hangs: then nobody vouches for it any more.
async fn give(bulk: Bulk, attempt: AttemptId, left: Duration) {
    let until = clock::since_boot().saturating_add(left);
    while clock::since_boot() < until {
        events::sign(&bulk, attempt).await;
        sleep(EVERY).await;
    }
}
