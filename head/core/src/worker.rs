//! A worker in memory: who it is, what it holds, what it could take.

use std::collections::{BTreeMap, BTreeSet};

use orchestra_types::{
    AccountName, AttemptId, RunnerName, Timestamp,
    runner::{Readiness, RunnerInfo, WorkerInfo},
};

use crate::{
    ConnectionId,
    accounts::Accounts,
    free::Listed,
    queue::{ClassSet, Queue, Requirement, Turns},
    row::{Availability, WorkerRow},
    seats::AccountNo,
    view::Link,
};

/// A worker in memory.
#[derive(Debug)]
pub(crate) struct Worker {
    pub row: WorkerRow,
    pub link: Link,
    pub last_seen: Timestamp,
    /// Whether that was a sign of life, and not the head's start, from which its lease counts.
    pub heard: bool,
    /// When its lease ends, as it stands in `Core::leases`.
    pub lease_ends: Option<Timestamp>,
    /// Reports up to here are recorded.
    pub acked: u64,
    /// What it holds.
    pub attempts: BTreeMap<AttemptId, Order>,
    /// How many places were given to its orders.
    placed: u64,
    /// Those of them whose tasks have waited too long for their first attempt to begin, and that were not
    /// called back for it.
    pub late: BTreeSet<AttemptId>,
    /// One for each of its runners, in the same order.
    pub desks: Vec<Desk>,
    /// The newest class that the desks know of.
    newest_class: u64,
    /// As it stands in `Core::free`.
    pub listed: Listed,
}

/// An attempt that a worker holds.
#[derive(Debug)]
pub(crate) struct Order {
    /// The runner that it was given to.
    pub runner: RunnerName,
    /// Its place among the orders of this worker, which begins them one after the other.
    pub place: u64,
}

/// What the scheduler notes of a runner on a worker.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    /// How many attempts it works on.
    busy: u32,
    /// Its account.
    account: Option<AccountNo>,
    /// The classes that it could do.
    pub fits: ClassSet,
    /// The latest turn at which it was given a task.
    pub served: u64,
    /// When each share was given a slot here last.
    pub turns: Turns,
}

/// Slots of a worker that nothing has taken yet.
#[derive(Debug)]
pub(crate) struct Slots<'a> {
    in_all: u32,
    of_runners: Vec<(&'a RunnerName, u32)>,
}

impl Slots<'_> {
    /// Takes one for an attempt of this runner, if there is one. Of a runner that is not there any more only
    /// the worker's slots are known.
    pub fn take(&mut self, runner: &RunnerName) -> bool {
        let own = self.of_runner(runner).is_none_or(|free| *free > 0);
        let free = own && self.in_all > 0;
        if free {
            self.occupy(runner);
        }
        free
    }

    /// An attempt of this runner has begun, and takes one whether there is one or not.
    pub fn occupy(&mut self, runner: &RunnerName) {
        self.in_all = self.in_all.saturating_sub(1);
        if let Some(free) = self.of_runner(runner) {
            *free = free.saturating_sub(1);
        }
    }

    fn of_runner(&mut self, runner: &RunnerName) -> Option<&mut u32> {
        let mut known = self.of_runners.iter_mut();
        let (_, free) = known.find(|(name, _)| *name == runner)?;
        Some(free)
    }
}

impl Worker {
    pub fn new(row: WorkerRow, acked: u64, accounts: &mut Accounts) -> Self {
        let held = accounts.hold(&row.info.runners).into_iter();
        let desks = held.map(|account| Desk {
            account,
            ..Desk::default()
        });
        Self {
            last_seen: row.attached_at,
            heard: false,
            desks: desks.collect(),
            row,
            link: Link::Disconnected,
            lease_ends: None,
            acked,
            attempts: BTreeMap::new(),
            placed: 0,
            late: BTreeSet::new(),
            newest_class: 0,
            listed: Listed::default(),
        }
    }

    /// It describes itself anew. What was noted of a runner that it still has stays.
    pub fn describe(&mut self, info: WorkerInfo, accounts: &mut Accounts) {
        let old = std::mem::replace(&mut self.row.info, info);
        let desks = std::mem::take(&mut self.desks);
        let held = accounts.hold(&self.row.info.runners);
        accounts.release(&old.runners);
        let mut known: BTreeMap<RunnerName, Desk> = BTreeMap::new();
        for (runner, desk) in old.runners.into_iter().zip(desks) {
            known.insert(runner.name, desk);
        }
        for (runner, account) in self.row.info.runners.iter().zip(held) {
            let mut desk = known.remove(&runner.name).unwrap_or_default();
            desk.busy = count(self.attempts_of(&runner.name).count());
            desk.fits = ClassSet::default();
            desk.account = account;
            self.desks.push(desk);
        }
        self.newest_class = 0;
    }

    /// Whether `connection` is its open stream.
    pub fn is_on(&self, connection: ConnectionId) -> bool {
        self.link == Link::Connected(connection)
            || (mutated!(OldStreamHeard) && self.is_connected())
    }

