//! Facts that many tasks have in common, kept once, and how much they take.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{queue::Requirement, row::TaskFacts};

/// All facts that are in use.
#[derive(Debug, Default)]
pub struct FactsPool {
    all: BTreeSet<Arc<TaskFacts>>,
    /// What each of them requires of a worker, and how many require it.
    kinds: BTreeMap<Requirement, usize>,
    /// The bytes of their texts.
    text_bytes: usize,
}

impl FactsPool {
    /// The one copy of these facts.
    pub fn share(&mut self, facts: TaskFacts) -> Arc<TaskFacts> {
        if let Some(known) = self.all.get(&facts) {
            return Arc::clone(known);
        }
        let facts = Arc::new(facts);
        self.insert(Arc::clone(&facts));
        facts
    }

    /// The one copy of facts that may have been made elsewhere.
    pub(crate) fn adopt(&mut self, facts: &Arc<TaskFacts>) -> Arc<TaskFacts> {
        if let Some(known) = self.all.get(facts) {
            return Arc::clone(known);
        }
        self.insert(Arc::clone(facts));
        Arc::clone(facts)
    }

    /// Gives up facts that only the caller still uses.
    pub(crate) fn release(&mut self, facts: &Arc<TaskFacts>) {
        // The pool's own and the caller's.
        if Arc::strong_count(facts) <= 2 && self.all.remove(facts) {
            self.text_bytes -= facts.text_bytes();
            let kind = Requirement::of(facts);
            if let Some(count) = self.kinds.get_mut(&kind) {
                *count -= 1;
                if *count == 0 {
                    self.kinds.remove(&kind);
                }
            }
        }
    }

    fn insert(&mut self, facts: Arc<TaskFacts>) {
        self.text_bytes += facts.text_bytes();
        *self.kinds.entry(Requirement::of(&facts)).or_default() += 1;
        self.all.insert(facts);
    }

    /// The bytes that the texts of all facts take.
    pub(crate) fn text_bytes(&self) -> usize {
        self.text_bytes
    }

    /// How many different things tasks require of a worker.
    pub(crate) fn kinds(&self) -> usize {
        self.kinds.len()
    }

    pub(crate) fn knows_kind(&self, kind: &Requirement) -> bool {
        self.kinds.contains_key(kind)
    }

    pub(crate) fn knows(&self, facts: &TaskFacts) -> bool {
        self.all.contains(facts)
    }
}

impl TaskFacts {
    /// The bytes of its texts: what a client chooses the length of.
    pub(crate) fn text_bytes(&self) -> usize {
        let pairs = self.requires.iter().chain(&self.labels);
        let labels: usize = pairs.map(|(key, value)| key.len() + value.len()).sum();
        let project = self.project.as_ref();
        let project = project.map_or(0, |(id, name)| id.as_str().len() + name.len());
        labels + project + self.submitter.len()
    }
}
