//! What is over is forgotten, by age and by number, a few tasks at a time.
//!
//! A task goes when it has ended long enough ago, or when there are too many finished ones: then those
//! that never began go first, for they hold nothing, and who cancels a backlog must not lose results by
//! that. It stays while a task that has not ended comes after it (its output is still to be read), while a
//! kept task is a part of it (its budget counts for everything below), while the runs of a schedule
//! will come after it or be a part of it, and while a kept task would wait for it after a retry. A submission's key goes when all its tasks
//! are gone and nobody will repeat it any more. The newest submission's key stays: ids count on
//! from it after a restart, so that none is ever given twice.

use std::collections::{BTreeMap, BTreeSet};

use orchestra_types::{TaskId, TaskSpec, Timestamp};

use crate::{
    Core, Doubt, Retention, Step,
    change::Change,
    message::Message,
    row::{KeyRow, State, TaskRow},
};

/// Most tasks that one step forgets.
const BATCH_MAX: usize = 50;
/// How long after a step that forgot something the next one may: what is asked of the head goes
/// first. 10,000 tasks a second are as fast as they can end.
const PAUSE_MS: u64 = 5;

/// What is over, in the order in which it is forgotten.
#[derive(Debug, Default)]
pub(crate) struct Finished {
    /// Tasks by their end.
    by_end: BTreeSet<(Timestamp, TaskId)>,
    /// Those of them that never began.
    unbegun: BTreeSet<(Timestamp, TaskId)>,
    /// Those that were to go, but something still needs them.
    pinned: BTreeMap<TaskId, Pinned>,
    /// How many tasks that have not ended, and schedules, come after a task, and how many tasks and
    /// schedules are a part of it.
    needed_by: BTreeMap<TaskId, u64>,
    /// Submissions whose tasks are all gone.
    empty: BTreeSet<(Timestamp, TaskId)>,
    /// Nothing is forgotten before this moment.
    not_before: Timestamp,
    /// The clock of the start is not believed: until then nothing is forgotten for its age.
    pub doubt: Option<Doubt>,
}

/// One that is passed over.
#[derive(Clone, Copy, Debug)]
struct Pinned {
    at: Timestamp,
    unbegun: bool,
}

impl Finished {
    /// A task has come into a state.
    pub fn enter(&mut self, row: &TaskRow) {
        match &row.state {
            State::Ended { at, .. } => {
                self.insert(*at, row.id, row.attempts == 0);
                self.need(parent(row));
            }
            State::Blocked
            | State::Queued { .. }
            | State::Assigned { .. }
            | State::Running { .. }
            | State::Closing { .. } => {
                self.need(needs(row));
            }
        }
    }

    /// A task leaves a state.
    pub fn leave(&mut self, row: &TaskRow) {
        match &row.state {
            State::Ended { at, .. } => {
                self.by_end.remove(&(*at, row.id));
                self.unbegun.remove(&(*at, row.id));
                self.pinned.remove(&row.id);
                self.release(parent(row));
            }
            State::Blocked
            | State::Queued { .. }
            | State::Assigned { .. }
            | State::Running { .. }
            | State::Closing { .. } => self.release(needs(row)),
        }
    }

    /// Tasks that the runs of a schedule come after or are a part of.
    pub fn need_for_runs(&mut self, spec: &TaskSpec) {
        self.need(spec.after.iter().copied().chain(spec.parent));
    }

    /// No runs of a schedule come any more.
    pub fn release_of_runs(&mut self, spec: &TaskSpec) {
        self.release(spec.after.iter().copied().chain(spec.parent));
    }

    fn need(&mut self, needed: impl Iterator<Item = TaskId>) {
        for needed in needed {
            *self.needed_by.entry(needed).or_default() += 1;
        }
    }

    fn release(&mut self, needed: impl Iterator<Item = TaskId>) {
        for needed in needed.filter(|_| !mutated!(NeededForEver)) {
            if let Some(count) = self.needed_by.get_mut(&needed) {
                *count -= 1;
                if *count == 0 {
                    self.needed_by.remove(&needed);
                }
            }
            self.unpin(needed);
        }
    }

