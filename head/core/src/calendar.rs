//! The wall clock beside the engine's steady time.
//!
//! Everything that is an interval is counted in steady time: leases, timeouts, grace, what an attempt
//! has used of its time. Everything that is a moment of the calendar is in the wall's: times to start
//! at, with the delays of retries among them, runs of schedules, days of budgets, and when an account
//! is tried again. The shell says how far they are apart; a start begins with none.
//!
//! After a step back, what is an interval and stands in the wall's time goes back with it: a delay of
//! seconds is not to last as long as the clock was ahead. A step forward only shortens such delays.
//! Nobody knows by how much the clock of an earlier head was ahead: at a start no such delay is longer
//! than one that begins then.

use std::time::Duration;

use orchestra_types::{TaskId, Timestamp};

use crate::{Core, Step, row::State, task::Task};

/// How far the wall clock is ahead of steady time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calendar {
    ahead_ms: i64,
}

impl Calendar {
    /// A wall clock that is so far ahead of steady time, or behind.
    #[must_use]
    pub fn ahead_by(ahead_ms: i64) -> Self {
        Self { ahead_ms }
    }

    /// What the wall clock shows at a moment of steady time.
    #[must_use]
    pub fn wall(self, steady: Timestamp) -> Timestamp {
        Timestamp(steady.0.saturating_add_signed(self.ahead_ms))
    }

    /// When the wall clock shows this, if nobody sets it until then.
    #[must_use]
    pub fn steady(self, wall: Timestamp) -> Timestamp {
        Timestamp(wall.0.saturating_add_signed(self.ahead_ms.saturating_neg()))
    }
}

/// The wall clock was set back to this, by so much.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SetBack {
    pub wall: Timestamp,
    pub by: Duration,
}

impl SetBack {
    /// The end of an interval that began before. Nothing that is over comes again.
    pub fn shift(self, at: Timestamp) -> Timestamp {
        if at <= self.wall {
            return at;
        }
        let by = u64::try_from(self.by.as_millis()).unwrap_or(u64::MAX);
        Timestamp(at.0.saturating_sub(by))
    }
}

impl Core {
    /// What the wall clock shows.
    pub(crate) fn wall(&self, now: Timestamp) -> Timestamp {
        self.calendar.wall(now)
    }

    /// How far the wall clock is ahead, as the core was told last.
    #[must_use]
    pub fn calendar(&self) -> Calendar {
        self.calendar
    }

    /// Somebody set the wall clock.
    pub(crate) fn on_clock_set(&mut self, now: Timestamp, ahead_ms: i64, step: &mut Step) {
        let before = self.wall(now);
        self.calendar = Calendar::ahead_by(ahead_ms);
        let wall = self.wall(now);
        let by = before.since(wall);
        if !by.is_zero() {
            let back = SetBack { wall, by };
            self.set_tasks_back(now, back, step);
            self.set_schedules_back(back, step);
            self.set_accounts_back(back, step);
        }
        self.rewind_waits(now, before.min(wall));
        self.begin_day(now, step);
    }

    /// The head was started, and an earlier one may have gone by a clock that was ahead.
    pub(crate) fn on_clock_taken(&mut self, now: Timestamp, step: &mut Step) {
        let wall = self.wall(now);
        let moved_for = self.config.moved_for;
        for id in self.waits_after(wall) {
            let Some(task) = self.tasks.get(&id) else {
                continue;
            };
            let failures = task.row.failures + task.row.losses;
            let delay = self.config.retry_delay_most(failures);
            let most = Most {
                wall,
                delay,
                avoiding: delay.max(moved_for),
            };
            self.change_wait(now, id, step, |task| task.bound_waits(most));
        }
        self.bound_parks(wall, step);
    }

    /// The machine was suspended: nobody could be heard of meanwhile, nor do what he was told.
    pub(crate) fn on_resumed(&mut self, now: Timestamp) {
        self.renew_leases(now);
        self.overdue.excuse(now, self.back_by(now));
    }

    fn set_tasks_back(&mut self, now: Timestamp, back: SetBack, step: &mut Step) {
        for id in self.waits_after(back.wall) {
            self.change_wait(now, id, step, |task| task.set_back(back));
        }
    }

    /// Tasks of which something is to come only after this.
    fn waits_after(&self, wall: Timestamp) -> Vec<TaskId> {
        let tasks = self.tasks.values();
        let later = tasks.filter(|task| !task.status().is_ended() && task.is_after(wall));
        later.map(|task| task.row.id).collect()
    }

    /// Changes until when a task waits, and its place in the queue with it.
    fn change_wait(
        &mut self,
        now: Timestamp,
        id: TaskId,
        step: &mut Step,
        change: impl FnOnce(&mut Task) -> bool,
    ) {
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        let queued = matches!(task.row.state, State::Queued { .. });
        let in_queue = queued && self.budgets.held_reason(id).is_none();
        if in_queue {
            self.queue.remove(id, task.place, task.wait());
        }
        let changed = change(task);
        if in_queue {
            self.enqueue(now, id);
        }
        if changed {
            self.write(id, step);
        }
    }
}

/// How long what begins now would last at most.
#[derive(Clone, Copy, Debug)]
struct Most {
    wall: Timestamp,
    /// The delay of a retry.
    delay: Duration,
    /// How long another worker is waited for.
    avoiding: Duration,
}

impl Task {
    /// Whether something of it is to come only after this.
    fn is_after(&self, wall: Timestamp) -> bool {
        let wait = self.wait();
        wait.not_before > wall || wait.avoids_until > wall
    }

    /// A time to start at stays; the delay of a retry, and how long another worker is waited for, do
    /// not become longer. Whether its row is another one.
    fn set_back(&mut self, back: SetBack) -> bool {
        let mut changed = false;
        let start_at = self.row.facts.timing.start_at.unwrap_or_default();
        let mut earliest = Timestamp(0);
        if let State::Queued { not_before, .. } = &mut self.row.state {
            if *not_before > start_at && !mutated!(DelaysGrow) {
                let shifted = back.shift(*not_before).max(start_at);
                changed |= std::mem::replace(not_before, shifted) != shifted;
            }
            earliest = *not_before;
        }
        let last = self.row.last.as_mut();
        if let Some(avoids) = last.and_then(|last| last.avoids.as_mut()) {
            let shifted = back.shift(avoids.until).max(earliest.min(avoids.until));
            changed |= std::mem::replace(&mut avoids.until, shifted) != shifted;
        }
        changed
    }

    /// A time to start at stays; the delay of a retry, and how long another worker is waited for, are no
    /// longer than if they began now. Whether its row is another one.
    fn bound_waits(&mut self, most: Most) -> bool {
        let mut changed = false;
        let start_at = self.row.facts.timing.start_at.unwrap_or_default();
        let mut earliest = most.wall;
        if let State::Queued { not_before, .. } = &mut self.row.state {
            let longest = most.wall.plus(most.delay).max(start_at);
            if *not_before > longest && !mutated!(DelaysKeptByStart) {
                *not_before = longest;
                changed = true;
            }
            earliest = earliest.max(*not_before);
        }
        let last = self.row.last.as_mut();
        if let Some(avoids) = last.and_then(|last| last.avoids.as_mut()) {
            let longest = earliest.plus(most.avoiding);
            changed |= avoids.until > longest;
            avoids.until = avoids.until.min(longest);
        }
        changed
    }
}
