//! Where there is room: so that a new task finds its worker without asking all of them.

use std::collections::{BTreeMap, BTreeSet};

use orchestra_types::{RunnerName, WorkerId};

use crate::worker::Worker;

/// A runner with room on a worker; the first goes first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Spot {
    /// The runner's place in the worker's order of preference.
    pub place: usize,
    /// The worker's load.
    pub load: u64,
    pub worker: WorkerId,
}

/// The spots of all connected workers, by the runner's name.
#[derive(Debug, Default)]
pub(crate) struct Free(BTreeMap<RunnerName, BTreeSet<Spot>>);

impl Free {
    /// Lists a worker as it is now.
    pub fn list(&mut self, id: &WorkerId, worker: &mut Worker) {
        if worker.listed.is_empty() && !worker.can_take() {
            return;
        }
        for (runner, spot) in worker.listed.drain(..) {
            if let Some(spots) = self.0.get_mut(&runner) {
                spots.remove(&spot);
                if spots.is_empty() {
                    self.0.remove(&runner);
                }
            }
        }
        if !worker.can_take() {
            return;
        }
        let load = worker.load();
        for (place, runner) in worker.row.info.runners.iter().enumerate() {
            if !worker.has_free(place) {
                continue;
            }
            let spot = Spot {
                place,
                load,
                worker: id.clone(),
            };
            self.0
                .entry(runner.name.clone())
                .or_default()
                .insert(spot.clone());
            worker.listed.push((runner.name.clone(), spot));
        }
    }

    /// The runners that have a spot.
    pub fn runners(&self) -> impl Iterator<Item = &RunnerName> {
        self.0.keys()
    }

    /// The spots of a runner, best first.
    pub fn of(&self, runner: &RunnerName) -> impl Iterator<Item = &Spot> {
        self.0.get(runner).into_iter().flatten()
    }
}