    /// It holds an attempt from now on, as the last of its orders.
    pub fn hold(&mut self, attempt: AttemptId, runner: &RunnerName) {
        if self.attempts.contains_key(&attempt) {
            return;
        }
        self.placed += 1;
        let order = Order {
            runner: runner.clone(),
            place: self.placed,
        };
        self.attempts.insert(attempt, order);
        if let Some(desk) = self.desk(runner) {
            desk.busy += 1;
        }
    }

    /// What it holds, in the order in which it was given.
    pub fn orders(&self) -> Vec<AttemptId> {
        let mut orders: Vec<_> = self.attempts.iter().collect();
        orders.sort_unstable_by_key(|(_, order)| order.place);
        orders.into_iter().map(|(attempt, _)| *attempt).collect()
    }

    /// Its orders stand in this order now; those that are not named come behind them, as they stood.
    pub fn put_in_order(&mut self, named: impl Iterator<Item = AttemptId>) {
        let (rest, placed_before) = (self.orders(), self.placed);
        for attempt in named.chain(rest) {
            if let Some(order) = self.attempts.get_mut(&attempt)
                && order.place <= placed_before
            {
                self.placed += 1;
                order.place = self.placed;
            }
        }
    }

    /// It no longer holds an attempt.
    pub fn release(&mut self, attempt: AttemptId) {
        self.late.remove(&attempt);
        if mutated!(SlotLeak) {
            return;
        }
        if let Some(order) = self.attempts.remove(&attempt)
            && let Some(desk) = self.desk(&order.runner)
        {
            desk.busy -= 1;
        }
    }

    fn desk(&mut self, runner: &RunnerName) -> Option<&mut Desk> {
        let place = self.place_of(runner)?;
        self.desks.get_mut(place)
    }

    /// The place of a runner among its runners.
    pub fn place_of(&self, runner: &RunnerName) -> Option<usize> {
        let mut runners = self.row.info.runners.iter();
        runners.position(|known| known.name == *runner)
    }

    /// How many more attempts could run at once.
    pub fn free_slots(&self) -> u32 {
        self.row
            .info
            .slots
            .saturating_sub(count(self.attempts.len()))
    }

    /// The attempts that a runner works on here.
    pub fn attempts_of(&self, runner: &RunnerName) -> impl Iterator<Item = AttemptId> {
        self.attempts
            .iter()
            .filter(move |(_, order)| order.runner == *runner)
            .map(|(id, _)| *id)
    }

    /// How many attempts it takes in all, those that wait there included.
    fn most(&self) -> usize {
        let runners = self.row.info.runners.iter();
        let prefetch = runners.map(|runner| runner.prefetch).max().unwrap_or(0);
        let more = prefetch + u32::from(mutated!(SlotsOverbooked));
        self.row.info.slots.saturating_add(more) as usize
    }

    /// How many attempts it holds that cannot run yet.
    pub fn waiting(&self) -> u32 {
        let in_all = count(self.attempts.len()).saturating_sub(self.row.info.slots);
        let runners = self.row.info.runners.iter().zip(&self.desks);
        let each = runners.map(|(runner, desk)| desk.busy.saturating_sub(runner.slots));
        in_all.max(each.sum())
    }

