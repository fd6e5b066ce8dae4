//! Where tasks with the same facts stand, so that the next one need not look it up by its texts.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use super::Place;
use crate::row::TaskFacts;

/// More are forgotten all at once.
const KNOWN_MAX: usize = 1 << 16;

/// A place, as long as its class and share are the ones with these serial numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub place: Place,
    pub class_serial: u64,
    pub share_serial: u64,
}

/// By the address of the facts. What is kept of them is enough that no others can have it.
#[derive(Debug, Default)]
pub(super) struct KnownPlaces(BTreeMap<usize, (Weak<TaskFacts>, Known)>);

impl KnownPlaces {
    pub fn get(&self, facts: &Arc<TaskFacts>) -> Option<Known> {
        self.0.get(&address(facts)).map(|(_, known)| *known)
    }

    pub fn insert(&mut self, facts: &Arc<TaskFacts>, known: Known) {
        if self.0.len() >= KNOWN_MAX {
            self.0.clear();
        }
        self.0
            .insert(address(facts), (Arc::downgrade(facts), known));
    }
}

fn address(facts: &Arc<TaskFacts>) -> usize {
    Arc::as_ptr(facts).addr()
}
