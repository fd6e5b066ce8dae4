//! What was asked of the head, and what it acknowledged.
//!
//! A question is noted before it is sent, and its acknowledgement when it has come. What was asked
//! and not acknowledged may have happened or not; what was acknowledged must be there for ever.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A ledger that submitters and the worker share.
#[derive(Clone, Debug, Default)]
pub struct Shared(Arc<Mutex<Ledger>>);

impl Shared {
    /// The ledger itself, for a moment.
    pub fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it holds now: the watermark of a loss of power.
    pub fn mark(&self) -> Ledger {
        self.lock().clone()
    }
}

/// What was asked and acknowledged.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Every submission by its key.
    pub submits: BTreeMap<String, Submit>,
    /// The tasks of acknowledged submissions.
    pub tasks: BTreeMap<u64, Task>,
    /// Attempts that the worker was ordered to start, by task and number.
    pub given: BTreeSet<(u64, u32)>,
    /// Tasks that may have been started and ended between a watermark and its cut.
    pub unsure: BTreeSet<u64>,
    /// What the worker reported, by task. It may know a task before its submitter does.
    pub done: BTreeMap<u64, Done>,
    /// The worker's reports are acknowledged up to here.
    pub reports_acked: u64,
    /// Events that the head acknowledged, by task.
    pub events: BTreeMap<u64, u64>,
    /// How often the worker was welcomed.
    pub attached: u64,
    /// Promises that were broken while the load ran.
    pub broken: Vec<String>,
    /// How much was acknowledged.
    pub counts: Counts,
}

/// How much was acknowledged.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Submissions.
    pub submits: u64,
    /// Cancels.
    pub cancels: u64,
    /// Completions.
    pub completions: u64,
    /// Submissions that were sent again, with the same answer.
    pub repeated: u64,
    /// Events.
    pub events: u64,
}

/// One submission.
#[derive(Clone, Debug)]
pub struct Submit {
    /// How many tasks.
    pub count: usize,
    /// Whether a worker runs them.
    pub kind: Kind,
    /// The ids, once acknowledged.
    pub ids: Option<Vec<u64>>,
}

/// Whether a worker takes a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It requires what no worker has: it stays queued until it is cancelled.
    Waits,
    /// The fake worker runs it.
    Runs,
}

/// One task of an acknowledged submission.
#[derive(Clone, Debug)]
pub struct Task {
    /// Its description, from which its submission is known.
    pub description: String,
    /// Whether a worker takes it.
    pub kind: Kind,
    /// What is known of its cancel.
    pub cancel: Cancel,
}

/// What is known of a cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// Nobody asked.
    No,
    /// Asked, without an answer.
    Asked,
    /// Acknowledged.
    Acked,
}

/// A completion that the worker reported.
#[derive(Clone, Debug)]
pub struct Done {
    /// The attempt's number.
    pub number: u32,
    /// The unique text of its result.
    pub text: String,
    /// The report's number.
    pub seq: u64,
}

/// The description of one task of a submission.
#[must_use]
pub fn description(key: &str, index: usize) -> String {
    format!("{key}/{index}")
}

impl Ledger {
    /// A submission is about to be sent.
    pub fn submitting(&mut self, key: &str, count: usize, kind: Kind) {
        let submit = Submit {
            count,
            kind,
            ids: None,
        };
        self.submits.entry(key.to_owned()).or_insert(submit);
    }

    /// A submission was acknowledged, perhaps once more.
    pub fn submitted(&mut self, key: &str, ids: Vec<u64>) {
        let Some(submit) = self.submits.get_mut(key) else {
            return;
        };
        if let Some(known) = &submit.ids {
            if *known == ids {
                self.counts.repeated += 1;
            } else {
                let text = format!("submission {key} gave {known:?} first and {ids:?} later");
                self.broken.push(text);
            }
            return;
        }
        if ids.len() != submit.count {
            let text = format!("submission {key} of {} gave {ids:?}", submit.count);
            self.broken.push(text);
        }
        for (index, id) in ids.iter().enumerate() {
            let task = Task {
                description: description(key, index),
                kind: submit.kind,
                cancel: Cancel::No,
            };
            if let Some(other) = self.tasks.insert(*id, task) {
                let text = format!("task {id} is of {} and of {key}", other.description);
                self.broken.push(text);
            }
        }
        submit.ids = Some(ids);
        self.counts.submits += 1;
    }

    /// A cancel is about to be sent.
    pub fn cancelling(&mut self, id: u64) {
        if let Some(task) = self.tasks.get_mut(&id)
            && task.cancel == Cancel::No
        {
            task.cancel = Cancel::Asked;
        }
    }

    /// A cancel was acknowledged.
    pub fn cancelled(&mut self, id: u64) {
        if let Some(task) = self.tasks.get_mut(&id) {
            task.cancel = Cancel::Acked;
            self.counts.cancels += 1;
        }
    }

    /// The worker is about to report an end.
    pub fn finishing(&mut self, id: u64, done: Done) {
        if let Some(known) = self.done.get(&id) {
            let text = format!(
                "task {id} was run twice: attempts {} and {}",
                known.number, done.number
            );
            self.broken.push(text);
        }
        self.done.insert(id, done);
    }

    /// The head acknowledged reports.
    pub fn acked(&mut self, up_to: u64) {
        self.reports_acked = self.reports_acked.max(up_to);
    }

    /// Whether a task's completion was acknowledged.
    #[must_use]
    pub fn is_done(&self, id: u64) -> bool {
        let done = self.done.get(&id);
        done.is_some_and(|done| done.seq <= self.reports_acked)
    }

    /// How many acknowledgements there were.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.counts.submits + self.counts.cancels + self.reports_acked + self.counts.events
    }

    /// Takes back what was acknowledged after `mark`: it may have reached the disk or not.
    pub fn back_to(&mut self, mark: Ledger) {
        let later = std::mem::replace(self, mark);
        for (key, submit) in later.submits {
            let unknown = Submit {
                ids: None,
                ..submit
            };
            self.submits.entry(key).or_insert(unknown);
        }
        for (id, task) in later.tasks {
            if let Some(known) = self.tasks.get_mut(&id)
                && known.cancel == Cancel::No
                && task.cancel != Cancel::No
            {
                known.cancel = Cancel::Asked;
            }
        }
        for (id, done) in later.done {
            if self.given.contains(&(id, done.number)) {
                self.done.entry(id).or_insert(done);
            } else {
                self.unsure.insert(id);
            }
        }
        self.broken = later.broken;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_key_with_other_ids_is_a_broken_promise() {
        let mut ledger = Ledger::default();
        ledger.submitting("k", 2, Kind::Waits);
        ledger.submitted("k", vec![1, 2]);
        ledger.submitted("k", vec![1, 2]);
        assert!(ledger.broken.is_empty());
        ledger.submitted("k", vec![3, 4]);
        assert_eq!(ledger.broken.len(), 1);
    }

    #[test]
    fn what_was_acknowledged_after_the_watermark_is_only_asked() {
        let mut ledger = Ledger::default();
        ledger.submitting("a", 1, Kind::Waits);
        ledger.submitted("a", vec![1]);
        let mark = ledger.clone();
        ledger.cancelled(1);
        ledger.submitting("b", 1, Kind::Waits);
        ledger.submitted("b", vec![2]);
        ledger.back_to(mark);
        assert_eq!(ledger.tasks[&1].cancel, Cancel::Asked);
        assert!(ledger.submits["b"].ids.is_none());
        assert!(!ledger.tasks.contains_key(&2));
    }
}
