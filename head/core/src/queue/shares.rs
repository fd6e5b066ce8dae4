//! Shares: waiting tasks of the same project and submitter, and whose turn it is.

use std::collections::{BTreeMap, BTreeSet};

use orchestra_types::{ProjectId, TaskId};

use super::{ClassNo, ClassSet, Head, HeadMove, Pick, Place, Rank, ShareNo, ShareSet, Turns};
use crate::row::TaskFacts;

/// Shares without a waiting task that are remembered, so that one which comes and goes does not
/// count as new each time.
const IDLE_MAX: usize = 1024;

/// Who waits: a project and a submitter.
type Key = (Option<ProjectId>, String);

/// The ready tasks of a share in a class, best first. There is always one.
#[derive(Debug)]
struct Lane {
    class: ClassNo,
    head: Head,
    ready: BTreeSet<Head>,
}

#[derive(Debug)]
struct Share {
    key: Key,
    /// Counts the shares that ever were; 0 when it is forgotten.
    serial: u64,
    /// Waiting tasks, delayed ones too.
    members: u64,
    /// The classes in which it has a lane.
    classes: ClassSet,
    /// In the order of their classes.
    lanes: Vec<Lane>,
}

/// When a share was served.
#[derive(Clone, Copy, Debug)]
struct Clock {
    /// Where it was not served since it came, it counts as served at this turn.
    came: u64,
    /// The turn at which it was served last, anywhere.
    served: u64,
}

#[derive(Debug, Default)]
pub(super) struct Shares {
    all: Vec<Share>,
    /// One for each; beside the shares, because every pick reads them all.
    clocks: Vec<Clock>,
    numbers: BTreeMap<Key, ShareNo>,
    /// Those that have a ready task.
    ready: ShareSet,
    /// Those without members, the one served longest ago first.
    idle: BTreeSet<(u64, ShareNo)>,
    /// Numbers of forgotten shares.
    unused: Vec<ShareNo>,
    /// The latest turn of a forgotten share: what comes anew may be one of those, and counts as
    /// served then.
    forgotten: u64,
    newest: u64,
    /// Counts the starts.
    turn: u64,
}

fn first(ready: &BTreeSet<Head>) -> Option<Head> {
    let first = if mutated!(LastComeFirst) {
        ready.last()
    } else {
        ready.first()
    };
    first.copied()
}

impl Share {
    /// Its best ready task among these classes, no worse than `last`.
    fn best(&self, classes: &ClassSet, last: Rank) -> Option<&Lane> {
        let lanes = self.classes.common(classes).map(|at| &self.lanes[at]);
        lanes
            .filter(|lane| lane.head.0 <= last)
            .min_by_key(|lane| lane.head)
    }
}

impl Shares {
    /// The share of these facts.
    pub fn number_of(&mut self, facts: &TaskFacts) -> ShareNo {
        let project = facts.project.as_ref().map(|(id, _)| id.clone());
        let key = (project, facts.submitter.clone());
        match self.numbers.get(&key) {
            Some(known) => *known,
            None => self.open(key),
        }
    }

    /// One member more.
    pub fn enter(&mut self, number: ShareNo) {
        let share = &mut self.all[number as usize];
        if share.members == 0 {
            let served = self.clocks[number as usize].served;
            self.idle.remove(&(served, number));
        }
        share.members += 1;
    }

    /// Tells the share that has this number from those that had it before; 0 when none has it.
    pub fn serial(&self, number: ShareNo) -> u64 {
        self.all[number as usize].serial
    }

    /// One member less.
    pub fn leave(&mut self, number: ShareNo) {
        let share = &mut self.all[number as usize];
        share.members -= 1;
        if share.members > 0 {
            return;
        }
        let served = self.clocks[number as usize].served;
        self.idle.insert((served, number));
        if self.idle.len() > IDLE_MAX
            && let Some((served, number)) = self.idle.pop_first()
        {
            self.forgotten = self.forgotten.max(served);
            let share = &mut self.all[number as usize];
            share.serial = 0;
            self.numbers.remove(&share.key);
            self.unused.push(number);
        }
    }

