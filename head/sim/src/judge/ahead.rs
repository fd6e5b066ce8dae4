//! What waits at workers beyond their slots, and how it is called back.

use orchestra_core::Availability;
use orchestra_types::{AttemptId, TaskId};

use super::{Before, Judge, choice::Load, moves::Move};
use crate::{
    cast::{RUNNER_SLOTS, RUNNERS, Said, WORKERS_MAX},
    cover::Point,
    event::Event,
    rule::{Checked, hold},
    shadow::{At, Shade},
};

/// What was called back and neither came back nor began.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// On the streams that are open.
    pub open: Vec<AttemptId>,
    /// On streams that are not, so that the call may have been lost.
    lost: Vec<AttemptId>,
    /// The clock has gone back: which order was the latest is not known any more, and what came by
    /// the later clock may count less than its priority.
    confused: bool,
    /// How many of this step are for workers that have nothing else to do.
    for_others: u32,
    /// Those of `open` that are for the sake of a higher level, for all that is known.
    pub before: Vec<AttemptId>,
    /// The workers at which such calls of this step are, as a set.
    pub before_at: u8,
    /// Tasks that wait at a worker since this step or have another priority since, as a set.
    pub came: u64,
    /// What was called back for the sake of a higher level has begun with this step.
    pub refused: bool,
}

impl Judge {
    /// Before a step: what its event says about calls.
    pub(super) fn note_calls(&mut self, event: &Event, before: &Before) {
        self.calls.for_others = 0;
        self.note_higher(event, before);
        if let Event::Attached { worker, .. } = event {
            let shadow = &self.shadow;
            let here = |attempt: &AttemptId| {
                let holder = shadow.task(attempt.task).holder();
                holder.is_some_and(|(holder, _)| holder == *worker)
            };
            self.calls.before.retain(|attempt| !here(attempt));
            self.calls
                .lost
                .extend(self.calls.open.extract_if(.., |a| here(a)));
        }
    }

    /// The wall clock was set: what waits at a worker since its time to start may count otherwise than
    /// when it was given there.
    pub(super) fn confuse_calls(&mut self) {
        self.calls.confused = true;
    }

    /// A start forgets every call.
    pub(super) fn forget_calls(&mut self, clock_went_back: bool) {
        self.calls = Calls {
            confused: self.calls.confused || clock_went_back,
            ..Calls::default()
        };
    }

    /// A task whose attempt was called back and may be on its way back.
    #[must_use]
    pub fn on_its_way_back(&self) -> Option<TaskId> {
        self.calls.open.first().map(|attempt| attempt.task)
    }

    /// A worker from which something was called back to let others go first.
    #[must_use]
    pub fn asked_for_room(&self) -> Option<u8> {
        let first = self.calls.before.first()?;
        let holder = self.shadow.task(first.task).holder();
        holder.map(|(worker, _)| worker)
    }

    /// An attempt is called back: it waits there for all that is known, and somebody else could
    /// begin it, or nothing is to begin where it is.
    pub(super) fn called_back(&mut self, connection: u64, attempt: AttemptId) -> Checked {
        let shade = self.shadow.task(attempt.task);
        let At::Assigned { worker, runner } = shade.at else {
            hold!(
                CallBack,
                false,
                "{attempt} is called back and {:?}",
                shade.at
            );
            return Ok(());
        };
        let n = usize::from(worker);
        let there = self.seen[n].connection == Some(connection);
        let latest = shade.attempts == attempt.number;
        hold!(
            Orders,
            latest && there,
            "{attempt} is called back elsewhere"
        );
        let again = self.calls.open.contains(&attempt);
        hold!(CallBack, !again, "{attempt} is called back twice");
        let load = self.load();
        let waits = self.ahead(n, runner) > 0 && self.beyond(n, &load) > 0;
        hold!(
            CallBack,
            waits,
            "{attempt} is called back and does not wait"
        );
        let able = |other: &usize| {
            let elsewhere = *other != n && !failed_on(&shade, *other);
            elsewhere && self.could_begin(&shade, *other, &load).is_some()
        };
        let able: Vec<usize> = (0..WORKERS_MAX).filter(able).collect();
        if self.seen[n].connection.is_some() && self.goes_before(&shade, n) {
            self.cover.hit(Point::CalledBackLower);
            self.calls.before_at |= 1 << n;
            if able.is_empty() {
                self.calls.before.push(attempt);
            }
            return self.now_called(attempt);
        }
        if self.has_waited_long(attempt.task) {
            self.cover.hit(Point::CalledBackLate);
            return self.now_called(attempt);
        }
        // The latest goes first, unless it is called for a worker that the latest failed on.
        let place = self.orders.place(attempt);
        let later = self.candidates(n).find(|other| {
            let later = self.orders.place(*other) > place;
            let other = self.shadow.task(other.task);
            let passed = !able.iter().any(|able| failed_on(&other, *able));
            later && other.required() == shade.required() && passed
        });
        hold!(
            CallBack,
            later.is_none(),
            "{attempt} is called back before {later:?}"
        );
        if !self.begins_nothing(n) {
            self.cover.hit(Point::CalledBack);
            self.calls.for_others += 1;
            let wanted = !able.is_empty();
            hold!(CallBack, wanted, "nobody could begin {attempt}");
            let others = (0..WORKERS_MAX).filter(|other| *other != n);
            let room: u32 = others.map(|other| self.free_slots(other, &load)).sum();
            let calls = self.calls.for_others;
            hold!(
                CallBack,
                calls <= room,
                "{calls} called back for {room} slots"
            );
        } else {
            self.cover.hit(Point::CalledBackCordoned);
        }
        self.now_called(attempt)
    }

