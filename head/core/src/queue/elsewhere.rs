//! Tasks that are not to go back to the worker that they failed on, while another one could do
//! them. They stand in classes of their own, so that a pick passes over them at no cost.

use std::collections::{BTreeMap, BTreeSet};

use orchestra_types::{TaskId, Timestamp, WorkerId};

use super::ClassNo;

/// A class of such tasks.
#[derive(Debug)]
struct Avoiding {
    serial: u64,
    /// A worker that could do it; none when there is none but the avoided one.
    other: Option<WorkerId>,
    /// Whether that was looked for.
    settled: bool,
}

#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    classes: BTreeMap<ClassNo, Avoiding>,
    /// How many of them are not settled.
    unsettled: usize,
    /// When each task has waited long enough for another worker.
    timers: BTreeSet<(Timestamp, TaskId)>,
}

impl Elsewhere {
    /// A task of a class waits for another worker.
    pub fn enter(&mut self, class: ClassNo, serial: u64, timer: (Timestamp, TaskId)) {
        self.timers.insert(timer);
        if self.classes.get(&class).is_some_and(|c| c.serial == serial) {
            return;
        }
        self.close(class);
        self.unsettled += 1;
        let new = Avoiding {
            serial,
            other: None,
            settled: false,
        };
        self.classes.insert(class, new);
    }

    /// A task does not wait for another worker any more, if it did.
    pub fn leave(&mut self, timer: (Timestamp, TaskId)) {
        self.timers.remove(&timer);
    }

    /// A class has no members any more, whatever kind of class it is.
    pub fn close(&mut self, class: ClassNo) {
        if let Some(closed) = self.classes.remove(&class) {
            self.unsettled -= usize::from(!closed.settled);
        }
    }

    pub fn next_due(&self) -> Option<Timestamp> {
        self.timers.first().map(|(at, _)| *at)
    }

    pub fn pop_due(&mut self, now: Timestamp) -> Option<TaskId> {
        let (at, id) = self.timers.first().copied()?;
        if at > now {
            return None;
        }
        self.timers.pop_first();
        Some(id)
    }

    pub fn has_other(&self, class: ClassNo) -> bool {
        let other = |class: &Avoiding| class.other.is_some() || mutated!(AvoidsAlone);
        !self.classes.is_empty() && self.classes.get(&class).is_some_and(other)
    }

    pub fn has_unsettled(&self) -> bool {
        self.unsettled > 0
    }

    pub fn classes(&self) -> impl Iterator<Item = (ClassNo, Option<&WorkerId>)> {
        let classes = self.classes.iter();
        classes.map(|(class, avoiding)| (*class, avoiding.other.as_ref()))
    }

    pub fn set_other(&mut self, class: ClassNo, other: Option<WorkerId>) -> bool {
        let Some(avoiding) = self.classes.get_mut(&class) else {
            return false;
        };
        self.unsettled -= usize::from(!avoiding.settled);
        // Nobody has learnt of a class that nobody looked for.
        let moved = avoiding.settled && avoiding.other.is_some() != other.is_some();
        avoiding.settled = true;
        avoiding.other = other;
        moved
    }
}
