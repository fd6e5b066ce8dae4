//! The order of waiting tasks.
//!
//! `rank = since - priority * promote_after` never changes while a task waits, and ordering by it
//! is linear ageing: a task that has waited `promote_after` longer counts one priority more, so
//! nothing is ever sorted again. A task's **level** follows from its rank and the time: the
//! priority that it counts as now, high at most.
//!
//! Tasks with the same requirements are a **class**, tasks of the same project and submitter a
//! **share**, and the tasks of a share in a class a **lane**, in the order of their ranks. A slot
//! goes to the highest level first; within it to the share that was served longest ago there; of
//! this share to the task with the lowest rank. The bound on waiting that follows from this is
//! in docs/architecture.md, "The queue".

mod classes;
mod elsewhere;
mod known;
mod set;
mod shares;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use orchestra_types::{Priority, TaskId, Timestamp, WorkerId};

pub(crate) use self::classes::Requirement;
use self::{
    classes::Classes,
    elsewhere::Elsewhere,
    known::{Known, KnownPlaces},
    set::NumberSet,
    shares::Shares,
};
use crate::row::{Avoids, TaskFacts};

/// A task's place in its share; lower goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank(i64);

/// The first task of a lane.
type Head = (Rank, TaskId);

/// What was the first task of a lane, and what is.
struct HeadMove {
    old: Option<Head>,
    new: Option<Head>,
}

/// The number of a class.
pub(crate) type ClassNo = u32;
/// The number of a share.
pub(crate) type ShareNo = u32;
/// Some classes.
pub(crate) type ClassSet = NumberSet;
/// Some shares.
type ShareSet = NumberSet;

/// Where a waiting task stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    class: ClassNo,
    share: ShareNo,
}

/// When a task waits, and how much it matters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait {
    pub priority: Priority,
    pub since: Timestamp,
    pub not_before: Timestamp,
    /// Until when it waits for another worker than the one that it failed on; zero when it never
    /// failed.
    pub avoids_until: Timestamp,
}

/// When each share was served last at one place, as the number of the start. Shares that were not
/// served there count as served when they came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turns(Vec<u64>);

impl Turns {
    fn of(&self, share: ShareNo) -> u64 {
        self.0.get(share as usize).copied().unwrap_or(0)
    }

    fn note(&mut self, share: ShareNo, turn: u64) {
        let place = share as usize;
        if self.0.len() <= place {
            self.0.resize(place + 1, 0);
        }
        self.0[place] = turn;
    }
}

/// The task that goes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pick {
    pub task: TaskId,
    pub class: ClassNo,
    pub share: ShareNo,
}

#[derive(Debug)]
pub(crate) struct Queue {
    age: i64,
    classes: Classes,
    shares: Shares,
    known: KnownPlaces,
    /// Classes that were empty and have a ready task since the last dispatch: only these can fit
    /// a slot that was free before.
    fresh: ClassSet,
    /// Classes whose first ready task goes before the one that was first: it may go before attempts
    /// that wait at workers too.
    risen: ClassSet,
    /// Tasks whose time has not come.
    delayed: BTreeSet<(Timestamp, TaskId)>,
    /// Tasks that are not to go back to the worker that they failed on.
    elsewhere: Elsewhere,
    /// Breaks the order between shares on purpose, to see that a test of it notices.
    #[cfg(test)]
    pub unfair: bool,
}

impl Queue {
    pub fn new(promote_after: Duration) -> Self {
        Self {
            age: if mutated!(NoPromotion) {
                i64::MAX / 8
            } else {
                i64::try_from(promote_after.as_millis()).unwrap_or(i64::MAX / 8)
            },
            classes: Classes::default(),
            shares: Shares::default(),
            known: KnownPlaces::default(),
            fresh: ClassSet::default(),
            risen: ClassSet::default(),
            delayed: BTreeSet::new(),
            elsewhere: Elsewhere::default(),
            #[cfg(test)]
            unfair: false,
        }
    }