    /// Whether what waits at a worker is not to begin there.
    fn begins_nothing(&self, worker: usize) -> bool {
        !self.assigning || self.shadow.availability[worker] != Availability::Open
    }

    fn now_called(&mut self, attempt: AttemptId) -> Checked {
        if self.calls.lost.contains(&attempt) {
            self.cover.hit(Point::CalledBackAgain);
            self.calls.lost.retain(|known| *known != attempt);
        }
        self.calls.open.push(attempt);
        Ok(())
    }

    /// After a step nothing waits at a worker that is to begin nothing, or that another one could
    /// begin, without having been called back.
    pub(super) fn nothing_waits_in_vain(&mut self, was: u64, event: &Event) -> Checked {
        let shadow = &self.shadow;
        let waits = |attempt: &AttemptId| {
            let shade = shadow.task(attempt.task);
            shade.attempts == attempt.number && matches!(shade.at, At::Assigned { .. })
        };
        self.calls.open.retain(waits);
        self.calls.lost.retain(waits);
        self.calls.before.retain(waits);
        let load = self.load();
        let any_beyond = (0..WORKERS_MAX).any(|worker| self.beyond(worker, &load) > 0);
        if self.assigning && any_beyond && !self.calls.confused {
            self.higher_goes_first(was, event)?;
        }
        for worker in 0..WORKERS_MAX {
            let beyond = self.beyond(worker, &load);
            if beyond > 0 && self.seen[worker].connection.is_some() {
                self.calls_from(worker, beyond, &load)?;
            }
        }
        Ok(())
    }

    fn calls_from(&self, worker: usize, beyond: usize, load: &Load) -> Checked {
        let here = |attempt: &&AttemptId| {
            let holder = self.shadow.task(attempt.task).holder();
            holder.is_some_and(|(holder, _)| usize::from(holder) == worker)
        };
        let called = self.calls.open.iter().filter(here).count();
        let beyond = beyond.saturating_sub(called);
        // The latest are the ones that wait.
        let mut waiting: Vec<AttemptId> = self.candidates(worker).collect();
        waiting.sort_unstable_by_key(|attempt| self.orders.place(*attempt));
        waiting.drain(..waiting.len().saturating_sub(beyond));
        if !self.calls.confused {
            let mut without = self.without_slot(worker);
            without.retain(|attempt| !self.calls.open.contains(attempt));
            self.nothing_waits_too_long(worker, &without)?;
        }
        if self.begins_nothing(worker) {
            let all = beyond == 0 || waiting.is_empty();
            hold!(
                CallBack,
                all,
                "{worker} is to begin nothing, and {waiting:?} wait there"
            );
            return Ok(());
        }
        if self.calls.confused {
            return Ok(());
        }
        let calls = self.calls.open.len() - self.calls.before.len();
        let calls = u32::try_from(calls).unwrap_or(u32::MAX);
        for attempt in waiting {
            let shade = self.shadow.task(attempt.task);
            let others = (0..WORKERS_MAX).filter(|other| *other != worker);
            // Nothing is called back for the worker that it failed on.
            let mut others = others.filter(|other| !failed_on(&shade, *other));
            // Each call is for one worker: this one has room that nobody was called back for.
            let idle = others.find(|other| {
                let begins = self.could_begin(&shade, *other, load).is_some();
                begins && self.free_slots(*other, load) > calls
            });
            let vain = idle.is_none();
            hold!(
                CallBack,
                vain,
                "{attempt} waits at {worker}, and {idle:?} is idle"
            );
        }
        Ok(())
    }

    /// What a worker was given, has not begun as far as is known, and could let wait; without what
    /// was called back.
    pub(super) fn candidates(&self, worker: usize) -> impl Iterator<Item = AttemptId> {
        let waits = move |shade: &Shade| match shade.at {
            At::Assigned { worker: w, runner } => {
                usize::from(w) == worker && self.ahead(worker, runner) > 0
            }
            _ => false,
        };
        let all = self.shadow.tasks().filter(move |(_, shade)| waits(shade));
        let all = all.map(|(task, shade)| AttemptId {
            task,
            number: shade.attempts,
        });
        all.filter(|attempt| !self.calls.open.contains(attempt))
    }