    fn insert(&mut self, at: Timestamp, id: TaskId, unbegun: bool) {
        self.by_end.insert((at, id));
        if unbegun {
            self.unbegun.insert((at, id));
        }
    }

    fn unpin(&mut self, id: TaskId) {
        if let Some(Pinned { at, unbegun }) = self.pinned.remove(&id) {
            self.insert(at, id, unbegun);
        }
    }

    fn pin(&mut self, at: Timestamp, id: TaskId) {
        self.by_end.remove(&(at, id));
        let unbegun = self.unbegun.remove(&(at, id));
        self.pinned.insert(id, Pinned { at, unbegun });
    }

    /// How many there are.
    fn count(&self) -> u64 {
        (self.by_end.len() + self.pinned.len()) as u64
    }

    /// The next one to go.
    fn first(&self, keep: &Retention) -> Option<(Timestamp, TaskId)> {
        let unbegun = self.unbegun.first();
        let unbegun = unbegun.filter(|_| self.count() > keep.finished_max);
        let unbegun = unbegun.filter(|_| !mutated!(BacklogGoesLast));
        unbegun.or_else(|| self.by_end.first()).copied()
    }

    /// When the first task goes.
    fn first_due(&self, keep: &Retention) -> Option<Timestamp> {
        let (at, _) = self.by_end.first()?;
        if self.count() > keep.finished_max {
            return Some(self.not_before);
        }
        if mutated!(KeptForEver) {
            return None;
        }
        let after = if mutated!(ForgetsTooEarly) {
            keep.finished_for / 2
        } else {
            keep.finished_for
        };
        Some(self.by_age(at.plus(after)))
    }

    /// When what is old enough at `due` goes.
    fn by_age(&self, due: Timestamp) -> Timestamp {
        let doubted = self.doubt.map_or(Timestamp(0), |doubt| doubt.until);
        due.max(self.not_before).max(doubted)
    }
}

/// The tasks that one which has not ended needs: those that it comes after, and its parent.
fn needs(row: &TaskRow) -> impl Iterator<Item = TaskId> {
    row.after.iter().copied().chain(parent(row))
}

/// The task that one is a part of, whether it has ended or not: the budget there counts for
/// everything below.
fn parent(row: &TaskRow) -> impl Iterator<Item = TaskId> + use<> {
    let parent = row.facts.terms.as_ref().and_then(|terms| terms.parent);
    parent.into_iter()
}

impl Core {
    /// When something is forgotten next.
    pub(crate) fn next_forgetting(&self) -> Option<Timestamp> {
        let task = self.finished.first_due(&self.config.retention);
        let key = self.next_key().map(|(at, _)| at);
        [task, key].into_iter().flatten().min()
    }

    /// Why nothing is forgotten for its age, since the start.
    #[must_use]
    pub fn doubt(&self) -> Option<Doubt> {
        self.finished.doubt
    }

    /// The tasks that would be forgotten at `now` if everything due went at once. What is still needed is
    /// passed over.
    pub fn forgettable(&self, now: Timestamp) -> impl Iterator<Item = TaskId> {
        let keep = self.config.retention;
        let finished = &self.finished;
        let doubted = finished.doubt.map_or(Timestamp(0), |doubt| doubt.until);
        let surplus = finished.count().saturating_sub(keep.finished_max);
        let surplus = usize::try_from(surplus).unwrap_or(usize::MAX);
        let begun = finished.by_end.iter();
        let begun = begun.filter(|end| !finished.unbegun.contains(*end));
        let free = |(_, id): &&(Timestamp, TaskId)| !self.is_needed(*id);
        let too_many = finished
            .unbegun
            .iter()
            .chain(begun)
            .filter(free)
            .take(surplus);
        let too_many: BTreeSet<&(Timestamp, TaskId)> = too_many.collect();
        let old = finished.by_end.iter().filter(free);
        let old = old.take_while(|(at, _)| at.plus(keep.finished_for) <= now && doubted <= now);
        let old: Vec<_> = old.filter(|end| !too_many.contains(*end)).collect();
        too_many.into_iter().chain(old).map(|(_, id)| *id)
    }

