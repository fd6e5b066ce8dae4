//! Everything works again: then everything must end, in bounded time.

use orchestra_core::{Availability, EndStatus, ScheduleChange};
use orchestra_types::{TaskId, Timestamp};

use super::World;
use crate::{
    cast::{Result as Ended, bits},
    cover::Point,
    event::{Amount, Ask, Whose},
    judge::Owner,
    plan::Switch,
    rule::{Checked, hold},
    shadow::{At, bit},
};

/// Rounds that a healed world may take: each is more than enough for one attempt of each task. A task may
/// begin at a time by a clock that was minutes ahead.
const ROUNDS_MAX: u32 = 1000;
/// Time that passes in a round in which nothing is due.
const ROUND_MS: u64 = 1000;

impl World<'_> {
    /// No more faults: everybody is there, and works.
    pub(super) fn heal(&mut self) -> Checked {
        self.trace
            .line(self.clock, || "everything heals".to_owned());
        let faults = [
            Switch::HeadKilled,
            Switch::LostReplies,
            Switch::LostReports,
            Switch::DoubledCloses,
        ];
        self.plan.on = self.plan.on.without(crate::plan::Switches::of(&faults));
        self.twin_ends();
        for worker in &mut self.workers {
            worker.look.ready = 0b111;
            worker.look.slots = self.plan.slots;
            worker.look.prefetch = self.plan.prefetch;
        }
        // Half-dead streams are noticed by their silence.
        self.leave_all();
        for round in 0..ROUNDS_MAX {
            // What a twin has reported under a worker's numbers is found at the next attachment.
            if self.has(Switch::Twins) && round % 16 == 8 {
                self.leave_all();
            }
            self.round(round)?;
            if self.is_over() {
                return self.after();
            }
        }
        let shadow = &self.judge.shadow;
        let mut open = shadow
            .tasks()
            .filter(|(_, s)| !matches!(s.at, At::Ended(_)));
        let what = open
            .next()
            .map(|(id, shade)| format!("{id} is {:?}", shade.at));
        hold!(Ends, false, "after {ROUNDS_MAX} rounds {what:?}");
        Ok(())
    }

    fn twin_ends(&mut self) {
        let Some(twin) = self.twin.as_ref() else {
            return;
        };
        let (number, stream) = (twin.number, twin.stream);
        if let Some(id) = stream {
            self.leave(number, 1, id);
        }
        self.twin = None;
    }

    fn leave_all(&mut self) {
        for place in 0..self.workers.len() {
            let (worker, stream) = (self.workers[place].number, self.workers[place].stream);
            if let Some(id) = stream {
                self.leave(worker, 0, id);
            }
        }
    }

    fn round(&mut self, round: u32) -> Checked {
        for worker in 0..self.workers.len() {
            let worker = u8::try_from(worker).unwrap_or(0);
            self.dial(worker, 0);
            self.beat_of(worker, 0);
            self.work(worker, round);
        }
        while !self.clients.unanswered.is_empty() || !self.clients.on_the_way.is_empty() {
            if let Some(ask) = self.clients.unanswered.pop() {
                self.clients.send(ask);
            }
            self.call();
        }
        for worker in 0..self.workers.len() {
            let cordoned = self.judge.shadow.availability[worker] != Availability::Open;
            if let (true, Ok(worker)) = (cordoned, u8::try_from(worker)) {
                self.clients.send(Ask::Cordon(worker, Availability::Open));
            }
        }
        for schedule in &self.judge.shadow.schedules {
            let delete = Ask::ChangeSchedule(schedule.id, ScheduleChange::Delete);
            self.clients.send(delete);
        }
        for (id, shade) in self.judge.shadow.tasks() {
            let waits = matches!(shade.at, At::Queued { .. });
            match self.judge.used_up(id, shade).filter(|_| waits) {
                Some(Owner::Task(owner)) => {
                    self.clients.send(Ask::Limit(owner, Amount::Add(1000)));
                }
                Some(Owner::Project) => {
                    self.clients.send(Ask::Day(Amount::Add(1000), Whose::Named))
                }
                None => {}
            }
        }
        if let Some(task) = self.conflicted() {
            self.clients.send(Ask::Applied(task));
        }
        self.flow()?;
        self.pass_time(ROUND_MS)?;
        self.leap()
    }

    /// Everything that is on the way arrives.
    pub(super) fn flow(&mut self) -> Checked {
        for place in (0..self.streams.len()).rev() {
            while self.streams.get(place).is_some_and(|s| !s.up.is_empty()) {
                self.carry_up(place);
            }
            if place < self.streams.len() {
                self.carry_up(place);
            }
        }
        while !self.head.closes.is_empty() {
            self.close_one();
        }
        self.whole_turn()?;
        for place in (0..self.streams.len()).rev() {
            while self.streams.get(place).is_some_and(|s| !s.down.is_empty()) {
                self.carry_down(place)?;
            }
        }
        Ok(())
    }

    /// Every agent of a worker takes a step.
    fn work(&mut self, worker: u8, round: u32) {
        let fails = self.has(Switch::Failures) && round < 8 && self.random.once_in(4);
        let result = if fails { Ended::Bad } else { Ended::Good };
        let process = &mut self.workers[usize::from(worker)];
        if process.gone {
            return;
        }
        for place in 0..process.entries.len() {
            process.progress(place, result, true);
        }
        self.report(worker, 0);
    }

    /// When nobody works, time goes on to when the head wants to be woken: if it does not, what is
    /// open would wait for ever.
    fn leap(&mut self) -> Checked {
        let busy = self.workers.iter().any(|w| !w.entries.is_empty());
        if busy
            || !self
                .streams
                .iter()
                .all(|s| s.up.is_empty() && s.down.is_empty())
        {
            return Ok(());
        }
        let calendar = self.head.core.calendar();
        let delayed = self
            .judge
            .shadow
            .tasks()
            .filter_map(|(_, shade)| match shade.at {
                At::Queued { not_before, .. } => Some(calendar.steady(Timestamp(not_before)).0),
                _ => None,
            });
        let Some(first) = delayed.min() else {
            return Ok(());
        };
        let due = self.head.core.next_deadline().map_or(first, |due| due.0);
        let now = self.head_time().0;
        // What waits for an account is not delayed itself.
        let first = if first > now { first } else { due };
        // Heartbeats would have come meanwhile.
        let most = self.judge.lease_ms() / 2;
        self.pass_time(first.saturating_sub(now).min(most))
    }

    /// A head that was woken has done what was due.
    pub(super) fn awake(&self, before: Option<Timestamp>) -> Checked {
        let after = self.head.core.next_deadline();
        let done = after.is_none_or(|after| after > self.head.now) || after != before;
        hold!(Deadlines, done, "woken at {before:?}, it asks for it again");
        Ok(())
    }

    /// Whether every task has ended, or waits for one that ended without success.
    fn is_over(&self) -> bool {
        let quiet = self.workers.iter().all(|w| w.gone || w.spool.is_empty());
        let mut tasks = self.judge.shadow.tasks();
        quiet
            && self.judge.shadow.schedules.is_empty()
            && self.head.inbox.is_empty()
            && tasks.all(|(_, shade)| match shade.at {
                At::Ended(_) => true,
                At::Blocked => self.is_stuck(shade.after),
                At::Nowhere
                | At::Queued { .. }
                | At::Assigned { .. }
                | At::Running { .. }
                | At::Closing { .. } => false,
            })
    }

    fn is_stuck(&self, after: u64) -> bool {
        let mut before = bits(after).map(|id| self.judge.shadow.task(TaskId(id)).at);
        before.any(|at| match at {
            At::Ended(status) => status != EndStatus::Succeeded,
            At::Blocked => true,
            _ => false,
        })
    }

    /// At the end everything that was promised is there, also after one more start.
    fn after(&mut self) -> Checked {
        self.judge.cover.hit(Point::Healed);
        self.killed()?;
        for ids in self.clients.submitted.iter().flatten() {
            for id in ids {
                let there = self.head.core.task(*id).is_some()
                    || self.disk.shadow.forgotten & bit(*id) != 0;
                hold!(Durable, there, "{id} was acknowledged and is gone");
            }
        }
        self.results_stay()
    }
}