    /// Its slots, all free.
    pub fn slots(&self) -> Slots<'_> {
        let runners = self.row.info.runners.iter();
        Slots {
            in_all: self.row.info.slots,
            of_runners: runners.map(|runner| (&runner.name, runner.slots)).collect(),
        }
    }

    /// Whether an attempt given to this runner would run at once.
    pub fn is_idle(&self, place: usize) -> bool {
        let (runner, desk) = (self.row.info.runners.get(place), self.desks.get(place));
        let idle = runner
            .zip(desk)
            .is_some_and(|(r, desk)| desk.busy < r.slots);
        idle && self.free_slots() > 0
    }

    /// Whether attempts of a runner may wait here.
    pub fn prefetches(&self, runner: &RunnerName) -> bool {
        let place = self.place_of(runner);
        place.is_some_and(|place| self.row.info.runners[place].prefetch > 0)
    }

    /// Whether it could take anything at all.
    pub fn can_take(&self) -> bool {
        let open = self.row.availability == Availability::Open || mutated!(CordonIgnored);
        match self.link {
            Link::Connected(_) => open && self.attempts.len() < self.most(),
            Link::Disconnected | Link::Lost => false,
        }
    }

    /// Whether its runner at this place could take another attempt, for all that the worker
    /// itself knows. Ask `has_room`.
    pub fn has_free(&self, place: usize) -> bool {
        let runner = self.row.info.runners.get(place);
        runner.is_some_and(|runner| {
            let more = runner.prefetch + u32::from(mutated!(SlotsOverbooked));
            let in_all = self.row.info.slots.saturating_add(more);
            self.lacks_only_slots(place, 0) && count(self.attempts.len()) < in_all
        })
    }

    /// Whether its runner at this place could take another attempt, once so many that it has are
    /// gone and if the worker had more slots.
    fn lacks_only_slots(&self, place: usize, gone: u32) -> bool {
        let (runner, desk) = (self.row.info.runners.get(place), self.desks.get(place));
        let (Some(runner), Some(desk)) = (runner, desk) else {
            return false;
        };
        is_ready(runner) && desk.busy - gone < runner.slots.saturating_add(runner.prefetch)
    }

    /// Whether its runner at this place waits for nothing but a slot of the worker.
    pub fn wants_slot(&self, accounts: &Accounts, place: usize) -> bool {
        let account = self.desks.get(place).and_then(|desk| desk.account);
        account.is_none_or(|number| accounts.has_room_at(number)) && self.lacks_only_slots(place, 0)
    }

    /// The same once these attempts are gone.
    pub fn wants_slot_without(
        &self,
        accounts: &Accounts,
        place: usize,
        gone: &[AttemptId],
    ) -> bool {
        let runner = self.row.info.runners.get(place);
        let of_runner = gone.iter().filter(|attempt| {
            let with = self.attempts.get(attempt).map(|order| &order.runner);
            with.is_some() && with == runner.map(|runner| &runner.name)
        });
        let account = runner.and_then(|runner| runner.account.as_ref());
        account.is_none_or(|name| accounts.has_room_without(name, gone))
            && self.lacks_only_slots(place, count(of_runner.count()))
    }

    /// Whether its runner at this place may be given another attempt now. The one place that knows.
    pub fn has_room(&self, accounts: &Accounts, place: usize) -> bool {
        let account = self.desks.get(place).and_then(|desk| desk.account);
        let bears = account.is_none_or(|number| accounts.has_room_at(number));
        debug_assert_eq!(
            bears,
            self.row.info.runners.get(place).is_none_or(|runner| {
                let name = runner.account.as_ref();
                name.is_none_or(|name| accounts.has_room(name))
            })
        );
        bears && self.can_take() && self.has_free(place)
    }

    /// Whether its stream is open.
    pub fn is_connected(&self) -> bool {
        match self.link {
            Link::Connected(_) => true,
            Link::Disconnected | Link::Lost => false,
        }
    }

    /// Its runners that could take work if they had room.
    pub fn ready(&self) -> impl Iterator<Item = &RunnerInfo> {
        self.row.info.runners.iter().filter(|r| is_ready(r))
    }

    /// The account of a runner, where it has one.
    pub fn account_of(&self, runner: &RunnerName) -> Option<&AccountName> {
        let place = self.place_of(runner)?;
        self.row.info.runners[place].account.as_ref()
    }

    /// Forgets what it learnt: which runners stand in for others has changed.
    pub fn unlearn(&mut self) {
        self.newest_class = 0;
    }

    /// Learns which of the classes that came meanwhile its runners could do.
    pub fn learn(&mut self, queue: &Queue, parked: &BTreeSet<RunnerName>) {
        let newest = queue.newest_class();
        if self.newest_class == newest {
            return;
        }
        for (class, requirement) in queue.classes_since(self.newest_class) {
            let suits = suits(&self.row.info, requirement) && !queue.bars(class, &self.row.info.id);
            for (runner, desk) in self.row.info.runners.iter().zip(&mut self.desks) {
                if suits && requirement.wants(runner, parked) {
                    desk.fits.insert(class);
                } else {
                    desk.fits.remove(class);
                }
            }
        }
        self.newest_class = newest;
    }

    /// Whether it is a machine with the labels that are required.
    pub fn suits(&self, requirement: &Requirement) -> bool {
        suits(&self.row.info, requirement)
    }

    /// Its load in thousandths, for comparing workers without fractions.
    pub fn load(&self) -> u64 {
        let busy = self.attempts.len() as u64;
        busy * 1000 / u64::from(self.row.info.slots.max(1))
    }
}

impl Requirement {
    /// Whether a task that requires this may go to this runner. One to fall back on may do it while
    /// the accounts of all before it are `parked`.
    pub fn wants(&self, runner: &RunnerInfo, parked: &BTreeSet<RunnerName>) -> bool {
        match &self.runner {
            Some(_) => self.open(parked).any(|name| *name == runner.name),
            None => runner.agentic,
        }
    }

    /// The runners that may do a task which names some, best first.
    pub fn open<'a>(
        &'a self,
        parked: &'a BTreeSet<RunnerName>,
    ) -> impl Iterator<Item = &'a RunnerName> {
        let mut open = true;
        let most = if mutated!(FallsBackOnce) {
            2
        } else {
            usize::MAX
        };
        let named = self.runner.iter().chain(&self.fallback).take(most);
        named.take_while(move |name| {
            let next = parked.contains(*name) || mutated!(FallsBackAtOnce);
            std::mem::replace(&mut open, next && !mutated!(FallbackIgnored))
        })
    }
}

fn suits(info: &WorkerInfo, requirement: &Requirement) -> bool {
    let machine = requirement.machine.as_ref();
    let mut labels = requirement.labels.iter();
    machine.is_none_or(|m| *m == info.machine)
        && labels.all(|(key, value)| info.labels.get(key) == Some(value))
}

fn is_ready(runner: &RunnerInfo) -> bool {
    match runner.readiness {
        _ if mutated!(NotReadyIsUsed) => true,
        Readiness::Ready => true,
        Readiness::Missing | Readiness::NotReady { .. } => false,
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