    /// Adds a waiting task. Until its time is over, it stands apart from those that may go back to
    /// the worker that it failed on.
    #[must_use]
    pub fn add(
        &mut self,
        now: Timestamp,
        id: TaskId,
        facts: &Arc<TaskFacts>,
        wait: Wait,
        avoids: Option<&Avoids>,
    ) -> Place {
        let place = match avoids.filter(|avoids| avoids.until > now) {
            Some(avoids) => self.place_elsewhere(id, facts, avoids),
            None => self.place_of(facts),
        };
        self.classes.enter(place.class);
        self.shares.enter(place.share);
        if wait.not_before > now {
            self.delayed.insert((wait.not_before, id));
        } else {
            self.make_ready(id, place, wait);
        }
        place
    }

    fn place_of(&mut self, facts: &Arc<TaskFacts>) -> Place {
        if let Some(known) = self.known.get(facts)
            && self.classes.serial(known.place.class) == known.class_serial
            && self.shares.serial(known.place.share) == known.share_serial
        {
            return known.place;
        }
        let place = Place {
            class: self.classes.number_of(Requirement::of(facts)),
            share: self.shares.number_of(facts),
        };
        let known = Known {
            place,
            class_serial: self.classes.serial(place.class),
            share_serial: self.shares.serial(place.share),
        };
        self.known.insert(facts, known);
        place
    }

    fn place_elsewhere(&mut self, id: TaskId, facts: &TaskFacts, avoids: &Avoids) -> Place {
        let requirement = Requirement {
            not_on: Some(avoids.worker.clone()),
            ..Requirement::of(facts)
        };
        let place = Place {
            class: self.classes.number_of(requirement),
            share: self.shares.number_of(facts),
        };
        let serial = self.classes.serial(place.class);
        self.elsewhere
            .enter(place.class, serial, (avoids.until, id));
        place
    }

    /// Removes a task, wherever it stands.
    pub fn remove(&mut self, id: TaskId, place: Place, wait: Wait) {
        if wait.avoids_until > Timestamp(0) {
            self.elsewhere.leave((wait.avoids_until, id));
        }
        if !self.delayed.remove(&(wait.not_before, id)) {
            let rank = self.rank(wait);
            let moved = self.shares.change(place, |ready| {
                ready.remove(&(rank, id));
            });
            self.classes.move_head(place, &moved);
        }
        self.shares.leave(place.share);
        if self.classes.leave(place.class) {
            self.elsewhere.close(place.class);
        }
    }

    /// Takes out those whose time has come. They are to be made ready.
    pub fn pop_due(&mut self, now: Timestamp) -> Option<TaskId> {
        let (at, id) = self.delayed.first().copied()?;
        if at > now {
            return None;
        }
        self.delayed.pop_first();
        Some(id)
    }

    /// A task whose time has come may start.
    pub fn make_ready(&mut self, id: TaskId, place: Place, wait: Wait) {
        let rank = self.rank(wait);
        let first = self.classes.best(place.class);
        if first.is_none() {
            self.fresh.insert(place.class);
        }
        if first.is_none_or(|first| rank < first) {
            self.risen.insert(place.class);
        }
        let moved = self.shares.change(place, |ready| {
            ready.insert((rank, id));
        });
        self.classes.move_head(place, &moved);
    }

