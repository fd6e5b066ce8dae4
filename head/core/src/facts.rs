//! Facts that many tasks have in common, kept once.

use std::{collections::BTreeSet, sync::Arc};

use crate::row::TaskFacts;

/// All facts that are in use.
#[derive(Debug, Default)]
pub struct FactsPool(BTreeSet<Arc<TaskFacts>>);

impl FactsPool {
    /// The one copy of these facts.
    pub fn share(&mut self, facts: TaskFacts) -> Arc<TaskFacts> {
        if let Some(known) = self.0.get(&facts) {
            return Arc::clone(known);
        }
        let facts = Arc::new(facts);
        self.0.insert(Arc::clone(&facts));
        facts
    }

    /// The one copy of facts that may have been made elsewhere.
    pub(crate) fn adopt(&mut self, facts: &Arc<TaskFacts>) -> Arc<TaskFacts> {
        if let Some(known) = self.0.get(facts) {
            return Arc::clone(known);
        }
        self.0.insert(Arc::clone(facts));
        Arc::clone(facts)
    }

    /// Gives up facts that only the caller still uses.
    pub(crate) fn release(&mut self, facts: &Arc<TaskFacts>) {
        // The pool's own and the caller's.
        if Arc::strong_count(facts) <= 2 {
            self.0.remove(facts);
        }
    }
}
