//! Where there is room: so that a new task finds its worker without asking all of them.

use std::collections::{BTreeMap, BTreeSet};

use orchestra_types::{MachineId, RunnerName, WorkerId};

use crate::{queue::Requirement, worker::Worker};

/// Labels of a worker. Workers with the same ones are asked as one.
type Labels = BTreeMap<String, String>;

/// A runner with room on a worker; the first goes first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Spot {
    /// The runner's place in the worker's order of preference.
    pub place: usize,
    /// The worker's load.
    pub load: u64,
    pub worker: WorkerId,
}

/// A list of spots in which all workers have the same labels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ListKey {
    runner: RunnerName,
    kind: usize,
}

/// Where a worker is listed.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    spots: Vec<(ListKey, Spot)>,
    machine: Option<MachineId>,
    kind: Option<usize>,
}

/// Labels that listed workers have.
#[derive(Debug, Default)]
struct Kind {
    labels: Labels,
    /// How many workers have them; the number of a kind that none has is given again.
    workers: usize,
}

/// The spots of all connected workers.
#[derive(Debug, Default)]
pub(crate) struct Free {
    lists: BTreeMap<ListKey, BTreeSet<Spot>>,
    /// The number of each kind, by its labels.
    numbers: BTreeMap<Labels, usize>,
    kinds: Vec<Kind>,
    /// Numbers of kinds that no worker has.
    unused: Vec<usize>,
    /// The listed workers of each machine.
    machines: BTreeMap<MachineId, BTreeSet<WorkerId>>,
}

impl Free {
    /// Lists a worker as it is now.
    pub fn list(&mut self, id: &WorkerId, worker: &mut Worker) {
        if worker.listed.kind.is_none() && !worker.can_take() {
            return;
        }
        self.unlist(id, worker);
        if !worker.can_take() {
            return;
        }
        let (kind, load) = (self.enter_kind(&worker.row.info.labels), worker.load());
        worker.listed.kind = Some(kind);
        for (place, runner) in worker.row.info.runners.iter().enumerate() {
            if !worker.has_free(place) {
                continue;
            }
            let key = ListKey {
                runner: runner.name.clone(),
                kind,
            };
            let spot = Spot {
                place,
                load,
                worker: id.clone(),
            };
            let list = self.lists.entry(key.clone()).or_default();
            list.insert(spot.clone());
            worker.listed.spots.push((key, spot));
        }
        let machine = worker.row.info.machine.clone();
        let there = self.machines.entry(machine.clone()).or_default();
        there.insert(id.clone());
        worker.listed.machine = Some(machine);
    }

    /// Lists a worker no more.
    pub fn unlist(&mut self, id: &WorkerId, worker: &mut Worker) {
        for (key, spot) in worker.listed.spots.drain(..) {
            if let Some(list) = self.lists.get_mut(&key) {
                list.remove(&spot);
                if list.is_empty() {
                    self.lists.remove(&key);
                }
            }
        }
        if let Some(kind) = worker.listed.kind.take() {
            self.leave_kind(kind);
        }
        if let Some(machine) = worker.listed.machine.take()
            && let Some(there) = self.machines.get_mut(&machine)
        {
            there.remove(id);
            if there.is_empty() {
                self.machines.remove(&machine);
            }
        }
    }

    fn enter_kind(&mut self, labels: &Labels) -> usize {
        let number = match self.numbers.get(labels) {
            Some(known) => *known,
            None => self.open_kind(labels),
        };
        self.kinds[number].workers += 1;
        number
    }

    fn open_kind(&mut self, labels: &Labels) -> usize {
        let number = self.unused.pop().unwrap_or_else(|| {
            self.kinds.push(Kind::default());
            self.kinds.len() - 1
        });
        self.kinds[number].labels.clone_from(labels);
        self.numbers.insert(labels.clone(), number);
        number
    }

    fn leave_kind(&mut self, number: usize) {
        let kind = &mut self.kinds[number];
        kind.workers -= 1;
        if kind.workers == 0 {
            self.numbers.remove(&std::mem::take(&mut kind.labels));
            self.unused.push(number);
        }
    }

    /// Lists of spots of a runner, or of all, whose labels a requirement has; each list has its
    /// best spot first.
    pub fn lists(
        &self,
        requirement: &Requirement,
        named: Option<&RunnerName>,
    ) -> impl Iterator<Item = (&RunnerName, &BTreeSet<Spot>)> {
        let first = named.map(|runner| ListKey {
            runner: runner.clone(),
            kind: 0,
        });
        let lists = match &first {
            Some(first) => self.lists.range(first..),
            None => self.lists.range::<ListKey, _>(..),
        };
        let lists = lists.take_while(move |(key, _)| named.is_none_or(|name| *name == key.runner));
        let suits = |key: &ListKey| {
            let mut labels = requirement.labels.iter();
            labels.all(|(name, value)| self.kinds[key.kind].labels.get(name) == Some(value))
        };
        lists
            .filter(move |(key, _)| suits(key))
            .map(|(key, spots)| (&key.runner, spots))
    }

    /// The listed workers of a machine.
    pub fn on_machine(&self, machine: &MachineId) -> impl Iterator<Item = &WorkerId> {
        self.machines.get(machine).into_iter().flatten()
    }
}

#[cfg(test)]
impl Free {
    /// How many kinds of labels are kept.
    pub fn kinds(&self) -> usize {
        self.kinds.len()
    }
}
