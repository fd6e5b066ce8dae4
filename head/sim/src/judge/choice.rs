//! Which task goes to which worker, and that none waits in vain.

use orchestra_core::Availability;
use orchestra_types::{Priority, TaskId};

use super::Judge;
use crate::{
    cast::{RUNNER_SLOTS, RUNNERS, WORKERS_MAX, account},
    cover::Point,
    rule::{Checked, hold},
    shadow::{At, Capacity, Shade, bit},
};

/// What workers have to do.
#[derive(Default)]
pub(super) struct Load {
    pub all: [u32; WORKERS_MAX],
    pub by_runner: [[u32; RUNNERS.len()]; WORKERS_MAX],
}

impl Judge {
    pub(super) fn load(&self) -> Load {
        let mut load = Load::default();
        for (_, shade) in self.shadow.tasks() {
            if let Some((worker, runner)) = shade.holder() {
                load.all[usize::from(worker)] += 1;
                load.by_runner[usize::from(worker)][usize::from(runner)] += 1;
            }
        }
        load
    }

    /// The runner with which a worker could take a task now.
    pub(super) fn could_take(&self, shade: &Shade, worker: usize, load: &Load) -> Option<u8> {
        let prefetch = self.seen[worker].look.map(|look| look.prefetch);
        self.could(shade, worker, load, prefetch.unwrap_or_default())
    }

    /// The runner with which a worker could begin a task at once.
    pub(super) fn could_begin(&self, shade: &Shade, worker: usize, load: &Load) -> Option<u8> {
        self.could(shade, worker, load, Default::default())
    }

    fn could(
        &self,
        shade: &Shade,
        worker: usize,
        load: &Load,
        ahead: [u8; RUNNERS.len()],
    ) -> Option<u8> {
        self.runners(shade, worker, load, ahead, 0).next()
    }

    /// Whether a task waits for nothing but a slot of a worker.
    pub(super) fn wants_slot(&self, shade: &Shade, worker: usize, load: &Load) -> bool {
        let look = self.seen[worker].look;
        let ahead = look.map_or([0; RUNNERS.len()], |look| look.prefetch);
        let mut runners = self.runners(shade, worker, load, ahead, u32::MAX / 2);
        runners.next().is_some()
    }

    /// The runners with which a worker could do a task, if it had so many more places to wait and
    /// slots, best first.
    fn runners(
        &self,
        shade: &Shade,
        worker: usize,
        load: &Load,
        ahead: [u8; RUNNERS.len()],
        more: u32,
    ) -> impl Iterator<Item = u8> {
        let seen = &self.seen[worker];
        let look = seen.look.filter(|_| seen.connection.is_some());
        let open = self.shadow.availability[worker] == Availability::Open;
        let here = shade.machine.is_none_or(|n| usize::from(n) == worker);
        let labelled = !shade.labelled || worker == 0;
        let fits = open && here && labelled && !self.kept_away(shade, worker);
        let look = look.filter(|_| fits);
        let runners = look
            .into_iter()
            .flat_map(|look| (0..RUNNERS.len()).map(move |n| (look, n)));
        runners.filter_map(move |(look, n)| {
            let runner = u8::try_from(n).ok()?;
            let wanted = self.wants(shade, n);
            let ready = look.ready & (1 << n) != 0;
            let ahead = u32::from(ahead[n]);
            let free = load.by_runner[worker][n] < RUNNER_SLOTS + ahead
                && load.all[worker] < look.slots + ahead + more;
            let bears = self.account_bears(worker, n, load);
            (wanted && ready && free && bears).then_some(runner)
        })
    }

    /// Whether a task that failed on a worker waits for another one that could do it.
    pub(super) fn kept_away(&self, shade: &Shade, worker: usize) -> bool {
        let avoids = shade.avoids.filter(|(_, until)| *until > self.wall());
        let avoids = avoids.is_some_and(|(avoided, _)| usize::from(avoided) == worker);
        let mut others = (0..WORKERS_MAX).filter(|other| *other != worker);
        avoids && others.any(|other| self.could_do(shade, other))
    }

