//! Classes: waiting tasks with the same requirements.

use std::collections::{BTreeMap, BTreeSet};

use orchestra_types::{MachineId, RunnerName, WorkerId};

use super::{ClassNo, ClassSet, Head, HeadMove, Place, Rank, ShareNo};
use crate::row::TaskFacts;

/// What a worker must have to do a task.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Requirement {
    pub runner: Option<RunnerName>,
    /// Runners for while the accounts of those before them are parked.
    pub fallback: Vec<RunnerName>,
    pub machine: Option<MachineId>,
    pub labels: BTreeMap<String, String>,
    /// The worker that the task failed on, while another one is waited for.
    pub not_on: Option<WorkerId>,
}

impl Requirement {
    pub fn of(facts: &TaskFacts) -> Self {
        let terms = facts.terms.as_deref();
        Self {
            fallback: terms.map_or_else(Vec::new, |t| t.fallback.clone()),
            runner: facts.runner.clone(),
            machine: facts.machine.clone(),
            labels: facts.requires.clone(),
            not_on: None,
        }
    }
}

#[derive(Debug)]
struct Class {
    requirement: Requirement,
    /// Counts the classes that ever were; 0 without members.
    serial: u64,
    /// Waiting tasks, delayed ones too; a class without members gives its number back.
    members: u64,
    /// The first ready task of each share that has one.
    heads: BTreeSet<(Rank, ShareNo)>,
}

#[derive(Debug, Default)]
pub(super) struct Classes {
    all: Vec<Class>,
    /// The rank of the first ready task of each; beside the classes, because every pick reads it.
    best: Vec<Option<Rank>>,
    /// Numbers of classes without members.
    unused: Vec<ClassNo>,
    numbers: BTreeMap<Requirement, ClassNo>,
    newest: u64,
}

impl Classes {
    /// The class of a requirement. It needs a member at once.
    pub fn number_of(&mut self, requirement: Requirement) -> ClassNo {
        match self.numbers.get(&requirement) {
            Some(known) => *known,
            None => self.open(requirement),
        }
    }

    /// One member more.
    pub fn enter(&mut self, number: ClassNo) {
        self.all[number as usize].members += 1;
    }

    /// Tells the class that has this number from those that had it before; 0 when none has it.
    pub fn serial(&self, number: ClassNo) -> u64 {
        self.all[number as usize].serial
    }

    /// One member less; whether that was the last one.
    pub fn leave(&mut self, number: ClassNo) -> bool {
        let class = &mut self.all[number as usize];
        class.members -= 1;
        if class.members == 0 {
            class.serial = 0;
            self.numbers.remove(&class.requirement);
            self.unused.push(number);
            return true;
        }
        false
    }

    fn open(&mut self, requirement: Requirement) -> ClassNo {
        self.newest += 1;
        let class = Class {
            requirement: requirement.clone(),
            serial: self.newest,
            members: 0,
            heads: BTreeSet::new(),
        };
        let number = match self.unused.pop() {
            Some(number) => {
                self.all[number as usize] = class;
                number
            }
            None => {
                self.all.push(class);
                self.best.push(None);
                ClassNo::try_from(self.all.len() - 1).expect("there are fewer classes than tasks")
            }
        };
        self.numbers.insert(requirement, number);
        number
    }

    /// The first ready task of a share in a class is another one.
    pub fn move_head(&mut self, place: Place, moved: &HeadMove) {
        let rank = |head: Option<Head>| head.map(|(rank, _)| rank);
        let (old, new) = (rank(moved.old), rank(moved.new));
        if old == new {
            return;
        }
        let heads = &mut self.all[place.class as usize].heads;
        if let Some(rank) = old {
            heads.remove(&(rank, place.share));
        }
        if let Some(rank) = new {
            heads.insert((rank, place.share));
        }
        self.best[place.class as usize] = heads.first().map(|(rank, _)| *rank);
    }

    /// The rank of the first ready task of a class.
    pub fn best(&self, number: ClassNo) -> Option<Rank> {
        self.best[number as usize]
    }

    /// The share that has the first ready task of a class.
    pub fn first_share(&self, number: ClassNo) -> Option<ShareNo> {
        let first = self.all[number as usize].heads.first();
        first.map(|(_, share)| *share)
    }

    /// The lowest rank of a ready task of these classes.
    pub fn best_rank(&self, classes: &ClassSet) -> Option<Rank> {
        let best = |class: ClassNo| self.best.get(class as usize).copied().flatten();
        classes.iter().filter_map(best).min()
    }

    /// The classes that have a ready task.
    pub fn with_ready(&self) -> impl Iterator<Item = ClassNo> {
        let numbered = (0..).zip(&self.best);
        numbered
            .filter(|(_, best)| best.is_some())
            .map(|(number, _)| number)
    }

    /// The runners that tasks fall back on, and those before them.
    pub fn with_fallback(&self) -> impl Iterator<Item = &Requirement> {
        self.numbers
            .keys()
            .filter(|requirement| !requirement.fallback.is_empty())
    }

    pub fn requirement(&self, number: ClassNo) -> &Requirement {
        &self.all[number as usize].requirement
    }

    pub fn newest(&self) -> u64 {
        self.newest
    }

    pub fn since(&self, serial: u64) -> impl Iterator<Item = (ClassNo, &Requirement)> {
        let numbered = (0..).zip(&self.all);
        numbered
            .filter(move |(_, class)| class.serial > serial)
            .map(|(number, class)| (number, &class.requirement))
    }
}
