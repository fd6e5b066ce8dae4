//! The order of waiting tasks.
//!
//! `rank = since - priority * promote_after` never changes while a task waits, and ordering by it
//! is linear ageing: a task that has waited `promote_after` longer counts one priority more, so
//! nothing is ever sorted again. Tasks with the same requirements share a class; a pick looks at
//! the first task of each class only.
//!
//! **Bound on waiting.** A task overtakes only tasks whose rank is higher. One of priority p that
//! waits since t can be overtaken only by tasks that came before t + (high - p) * promote_after:
//! one hour for a low task at the default of 30 minutes, whatever arrives after that.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use orchestra_types::{MachineId, Priority, RunnerName, TaskId, Timestamp};

use crate::row::TaskFacts;

/// What a worker must have to do a task.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Requirement {
    pub runner: Option<RunnerName>,
    pub machine: Option<MachineId>,
    pub labels: BTreeMap<String, String>,
}

impl Requirement {
    fn of(facts: &TaskFacts) -> Self {
        Self {
            runner: facts.runner.clone(),
            machine: facts.machine.clone(),
            labels: facts.requires.clone(),
        }
    }
}

/// A task's place in the queue; lower goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank(i64);

/// Tasks with the same requirements.
#[derive(Debug)]
struct Class {
    requirement: Requirement,
    /// Those whose time has come, best first.
    ready: BTreeSet<(Rank, TaskId)>,
    /// All of them, delayed ones too; a class without members gives its number back.
    members: u64,
}

/// The number of a class.
type ClassId = usize;

#[derive(Debug)]
pub(crate) struct Queue {
    age: i64,
    classes: Vec<Class>,
    /// Numbers of classes without members.
    unused: Vec<ClassId>,
    numbers: BTreeMap<Requirement, ClassId>,
    /// The first ready task of each class that has one.
    heads: BTreeSet<(Rank, TaskId, ClassId)>,
    /// Where each waiting task stands.
    places: BTreeMap<TaskId, (ClassId, Rank)>,
    /// Tasks whose time has not come.
    delayed: BTreeSet<(Timestamp, TaskId)>,
}

impl Queue {
    pub fn new(promote_after: Duration) -> Self {
        Self {
            age: i64::try_from(promote_after.as_millis()).unwrap_or(i64::MAX / 8),
            classes: Vec::new(),
            unused: Vec::new(),
            numbers: BTreeMap::new(),
            heads: BTreeSet::new(),
            places: BTreeMap::new(),
            delayed: BTreeSet::new(),
        }
    }

    /// Adds a task that waits since `since` and may start at `not_before`.
    pub fn add(
        &mut self,
        now: Timestamp,
        id: TaskId,
        facts: &TaskFacts,
        since: Timestamp,
        not_before: Timestamp,
    ) {
        let rank = self.rank(since, facts.priority);
        let class = self.class_of(Requirement::of(facts));
        self.classes[class].members += 1;
        self.places.insert(id, (class, rank));
        if not_before > now {
            self.delayed.insert((not_before, id));
        } else {
            self.make_ready(id);
        }
    }

    /// Removes a task, wherever it stands.
    pub fn remove(&mut self, id: TaskId, not_before: Timestamp) {
        let Some((class, rank)) = self.places.remove(&id) else {
            return;
        };
        self.delayed.remove(&(not_before, id));
        self.change_ready(class, |ready| {
            ready.remove(&(rank, id));
        });
        self.classes[class].members -= 1;
        if self.classes[class].members == 0 {
            self.numbers.remove(&self.classes[class].requirement);
            self.unused.push(class);
        }
    }

    /// The first ready task of each class, best rank first.
    pub fn heads(&self) -> impl Iterator<Item = (TaskId, &Requirement)> {
        let heads = self.heads.iter();
        heads.map(|(_, id, class)| (*id, &self.classes[*class].requirement))
    }

    /// When the next delayed task's time comes.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.delayed.first().map(|(at, _)| *at)
    }

    /// Makes those ready whose time has come.
    pub fn promote_due(&mut self, now: Timestamp) {
        while let Some((at, id)) = self.delayed.first().copied() {
            if at > now {
                return;
            }
            self.delayed.pop_first();
            self.make_ready(id);
        }
    }

    fn make_ready(&mut self, id: TaskId) {
        let (class, rank) = *self
            .places
            .get(&id)
            .expect("every waiting task has a place");
        self.change_ready(class, |ready| {
            ready.insert((rank, id));
        });
    }

    /// Changes what is ready in a class; its place among the heads follows.
    fn change_ready(&mut self, class: ClassId, change: impl FnOnce(&mut BTreeSet<(Rank, TaskId)>)) {
        let ready = &mut self.classes[class].ready;
        let before = ready.first().copied();
        change(ready);
        let after = ready.first().copied();
        if before == after {
            return;
        }
        if let Some((rank, id)) = before {
            self.heads.remove(&(rank, id, class));
        }
        if let Some((rank, id)) = after {
            self.heads.insert((rank, id, class));
        }
    }

    fn class_of(&mut self, requirement: Requirement) -> ClassId {
        if let Some(known) = self.numbers.get(&requirement) {
            return *known;
        }
        let class = Class {
            requirement: requirement.clone(),
            ready: BTreeSet::new(),
            members: 0,
        };
        let number = match self.unused.pop() {
            Some(number) => {
                self.classes[number] = class;
                number
            }
            None => {
                self.classes.push(class);
                self.classes.len() - 1
            }
        };
        self.numbers.insert(requirement, number);
        number
    }

    fn rank(&self, since: Timestamp, priority: Priority) -> Rank {
        let since = i64::try_from(since.0).unwrap_or(i64::MAX);
        let steps: i64 = match priority {
            Priority::Low => 0,
            Priority::Normal => 1,
            Priority::High => 2,
        };
        Rank(since.saturating_sub(steps.saturating_mul(self.age)))
    }
}