    fn open(&mut self, key: Key) -> ShareNo {
        self.newest += 1;
        let share = Share {
            key: key.clone(),
            serial: self.newest,
            members: 0,
            classes: ClassSet::default(),
            lanes: Vec::new(),
        };
        let clock = Clock {
            came: self.forgotten,
            served: self.forgotten,
        };
        let number = match self.unused.pop() {
            Some(number) => {
                self.all[number as usize] = share;
                self.clocks[number as usize] = clock;
                number
            }
            None => {
                self.all.push(share);
                self.clocks.push(clock);
                ShareNo::try_from(self.all.len() - 1).expect("there are fewer shares than tasks")
            }
        };
        // The share is idle until its first member is counted.
        self.idle.insert((self.forgotten, number));
        self.numbers.insert(key, number);
        number
    }

    /// Changes what is ready in a lane. Says which task was its first, and which is now.
    pub fn change(&mut self, place: Place, change: impl FnOnce(&mut BTreeSet<Head>)) -> HeadMove {
        let share = &mut self.all[place.share as usize];
        let found = share
            .lanes
            .binary_search_by_key(&place.class, |lane| lane.class);
        match found {
            Ok(at) => {
                let lane = &mut share.lanes[at];
                let old = Some(lane.head);
                change(&mut lane.ready);
                let new = first(&lane.ready);
                match new {
                    Some(head) => lane.head = head,
                    None => {
                        share.lanes.remove(at);
                        share.classes.remove(place.class);
                        if share.lanes.is_empty() {
                            self.ready.remove(place.share);
                        }
                    }
                }
                HeadMove { old, new }
            }
            Err(at) => {
                let mut ready = BTreeSet::new();
                change(&mut ready);
                let new = first(&ready);
                if let Some(head) = new {
                    let class = place.class;
                    share.lanes.insert(at, Lane { class, head, ready });
                    share.classes.insert(class);
                    self.ready.insert(place.share);
                }
                HeadMove { old: None, new }
            }
        }
    }

    /// The first ready task of a share in a class.
    pub fn first(&self, place: Place) -> Option<TaskId> {
        let lanes = &self.all[place.share as usize].lanes;
        let found = lanes.binary_search_by_key(&place.class, |lane| lane.class);
        found.ok().map(|at| lanes[at].head.1)
    }

    /// Of the shares with a ready task of these classes that is no worse than `last`, the one
    /// served longest ago where `turns` were counted, then anywhere, then with the best task.
    pub fn pick(&self, classes: &ClassSet, last: Rank, turns: &Turns) -> Option<Pick> {
        let mut best: Option<((u64, u64), &Lane, ShareNo)> = None;
        for number in self.ready.iter() {
            let clock = self.clocks[number as usize];
            let served = (turns.of(number).max(clock.came), clock.served);
            let served = if mutated!(SharesTakeNoTurns) {
                (0, 0)
            } else {
                served
            };
            if best.is_some_and(|(earliest, ..)| earliest < served) {
                continue;
            }
            let Some(lane) = self.all[number as usize].best(classes, last) else {
                continue;
            };
            if best.is_none_or(|(earliest, other, _)| (served, lane.head) < (earliest, other.head))
            {
                best = Some((served, lane, number));
            }
        }
        best.map(|(_, lane, share)| Pick {
            task: lane.head.1,
            class: lane.class,
            share,
        })
    }

    /// Notes that a share is served now. Says at which turn.
    pub fn serve(&mut self, number: ShareNo) -> u64 {
        self.turn += 1;
        let clock = &mut self.clocks[number as usize];
        let is_idle = self.all[number as usize].members == 0;
        if is_idle && self.idle.remove(&(clock.served, number)) {
            self.idle.insert((self.turn, number));
        }
        clock.served = self.turn;
        self.turn
    }
}
