//! Which tasks have changed since a watcher was told of them: in bounded memory, and never too few.
//!
//! When there are too many, neighbours are put together: then some are told that have not changed.

use std::{collections::BTreeSet, ops::Range};

use orchestra_types::TaskId;

/// Most entries: about 100 KiB.
const BLOCKS_MAX: usize = 4096;

/// Changed tasks, by blocks of `2^shift` ids.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    shift: u32,
    blocks: BTreeSet<u64>,
    /// What is left of a block that was begun.
    begun: Range<u64>,
}

impl Dirty {
    pub fn add(&mut self, id: TaskId) {
        self.blocks.insert(id.0 >> self.shift);
        while self.blocks.len() > BLOCKS_MAX {
            self.shift += 1;
            self.blocks = self.blocks.iter().map(|block| block >> 1).collect();
        }
    }

    /// Everything up to `last`.
    pub fn add_all(&mut self, last: TaskId) {
        self.blocks.clear();
        self.shift = 0;
        self.begun = 1..last.0.saturating_add(1);
    }

    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.begun.is_empty()
    }

    /// Takes the next ids, at most `max`. Not each of them need be a task.
    pub fn take(&mut self, max: usize) -> Vec<TaskId> {
        let mut taken = Vec::new();
        while taken.len() < max {
            match self.begun.next() {
                Some(id) => taken.push(TaskId(id)),
                None => match self.blocks.pop_first() {
                    Some(block) => {
                        let start = block << self.shift;
                        self.begun = start..start + (1 << self.shift);
                    }
                    None => break,
                },
            }
        }
        if self.blocks.is_empty() {
            self.shift = 0;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(dirty: &mut Dirty) -> BTreeSet<u64> {
        let mut taken = BTreeSet::new();
        while !dirty.is_empty() {
            taken.extend(dirty.take(100).into_iter().map(|id| id.0));
        }
        taken
    }

    #[test]
    fn few_changes_are_told_as_they_are() {
        let mut dirty = Dirty::default();
        for id in [5, 900, 5, 7] {
            dirty.add(TaskId(id));
        }
        assert_eq!(all(&mut dirty), [5, 7, 900].into());
        assert!(dirty.is_empty());
    }

    #[test]
    fn of_many_changes_none_is_missing_and_the_memory_is_bounded() {
        let mut dirty = Dirty::default();
        let ids: BTreeSet<u64> = (1..200_000).map(|i| i * 37 % 1_000_003).collect();
        for id in &ids {
            dirty.add(TaskId(*id));
            assert!(dirty.blocks.len() <= BLOCKS_MAX);
        }
        let told = all(&mut dirty);
        assert!(ids.is_subset(&told));
        dirty.add(TaskId(3));
        assert_eq!(all(&mut dirty), [3].into(), "it is exact again");
    }

    #[test]
    fn what_changes_while_it_is_told_is_told_again() {
        let mut dirty = Dirty::default();
        dirty.add_all(TaskId(300));
        assert_eq!(dirty.take(256).len(), 256);
        dirty.add(TaskId(1));
        assert_eq!(all(&mut dirty), (257..=300).chain([1]).collect());
    }
}