    /// Whether a worker that is not lost could do a task, once it has room.
    pub(super) fn could_do(&self, shade: &Shade, worker: usize) -> bool {
        let alive = self.shadow.epochs[worker] > 0 && !self.seen[worker].lost;
        let open = self.shadow.availability[worker] == Availability::Open;
        let here = shade.machine.is_none_or(|n| usize::from(n) == worker);
        let labelled = !shade.labelled || worker == 0;
        let Capacity { slots, ready, .. } = self.shadow.capacities[worker];
        let mut runners = (0..RUNNERS.len()).filter(|n| ready & (1 << n) != 0);
        let does = runners.any(|n| {
            let wanted = self.wants(shade, n);
            let number = |n: usize| u8::try_from(n).unwrap_or(0);
            let account = account(number(worker), number(n));
            wanted && account.is_none_or(|at| self.shadow.accounts[at].parked_until.is_none())
        });
        alive && open && here && labelled && slots > 0 && does
    }

    /// Whether a task may go to a runner: the one that it names, or one that it falls back on while
    /// all before that are parked; an agent if it names none.
    pub(super) fn wants(&self, shade: &Shade, runner: usize) -> bool {
        if shade.runner.is_none() {
            return runner != RUNNERS.len() - 1;
        }
        let is = |named: u8| usize::from(named) == runner;
        let mut named = shade
            .runner
            .into_iter()
            .chain(shade.fallback.into_iter().flatten());
        let first = named.find(|named| is(*named) || !self.is_parked(*named));
        first.is_some_and(is)
    }

    /// Whether a runner is ready somewhere, and its account is parked wherever it is.
    fn is_parked(&self, runner: u8) -> bool {
        let there = (0..WORKERS_MAX).filter(|n| {
            let seen = &self.seen[*n];
            let ready = seen
                .look
                .is_some_and(|look| look.ready & (1 << runner) != 0);
            seen.connection.is_some() && ready
        });
        let parked = |n: usize| {
            let account = account(u8::try_from(n).unwrap_or(0), runner);
            account.is_some_and(|at| self.shadow.accounts[at].parked_until.is_some())
        };
        let mut there = there.peekable();
        there.peek().is_some() && there.all(parked)
    }

    /// Whether the account of a runner is not parked and bears one more.
    fn account_bears(&self, worker: usize, runner: usize, load: &Load) -> bool {
        let number = |n: usize| u8::try_from(n).unwrap_or(0);
        let Some(account) = account(number(worker), number(runner)) else {
            return true;
        };
        let used: u32 = if account == 0 {
            load.by_runner.iter().map(|of| of[runner]).sum()
        } else {
            load.by_runner[worker][runner]
        };
        let row = self.shadow.accounts[account];
        row.parked_until.is_none() && row.bears.is_none_or(|bears| used < bears)
    }

    /// A task was given to a worker: it could take it, no better task could go there, and, where
    /// no worker has gained room in this step (`fills_only`), no better worker could have it.
    pub(super) fn chosen(
        &mut self,
        id: TaskId,
        shade: &Shade,
        (worker, runner): (u8, u8),
        fills_only: bool,
    ) -> Checked {
        hold!(Orders, self.assigning, "{id} starts on a head that stops");
        let broke = self.used_up(id, shade);
        hold!(
            Budgets,
            broke.is_none(),
            "{id} starts, and {broke:?} is used up"
        );
        let load = self.load();
        let n = usize::from(worker);
        let begins = self.could_begin(shade, n, &load);
        let takes = begins.or_else(|| self.could_take(shade, n, &load));
        let right = takes == Some(runner);
        hold!(
            Slots,
            right,
            "{id} goes to {worker} with {runner}, not {takes:?}"
        );
        let waits = begins.is_none();
        if waits {
            self.cover.hit(Point::WaitsAhead);
            self.calls.came |= bit(id);
            self.nothing_begins(id, &load)?;
        }
        for (other, rival) in self.waiting() {
            let like = |s: &Shade| (s.share, s.project, s.required());
            let (mine, theirs) = (self.rank(shade), self.rank(rival));
            let same = like(shade) == like(rival) && (theirs, other) < (mine, id);
            let better = same || self.level(theirs) > self.level(mine);
            // What would only wait there does not stand before what begins at once.
            let next = if waits {
                self.wants_slot(rival, n, &load)
            } else {
                self.could_begin(rival, n, &load).is_some()
            };
            let passed = better && next;
            hold!(BestFirst, !passed, "{id} goes before {other}");
        }
        self.count_turn(id, shade, n, &load)?;
        self.starts_on(id);
        let [first, second] = shade.fallback;
        if first == Some(runner) {
            self.cover.hit(Point::FallsBack);
        } else if second == Some(runner) {
            self.cover.hit(Point::FallsBackAgain);
        }
        if !fills_only {
            return Ok(());
        }
        let avoided = shade.avoids.map(|(avoided, _)| usize::from(avoided));
        let key = (waits, runner, avoided == Some(n));
        for other in (0..WORKERS_MAX).filter(|other| *other != n) {
            if waits && self.is_closed(other, &load) {
                continue;
            }
            let begins = self.could_begin(shade, other, &load);
            let Some(with) = begins.or_else(|| self.could_take(shade, other, &load)) else {
                continue;
            };
            let failed_on = avoided == Some(other);
            let better = (begins.is_none(), with, failed_on) < key;
            hold!(Placement, !better, "{id} goes to {worker}, not {other}");
        }
        Ok(())
    }