    /// Forgets some of what is due.
    pub(crate) fn forget_due(&mut self, now: Timestamp, step: &mut Step) {
        let keep = self.config.retention;
        let mut forgotten = 0;
        while forgotten < BATCH_MAX && self.finished.first_due(&keep).is_some_and(|at| at <= now) {
            let Some((at, id)) = self.finished.first(&keep) else {
                break;
            };
            if self.is_needed(id) {
                self.finished.pin(at, id);
            } else {
                self.forget(id, step);
                forgotten += 1;
            }
        }
        while forgotten < BATCH_MAX
            && let Some((at, first)) = self.next_key()
            && at <= now
        {
            self.forget_key(first, step);
            forgotten += 1;
        }
        if forgotten > 0 {
            self.finished.not_before = Timestamp(now.0.saturating_add(PAUSE_MS));
        }
    }

    /// Whether a kept task still needs this one.
    fn is_needed(&self, id: TaskId) -> bool {
        if mutated!(ForgetsNeeded) {
            return false;
        }
        let waits = self.dependants.get(&id).is_some_and(|set| !set.is_empty());
        waits || self.finished.needed_by.contains_key(&id)
    }

    fn forget(&mut self, id: TaskId, step: &mut Step) {
        self.budgets.forget(id);
        self.leave_state(id);
        let task = self.tasks.remove(&id).expect("finished tasks exist");
        self.facts.release(&task.row.facts);
        self.edges -= task.row.after.len();
        self.dependants.remove(&id);
        for before in task.waits_for.iter() {
            if let Some(waiting) = self.dependants.get_mut(&before) {
                waiting.remove(&id);
            }
        }
        for needed in needs(&task.row) {
            self.finished.unpin(needed);
        }
        if !mutated!(ForgottenNotWritten) {
            step.changes.push(Change::ForgetTask {
                id,
                attempts: task.row.attempts,
            });
        }
        let last = task.attempt();
        step.messages.push(Message::Forgotten { last });
        self.note_if_empty(id);
    }

    /// Notes the submission of a forgotten task when it was the last one.
    fn note_if_empty(&mut self, id: TaskId) {
        if let Some(row) = self.keys.of_task(id)
            && self.is_empty(&row)
        {
            self.finished.empty.insert((row.at, row.first));
        }
    }

    /// Notes all submissions without tasks. Once, after a restart.
    pub(crate) fn find_empty_submissions(&mut self) {
        let empty = self.keys.rows().filter(|row| self.is_empty(row));
        let empty: Vec<_> = empty.map(|row| (row.at, row.first)).collect();
        self.finished.empty.extend(empty);
    }

    fn is_empty(&self, row: &KeyRow) -> bool {
        let end = TaskId(row.first.0.saturating_add(row.count));
        let first = self.tasks.range(row.first..end, &[]).next();
        first.is_none()
    }

    /// The submission whose key goes next, and when.
    fn next_key(&self) -> Option<(Timestamp, TaskId)> {
        let (at, first) = self.finished.empty.first()?;
        if self.keys.newest() == Some(*first) {
            return None;
        }
        let keep = self.config.retention.keys_for;
        let due = at.plus(if mutated!(KeyForgottenTooEarly) {
            keep / 2
        } else {
            keep
        });
        Some((self.finished.by_age(due), *first))
    }

    fn forget_key(&mut self, first: TaskId, step: &mut Step) {
        let row = self.keys.of_task(first);
        let row = row.expect("empty submissions are known");
        self.keys.remove(&row);
        self.finished.empty.remove(&(row.at, first));
        step.changes.push(Change::ForgetKey { key: row.key });
    }
}