    /// When the next delayed task's time comes.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.delayed.first().map(|(at, _)| *at)
    }

    /// The level of the most urgent ready task of these classes.
    pub fn level(&self, now: Timestamp, classes: &ClassSet) -> Option<u8> {
        let best = self.classes.best_rank(classes)?;
        Some(self.level_of(now, best))
    }

    /// The ready task of these classes that goes first where shares were served so.
    pub fn pick(&self, now: Timestamp, classes: &ClassSet, turns: &Turns) -> Option<Pick> {
        let best = self.classes.best_rank(classes)?;
        #[cfg(test)]
        if self.unfair {
            return self.shares.pick(classes, best, turns);
        }
        let last_of_level = self.last_of_level(now, self.level_of(now, best));
        self.shares.pick(classes, last_of_level, turns)
    }

    /// Notes that a share is served, also at the place with these turns. Says which turn it was.
    pub fn serve(&mut self, share: ShareNo, turns: &mut Turns) -> u64 {
        let turn = self.shares.serve(share);
        turns.note(share, turn);
        turn
    }

    /// When the next task has waited long enough for another worker.
    pub fn next_settling(&self) -> Option<Timestamp> {
        self.elsewhere.next_due()
    }

    /// Takes the time of one out that has waited long enough for another worker. It is to be
    /// removed and added again.
    pub fn pop_settling(&mut self, now: Timestamp) -> Option<TaskId> {
        self.elsewhere.pop_due(now)
    }

    /// Whether tasks of a class are kept from a worker because another one could do them.
    pub fn bars(&self, class: ClassNo, worker: &WorkerId) -> bool {
        self.elsewhere.has_other(class) && self.requirement(class).not_on.as_ref() == Some(worker)
    }

    /// Whether a class came for which no other worker was looked for yet.
    pub fn has_unsettled(&self) -> bool {
        self.elsewhere.has_unsettled()
    }

    /// The classes that avoid a worker, each with the other one that could do it, as far as known.
    pub fn avoiding(&self) -> impl Iterator<Item = (ClassNo, Option<&WorkerId>)> {
        self.elsewhere.classes()
    }

    /// Notes which other worker could do a class; whether that bars or admits the avoided one.
    pub fn set_other(&mut self, class: ClassNo, other: Option<WorkerId>) -> bool {
        self.elsewhere.set_other(class, other)
    }

    /// The classes that only now have a ready task. They are taken out.
    pub fn take_fresh(&mut self) -> ClassSet {
        std::mem::take(&mut self.fresh)
    }

    /// The classes whose first ready task is another and better one. They are taken out.
    pub fn take_risen(&mut self) -> ClassSet {
        std::mem::take(&mut self.risen)
    }

    /// A task of a class waits at a worker now: the next one may go before others there too.
    pub fn rise(&mut self, class: ClassNo) {
        self.risen.insert(class);
    }

    /// Any task may go before others that wait at workers.
    pub fn rise_all(&mut self) {
        for class in self.classes.with_ready() {
            self.risen.insert(class);
        }
    }

    /// The first ready task of a class.
    pub fn first(&self, class: ClassNo) -> Option<TaskId> {
        let share = self.classes.first_share(class)?;
        self.shares.first(Place { class, share })
    }

    /// The level of the first ready task of a class.
    pub fn level_of_class(&self, now: Timestamp, class: ClassNo) -> Option<u8> {
        let best = self.classes.best(class)?;
        Some(self.level_of(now, best))
    }

    /// The level of a task that waits so.
    pub fn level_of_wait(&self, now: Timestamp, wait: Wait) -> u8 {
        self.level_of(now, self.rank(wait))
    }

    /// There may be room where there was none: every class with a ready task is looked at again.
    pub fn refresh(&mut self) {
        for class in self.classes.with_ready() {
            self.fresh.insert(class);
        }
    }

    /// The requirements of waiting tasks that name runners to fall back on.
    pub fn with_fallback(&self) -> impl Iterator<Item = &Requirement> {
        self.classes.with_fallback()
    }

    pub fn requirement(&self, class: ClassNo) -> &Requirement {
        self.classes.requirement(class)
    }

    /// Grows with each new class.
    pub fn newest_class(&self) -> u64 {
        self.classes.newest()
    }

    /// The classes that came after `serial`.
    pub fn classes_since(&self, serial: u64) -> impl Iterator<Item = (ClassNo, &Requirement)> {
        self.classes.since(serial)
    }

    fn rank(&self, wait: Wait) -> Rank {
        let since = i64::try_from(wait.since.0).unwrap_or(i64::MAX);
        if mutated!(PriorityInverted) {
            return Rank(since.saturating_add(level(wait.priority).saturating_mul(self.age)));
        }
        Rank(since.saturating_sub(level(wait.priority).saturating_mul(self.age)))
    }

    fn level_of(&self, now: Timestamp, rank: Rank) -> u8 {
        let high = rank <= self.last_of_level(now, 2);
        let normal = rank <= self.last_of_level(now, 1);
        u8::from(high) + u8::from(normal)
    }

    /// The highest rank that counts as this level now.
    fn last_of_level(&self, now: Timestamp, level: u8) -> Rank {
        let now = i64::try_from(now.0).unwrap_or(i64::MAX);
        match level {
            0 => Rank(i64::MAX),
            level => Rank(now.saturating_sub(i64::from(level).saturating_mul(self.age))),
        }
    }
}

fn level(priority: Priority) -> i64 {
    match priority {
        Priority::Low => 0,
        Priority::Normal => 1,
        Priority::High => 2,
    }
}
