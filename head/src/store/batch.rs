//! Commits: batches, then one flush and one sync for all of them.
//!
//! A step is one batch when it has at most 256 operations. A larger one is cut between tasks, never
//! inside one, and the rows that make the others count come last: a submission's key (tasks
//! without a key are an unfinished submission, see `read`) and the number up to which a worker's
//! reports are recorded (without it the worker reports again).

use orchestra_core::Change;
use orchestra_types::TaskId;

use super::{Result, Store, encode};

/// Larger batches make sled's memory grow to gigabytes.
const BATCH_OPS_MAX: usize = 256;

/// A key, and its new value; none removes the row.
pub(super) type Operation = (Vec<u8>, Option<Vec<u8>>);

impl Store {
    /// Makes steps durable, in their order. When this returns an error, nothing may be said to
    /// anybody: the owner must stop.
    pub fn commit(&mut self, steps: &[Vec<Change>]) -> Result<()> {
        let mut batches = Batches::default();
        for step in steps {
            if step.len() <= BATCH_OPS_MAX {
                let operations = self.encode_all(step.iter())?;
                batches.add_together(operations);
            } else {
                self.add_in_parts(step, &mut batches)?;
            }
        }
        let batches = batches.finish();
        if batches.is_empty() {
            return Ok(());
        }
        for batch in batches {
            self.tree
                .apply_batch(batch)
                .map_err(super::Error::Database)?;
        }
        self.sync()
    }

    fn add_in_parts(&self, step: &[Change], batches: &mut Batches) -> Result<()> {
        let mut order: Vec<&Change> = step.iter().collect();
        // Stable: the later of two rows with one key still wins.
        order.sort_by_key(|change| place(change));
        for one_task in order.chunk_by(|a, b| place(a) == place(b)) {
            for part in one_task.chunks(BATCH_OPS_MAX) {
                batches.add_together(self.encode_all(part.iter().copied())?);
            }
        }
        Ok(())
    }

    fn encode_all<'a>(&self, changes: impl Iterator<Item = &'a Change>) -> Result<Vec<Operation>> {
        let mut operations = Vec::new();
        for change in changes {
            encode::change(change, &self.blobs, &mut operations)?;
        }
        Ok(operations)
    }
}

/// Where a change stands in a step that does not fit one batch: tasks, workers, what counts them.
fn place(change: &Change) -> (u8, TaskId) {
    let none = TaskId(0);
    match change {
        Change::Spec { id, .. } => (0, *id),
        Change::Task(row) => (0, row.id),
        Change::Attempt(row) => (0, row.id.task),
        Change::Outcome(row) => (0, row.id.task),
        Change::Worker(_) => (1, none),
        Change::Acked { .. } => (2, none),
        Change::ForgetTask { id, .. } => (0, *id),
        Change::ForgetWorker { .. } => (1, none),
        Change::Key(_) | Change::ForgetKey { .. } => (3, none),
    }
}

#[derive(Default)]
struct Batches {
    done: Vec<sled::Batch>,
    open: sled::Batch,
    operations: usize,
}

impl Batches {
    /// Adds operations that belong into one batch; they are at most as many as one may have.
    fn add_together(&mut self, operations: Vec<Operation>) {
        if self.operations + operations.len() > BATCH_OPS_MAX {
            self.close();
        }
        self.operations += operations.len();
        for (key, value) in operations {
            match value {
                Some(value) => self.open.insert(key, value),
                None => self.open.remove(key),
            }
        }
    }

    fn finish(mut self) -> Vec<sled::Batch> {
        self.close();
        self.done
    }

    fn close(&mut self) {
        if self.operations > 0 {
            self.done.push(std::mem::take(&mut self.open));
            self.operations = 0;
        }
    }
}
