//! What has kept a queued task from every worker, in words for a person. It decides nothing.

use crate::{Availability, Core, queue::Requirement, task::Task, worker::Worker};

/// How many workers are named.
const NAMED_MAX: usize = 4;

impl Core {
    /// For the end of a sentence; empty where a worker had only to become free.
    pub(crate) fn kept_by(&self, task: &Task, requirement: &Requirement) -> String {
        let held = self.waiting_reason(task).map(|why| why.message);
        let kept = held.or_else(|| self.no_worker_for(requirement));
        kept.map_or_else(String::new, |why| format!(": {why}"))
    }

    /// Why no worker that is connected takes what requires this.
    fn no_worker_for(&self, requirement: &Requirement) -> Option<String> {
        let connected = self.workers.values().filter(|w| w.is_connected());
        let connected: Vec<&Worker> = connected.collect();
        if connected.is_empty() {
            return Some("no worker is connected".to_owned());
        }
        let suited: Vec<&Worker> = connected
            .into_iter()
            .filter(|worker| worker.suits(requirement))
            .collect();
        if suited.is_empty() {
            return Some(
                "no connected worker is what it requires; `ctl workers -v` shows their labels"
                    .to_owned(),
            );
        }
        let is_ready = |worker: &&Worker| {
            let mut ready = worker.ready();
            ready.any(|runner| requirement.wants(runner, &self.parked))
        };
        let ready: Vec<&Worker> = suited.into_iter().filter(is_ready).collect();
        if ready.is_empty() {
            return Some(
                "no worker has a runner ready for it; `ctl workers -v` says why".to_owned(),
            );
        }
        closed(&ready)
    }
}

/// That these are given nothing because a person wants it; none where one of them is open.
fn closed(workers: &[&Worker]) -> Option<String> {
    let mut named = Vec::new();
    for worker in workers {
        let (name, availability) = (&worker.row.info.name, worker.row.availability);
        match availability {
            Availability::Open => return None,
            Availability::Cordoned | Availability::Draining => {
                named.push(format!("{name} is {}", availability.as_str()));
            }
        }
    }
    let more = named.len().saturating_sub(NAMED_MAX);
    named.truncate(NAMED_MAX);
    let more = match more {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let named = named.join(", ");
    Some(format!(
        "{named}{more}; `ctl workers uncordon NAME` ends that"
    ))
}