    /// What workers had no slot for whose leases end now.
    pub(super) fn note_lost_ahead(&mut self) {
        let expired = (0..WORKERS_MAX).filter(|n| self.expired & (1 << n) != 0);
        self.lost_ahead = expired
            .flat_map(|worker| self.without_slot(worker))
            .collect();
    }

    /// What a worker has no slot for, when all that it was given has begun in its order.
    fn without_slot(&self, worker: usize) -> Vec<AttemptId> {
        let capacity = self.shadow.capacities[worker];
        let tasks = self.shadow.tasks();
        let orders = tasks.filter_map(|task| given(worker, capacity.ahead, task));
        let mut orders: Vec<_> = orders.collect();
        orders.sort_unstable_by_key(|(waits, attempt, _)| (*waits, self.orders.place(*attempt)));
        let (mut begun, mut of_runner) = (0, [0; RUNNERS.len()]);
        let mut without = Vec::new();
        for (waits, attempt, runner) in orders {
            let of_runner = &mut of_runner[usize::from(runner)];
            let has_slot = begun < capacity.slots && *of_runner < RUNNER_SLOTS;
            // One that runs takes a slot, also where there is none.
            match has_slot || !waits {
                true => (begun, *of_runner) = (begun + 1, *of_runner + 1),
                false => without.push(attempt),
            }
        }
        without
    }

    pub(super) fn ahead(&self, worker: usize, runner: u8) -> u8 {
        let look = self.seen[worker].look;
        look.map_or(0, |look| look.prefetch[usize::from(runner)])
    }

    /// How many attempts a worker has that cannot run yet.
    pub(super) fn beyond(&self, worker: usize, load: &Load) -> usize {
        let slots = self.seen[worker].look.map_or(0, |look| look.slots);
        let in_all = load.all[worker].saturating_sub(slots);
        let each = (0..RUNNERS.len()).map(|n| load.by_runner[worker][n]);
        let beyond: u32 = in_all.max(each.map(|n| n.saturating_sub(RUNNER_SLOTS)).sum());
        beyond as usize
    }

    fn free_slots(&self, worker: usize, load: &Load) -> u32 {
        let seen = &self.seen[worker];
        let open = self.shadow.availability[worker] == Availability::Open;
        let look = seen.look.filter(|_| seen.connection.is_some() && open);
        look.map_or(0, |look| look.slots.saturating_sub(load.all[worker]))
    }

    /// Whether an attempt goes back because its worker gives it back unbegun.
    pub(super) fn is_given_back(&self, change: &Move<'_>) -> bool {
        let said = match change.event {
            Event::Reported { attempt, said, .. } => {
                *said == Said::GivenBack && attempt.task == change.id
            }
            _ => false,
        };
        said && self.by_holder(change)
    }

    /// It returns to its place in the queue at once, and nothing is charged.
    pub(super) fn given_back(&mut self, change: &Move<'_>) -> Checked {
        let Move { id, old, new, .. } = change;
        let recorded = self.recorded(change, false);
        hold!(ResultOnce, recorded, "{id} is given back without a record");
        match new.at {
            At::Ended(orchestra_core::EndStatus::Cancelled) => {
                self.cover.hit(Point::GivenBackCancelled);
                hold!(
                    CancelHolds,
                    old.cancel_requested,
                    "{id} is cancelled by nobody"
                );
            }
            At::Queued { since, not_before } => {
                self.cover.hit(Point::GivenBackQueued);
                hold!(CancelHolds, !old.cancelled, "{id} is queued after a cancel");
                let place = self.place_since(old);
                if not_before > self.wall() {
                    self.waits_for_start(*id);
                }
                let at_once = not_before == self.wall().max(old.start_at);
                hold!(
                    Delays,
                    at_once && since == place,
                    "{id} is back as {:?}",
                    new.at
                );
            }
            _ => hold!(Transitions, false, "{id} is given back: {:?}", new.at),
        }
        Ok(())
    }
}

fn failed_on(shade: &Shade, worker: usize) -> bool {
    shade.avoids.is_some_and(|(n, _)| usize::from(n) == worker)
}

/// What a worker was given, and since when it may wait there. None of one that runs, or whose runner waits for
/// nothing.
fn given(
    worker: usize,
    ahead: u8,
    (task, shade): (TaskId, &Shade),
) -> Option<(bool, AttemptId, u8)> {
    let number = shade.attempts;
    let attempt = AttemptId { task, number };
    match shade.at {
        At::Assigned { worker: w, runner } if usize::from(w) == worker => {
            Some((ahead & (1 << runner) != 0, attempt, runner))
        }
        At::Running { worker: w, runner } if usize::from(w) == worker => {
            Some((false, attempt, runner))
        }
        _ => None,
    }
}