    /// Nothing is to wait at a worker while anything could begin anywhere.
    fn nothing_begins(&self, id: TaskId, load: &Load) -> Checked {
        for (other, rival) in self.waiting() {
            let begins = |worker| self.could_begin(rival, worker, load).is_some();
            let idle = (0..WORKERS_MAX).find(|worker| begins(*worker));
            hold!(
                CallBack,
                idle.is_none(),
                "{id} is to wait, but {other} could begin at {idle:?}"
            );
        }
        Ok(())
    }

    /// Tasks whose time has come.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (TaskId, &Shade)> {
        let now = self.wall();
        self.shadow
            .tasks()
            .filter(move |(id, shade)| match shade.at {
                At::Queued { not_before, .. } => {
                    not_before <= now && self.used_up(*id, shade).is_none()
                }
                At::Nowhere
                | At::Blocked
                | At::Assigned { .. }
                | At::Running { .. }
                | At::Closing { .. }
                | At::Ended(_) => false,
            })
    }

    /// The priority that a rank counts as now.
    pub(super) fn level(&self, rank: i128) -> u8 {
        let age = i128::try_from(self.config.promote_after.as_millis()).unwrap_or(0);
        let now = i128::from(self.now);
        u8::from(rank <= now - 2 * age) + u8::from(rank <= now - age)
    }

    /// Its place in the queue: a step of priority is worth as much as a time of waiting.
    pub(super) fn rank(&self, shade: &Shade) -> i128 {
        let age = i128::try_from(self.config.promote_after.as_millis()).unwrap_or(0);
        let steps = match shade.priority {
            Priority::Low => 0,
            Priority::Normal => 1,
            Priority::High => 2,
        };
        let since = match shade.at {
            At::Queued { since, .. } => since,
            // It keeps its place until it has begun.
            At::Assigned { .. } => self.place_since(shade),
            At::Nowhere | At::Blocked | At::Running { .. } | At::Closing { .. } | At::Ended(_) => 0,
        };
        i128::from(since) - steps * age
    }

    /// After each step, no task waits while a slot that fits it is free.
    pub(super) fn no_idle(&mut self) -> Checked {
        if !self.assigning {
            return Ok(());
        }
        let load = self.load();
        self.close_turns(&load);
        for (id, shade) in self.waiting() {
            for worker in 0..WORKERS_MAX {
                let idle = if self.turns.closed & (1 << worker) == 0 {
                    self.could_take(shade, worker, &load)
                } else {
                    self.could_begin(shade, worker, &load)
                };
                let idle = idle.is_some();
                hold!(NoIdle, !idle, "{id} waits while {worker} is idle");
            }
        }
        Ok(())
    }

    /// Whether a task is elsewhere after this step.
    pub(super) fn has_moved(&self, id: TaskId) -> bool {
        self.moved & bit(id) != 0
    }
}
