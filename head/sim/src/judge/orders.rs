//! In which order workers begin what they were given.

use std::collections::BTreeMap;

use orchestra_core::Held;
use orchestra_types::{AttemptId, TaskId};

use super::Judge;
use crate::shadow::Shade;

/// The places of attempts among the orders of their workers.
#[derive(Debug, Default)]
pub(super) struct Orders {
    places: BTreeMap<AttemptId, u64>,
    last: u64,
}

impl Orders {
    /// An attempt is ordered, behind all that was ordered before. One that is ordered again has been given its
    /// place as its worker said what it has.
    pub fn given(&mut self, attempt: AttemptId) {
        self.last += 1;
        self.places.entry(attempt).or_insert(self.last);
    }

    /// Its place; the first one where it was never ordered.
    pub fn place(&self, attempt: AttemptId) -> u64 {
        self.places.get(&attempt).copied().unwrap_or(0)
    }

    fn put(&mut self, orders: impl IntoIterator<Item = AttemptId>) {
        for attempt in orders {
            self.last += 1;
            self.places.insert(attempt, self.last);
        }
    }
}

impl Judge {
    /// A worker says what it has, and in which order: what it does not name comes after that, as before. What
    /// it is given only now has no place yet.
    pub(super) fn held_in_order(&mut self, worker: u8, held: &[Held]) {
        let mut rest = self.given_to(worker);
        rest.retain(|attempt| self.orders.places.contains_key(attempt));
        rest.retain(|attempt| !held.iter().any(|held| held.attempt == *attempt));
        rest.sort_unstable_by_key(|attempt| self.orders.place(*attempt));
        self.orders.put(held.iter().map(|held| held.attempt));
        self.orders.put(rest);
    }

    /// After a start only the times of the orders are known.
    pub(super) fn restore_orders(&mut self) {
        let all = self.shadow.tasks();
        let mut all: Vec<_> = all
            .map(|(task, shade)| (shade.held_since, latest(task, shade)))
            .collect();
        all.sort_unstable();
        self.orders = Orders::default();
        self.orders.put(all.into_iter().map(|(_, attempt)| attempt));
    }

    fn given_to(&self, worker: u8) -> Vec<AttemptId> {
        let held = self.shadow.tasks().filter(|(_, shade)| {
            let holder = shade.holder();
            holder.is_some_and(|(holder, _)| holder == worker)
        });
        held.map(|(task, shade)| latest(task, shade)).collect()
    }
}

fn latest(task: TaskId, shade: &Shade) -> AttemptId {
    let number = shade.attempts;
    AttemptId { task, number }
}
