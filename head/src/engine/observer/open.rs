//! Which tasks have not ended: a bit for each, since ids are given one after the other and a million
//! tasks may wait.

use std::collections::BTreeMap;

use orchestra_types::TaskId;

#[derive(Debug, Default)]
pub(super) struct OpenTasks {
    /// 64 ids each; none without one.
    words: BTreeMap<u64, u64>,
}

impl OpenTasks {
    pub fn insert(&mut self, id: TaskId) {
        let (word, bit) = place(id);
        *self.words.entry(word).or_default() |= bit;
    }

    pub fn contains(&self, id: TaskId) -> bool {
        let (word, bit) = place(id);
        self.words.get(&word).is_some_and(|bits| bits & bit != 0)
    }

    /// Whether it was there.
    pub fn remove(&mut self, id: TaskId) -> bool {
        let (word, bit) = place(id);
        let Some(bits) = self.words.get_mut(&word) else {
            return false;
        };
        let was = *bits & bit != 0;
        *bits &= !bit;
        if *bits == 0 {
            self.words.remove(&word);
        }
        was
    }
}

fn place(id: TaskId) -> (u64, u64) {
    (id.0 / 64, 1 << (id.0 % 64))
}
