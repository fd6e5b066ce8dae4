//! What may happen next in a world, and how often.

use std::time::Duration;

use orchestra_core::{Availability, EndStatus, ScheduleChange};
use orchestra_types::{OnDependencyFailure, Priority, Recurrence, TaskId, Timestamp};

use super::{World, net::Up, worker::Worker};
use crate::{
    cast::{Result as Ended, Want, bits},
    cover::Point,
    event::{Amount, Ask, Event, Whose},
    plan::{MINUTE_MS, Switch},
    rule::Checked,
    shadow::At,
};

/// Most schedules that clients ask for: each makes tasks as long as its world lasts.
const SCHEDULES_MAX: u64 = 2;

/// Something that may happen.
#[derive(Clone, Copy)]
enum Act {
    Ask,
    Call,
    Turn,
    Up,
    Down,
    Agent,
    Dial,
    Beat,
    Time,
    Close,
    Fault,
}

/// Each as often as it stands here.
const ACTS: [Act; 36] = [
    Act::Ask,
    Act::Ask,
    Act::Ask,
    Act::Call,
    Act::Call,
    Act::Call,
    Act::Turn,
    Act::Turn,
    Act::Turn,
    Act::Turn,
    Act::Turn,
    Act::Turn,
    Act::Up,
    Act::Up,
    Act::Up,
    Act::Up,
    Act::Up,
    Act::Down,
    Act::Down,
    Act::Down,
    Act::Down,
    Act::Agent,
    Act::Agent,
    Act::Agent,
    Act::Agent,
    Act::Dial,
    Act::Dial,
    Act::Beat,
    Act::Time,
    Act::Time,
    Act::Close,
    Act::Close,
    Act::Close,
    Act::Close,
    Act::Fault,
    Act::Fault,
];

impl World<'_> {
    /// One thing happens.
    pub(super) fn act(&mut self) -> Checked {
        match ACTS[self.random.index(ACTS.len())] {
            Act::Ask => self.ask(),
            Act::Call => self.call(),
            Act::Turn => return self.turn(),
            Act::Up => self.some_up(),
            Act::Down => return self.some_down(),
            Act::Agent => self.agent(),
            Act::Dial => {
                let (worker, process) = self.somebody();
                self.dial(worker, process);
            }
            Act::Beat => self.beat(),
            Act::Time => return self.pass_some_time(),
            Act::Close => self.close_one(),
            Act::Fault => return self.fault(),
        }
        Ok(())
    }

    /// A worker's process.
    pub(super) fn somebody(&mut self) -> (u8, usize) {
        let n = self.random.index(self.workers.len());
        let worker = u8::try_from(n).unwrap_or(0);
        let twin = self.twin.as_ref().is_some_and(|twin| twin.number == worker);
        (worker, usize::from(twin && self.random.once_in(2)))
    }

    fn ask(&mut self) {
        if !self.clients.unanswered.is_empty() && self.random.once_in(2) {
            let place = self.random.index(self.clients.unanswered.len());
            let ask = self.clients.unanswered.swap_remove(place);
            self.judge.cover.hit(Point::CallAgain);
            self.clients.send(ask);
            return;
        }
        if self.has(Switch::DoubledCalls) && self.random.once_in(4) {
            self.ask_double();
            return;
        }
        if self.has(Switch::Recurring) && self.random.once_in(8) {
            if let Some(ask) = self.recurring() {
                self.clients.send(ask);
            }
            return;
        }
        if self.has(Switch::Retries)
            && self.random.once_in(4)
            && let Some(task) = self.kept_back()
        {
            self.clients.send(Ask::Release(task));
            return;
        }
        let ask = match self.random.below(8) {
            5 if self.has(Switch::Budgets) => self.limits(),
            6 if self.has(Switch::DailyBudgets) => {
                let whose = match self.random.once_in(4) {
                    true => Whose::OfHere,
                    false => Whose::Named,
                };
                Some(Ask::Day(self.amount(), whose))
            }
            0 if self.has(Switch::Cancels) => self.cancel_target().map(Ask::Cancel),
            1 if self.has(Switch::Retries) => self.retry_or_release(),
            2 if self.has(Switch::Projects) => self.conflicted().map(Ask::Applied),
            7 if self.has(Switch::Removals) => {
                let worker = u8::try_from(self.random.index(self.workers.len())).ok();
                worker.map(Ask::Remove)
            }
            4 if self.has(Switch::Cordons) => self.cordon(),
            3 if self.has(Switch::Reprioritise) => self.known_task().map(|task| {
                let priority = Priority::ALL[self.random.index(Priority::ALL.len())];
                Ask::Prioritise(task, priority)
            }),
            _ => self.submission(),
        };
        if let Some(ask) = ask {
            let with = match &ask {
                Ask::Retry(id) => self.unsuccessful_after(*id),
                _ => Vec::new(),
            };
            self.clients.send(ask);
            with.into_iter()
                .for_each(|id| self.clients.send(Ask::Retry(id)));
        }
    }

    /// Tries some task again, or lets it go.
    fn retry_or_release(&mut self) -> Option<Ask> {
        let id = self.known_task()?;
        Some(match self.random.once_in(16) {
            true => Ask::Release(id),
            false => Ask::Retry(id),
        })
    }

    /// Tasks that came after one and ended without success, as it did: whoever tries that again tries these, too.
    fn unsuccessful_after(&self, before: TaskId) -> Vec<TaskId> {
        let tasks = self.judge.shadow.tasks();
        let after = tasks.filter(|(_, shade)| {
            is_unsuccessful(shade.at) && bits(shade.after).any(|id| id == before.0)
        });
        after.map(|(id, _)| id).collect()
    }

    /// A task that is blocked by one that did not succeed.
    fn kept_back(&mut self) -> Option<TaskId> {
        let shadow = &self.judge.shadow;
        let kept = shadow
            .tasks()
            .filter(|(_, shade)| shadow.is_kept_back(shade));
        let kept: Vec<TaskId> = kept.map(|(id, _)| id).collect();
        kept.get(self.random.index(kept.len().max(1))).copied()
    }

    /// Some task, or one whose attempt was called back and did not come back yet.
    fn cancel_target(&mut self) -> Option<TaskId> {
        let called = self.judge.on_its_way_back();
        let called = called.filter(|_| self.random.once_in(2));
        called.or_else(|| self.known_task())
    }

    fn limits(&mut self) -> Option<Ask> {
        let id = self.known_task()?;
        Some(Ask::Limit(id, self.amount()))
    }

    fn amount(&mut self) -> Amount {
        let tokens = self.random.between(1, 60);
        match self.random.below(8) {
            0 => Amount::Lift,
            1..4 => Amount::Set(tokens),
            _ => Amount::Add(tokens),
        }
    }

    /// A schedule is made, or one of those that are there changed.
    fn recurring(&mut self) -> Option<Ask> {
        let there = self.judge.shadow.schedules.len();
        if there > 0 && !self.random.once_in(4) {
            let changes = [
                ScheduleChange::Pause,
                ScheduleChange::Resume,
                ScheduleChange::Resume,
                ScheduleChange::Delete,
            ];
            let id = self.judge.shadow.schedules[self.random.index(there)].id;
            let change = changes[self.random.index(changes.len())];
            return Some(Ask::ChangeSchedule(id, change));
        }
        if self.clients.schedules >= SCHEDULES_MAX || self.plan.tasks > 8 {
            return None;
        }
        self.clients.schedules += 1;
        let now = self.head_wall().0;
        let first = now + self.random.below(10_000);
        let first = self.random.once_in(2).then_some(Timestamp(first));
        Some(Ask::Recur {
            key: self.clients.schedules,
            want: Box::new(self.want(0, 1)),
            every: self.recurrence(now),
            first,
        })
    }

    /// What comes soon, by anybody's clock, and again before the world ends or a day later.
    fn recurrence(&mut self, now: u64) -> Recurrence {
        if !self.random.once_in(4) {
            return Recurrence::Every(Duration::from_millis(self.random.between(20_000, 90_000)));
        }
        let ahead = [0, 330, -1][self.random.index(3)];
        let minute =
            now / MINUTE_MS + u64::from(Recurrence::round(ahead)) + self.random.between(0, 2);
        Recurrence::Daily {
            minute: u16::try_from(minute % (24 * 60)).expect("a day has fewer minutes"),
            ahead,
        }
    }

    fn cordon(&mut self) -> Option<Ask> {
        let worker = u8::try_from(self.random.index(self.workers.len())).ok()?;
        let wishes = Availability::ALL;
        Some(Ask::Cordon(worker, wishes[self.random.index(wishes.len())]))
    }

    fn ask_double(&mut self) {
        let calls = &self.clients.on_the_way;
        if let Some(call) = calls.get(self.random.index(calls.len())) {
            let ask = call.ask.clone();
            self.judge.cover.hit(Point::CallAgain);
            self.clients.send(ask);
        }
    }

    /// A task that clients know of, or, seldom, none that exists.
    fn known_task(&mut self) -> Option<TaskId> {
        if self.random.once_in(32) {
            return Some(TaskId(63));
        }
        let runs = self.judge.shadow.schedules.iter();
        if let Some(run) = runs.filter_map(|schedule| schedule.last).next()
            && self.random.once_in(4)
        {
            return Some(run);
        }
        let tasks = &self.clients.tasks;
        tasks.get(self.random.index(tasks.len())).copied()
    }

    /// A task whose change a person must put in place.
    pub(super) fn conflicted(&self) -> Option<TaskId> {
        let tasks = self.clients.tasks.iter();
        let mut waits = tasks.filter(|id| {
            let shade = self.judge.shadow.task(**id);
            shade.conflict && shade.at == At::Ended(EndStatus::NeedsReview)
        });
        waits.next().copied()
    }

    fn submission(&mut self) -> Option<Ask> {
        let sent = self.clients.wanted;
        if sent >= self.plan.tasks {
            return None;
        }
        let most = if self.has(Switch::Bulk) { 3 } else { 1 };
        let most = most.max(self.plan.tasks / 3);
        let count = self.random.index(most) + 1;
        self.clients.wanted += count;
        let key = self.clients.submitted.len();
        self.clients.submitted.push(None);
        let wants = (0..count).map(|place| self.want(place, count)).collect();
        Some(Ask::Submit { key, wants })
    }

    fn want(&mut self, place: usize, count: usize) -> Want {
        let mut want = Want::plain();
        if self.has(Switch::Priorities) {
            want.priority = Priority::ALL[self.random.index(Priority::ALL.len())];
        }
        if self.has(Switch::Failures) {
            want.retries = u32::try_from(self.random.below(3)).unwrap_or(0);
        }
        if self.has(Switch::Projects) || self.has(Switch::DailyBudgets) {
            want.project = self.random.once_in(2);
        }
        if self.has(Switch::Dependencies) {
            self.depend(&mut want, place, count);
        }
        if self.has(Switch::Requirements) {
            self.require(&mut want);
        }
        if self.has(Switch::Fallbacks) && !self.random.once_in(4) {
            self.fall_back(&mut want);
        }
        if self.has(Switch::Shares) {
            want.share = u8::from(self.random.once_in(2));
        }
        if self.has(Switch::Timeouts) {
            let mut limit = || self.random.below(2) * self.random.between(3, 30);
            want.limits = [limit(), limit(), limit()];
        }
        if self.has(Switch::Budgets) {
            self.limit(&mut want);
        }
        if self.has(Switch::Schedules) && self.random.once_in(4) {
            let at = self.head_wall().0 + self.random.below(20_000);
            want.start_at = Some(Timestamp(at));
        }
        want
    }

    fn depend(&mut self, want: &mut Want, place: usize, count: usize) {
        if self.has(Switch::Policies) {
            let policies = [
                OnDependencyFailure::Block,
                OnDependencyFailure::Cancel,
                OnDependencyFailure::Run,
            ];
            want.policy = policies[self.random.index(policies.len())];
        }
        if self.random.once_in(2) {
            let tasks = &self.clients.tasks;
            if let Some(id) = tasks.get(self.random.index(tasks.len())) {
                want.after |= 1 << id.0;
            }
        }
        // Forwards and backwards, but never in a circle: only one of both directions in a world.
        if count > 1 && self.random.once_in(2) {
            let forwards = self.plan.workers == 1;
            let other = self.random.index(count);
            if (forwards && other > place) || (!forwards && other < place) {
                want.after_index |= 1 << other;
            }
        }
    }

    /// Some tasks have a budget, and some are a part of another one, most of one that has.
    fn limit(&mut self, want: &mut Want) {
        if self.random.once_in(2) {
            want.budget = self.random.between(1, 60);
        }
        if self.random.once_in(2) {
            let any = self.random.once_in(4);
            let limited = |id: &TaskId| any || self.judge.shadow.task(*id).budget > 0;
            let tasks: Vec<TaskId> = self.clients.tasks.iter().copied().filter(limited).collect();
            want.parent = tasks.get(self.random.index(tasks.len())).copied();
        }
    }

    fn require(&mut self, want: &mut Want) {
        match self.random.below(8) {
            0 | 1 => {
                want.runner = u8::try_from(self.random.below(3)).ok();
            }
            2 => {
                let n = self.random.index(self.workers.len());
                want.machine = u8::try_from(n).ok();
            }
            3 => want.labelled = true,
            _ => {}
        }
    }

    /// A task of a runner with an account falls back on one of the others, or both.
    fn fall_back(&mut self, want: &mut Want) {
        let first = u8::try_from(self.random.below(2)).unwrap_or(0);
        let other = if self.random.once_in(2) { 1 } else { 2 };
        let second = (!self.random.once_in(4)).then_some(3 - other);
        want.runner = Some(first);
        want.fallback = [Some(other), second].map(|step| step.map(|step| (first + step) % 3));
    }

    /// A call reaches the head, in any order.
    pub(super) fn call(&mut self) {
        let calls = self.clients.on_the_way.len();
        if calls == 0 {
            return;
        }
        let call = self
            .clients
            .on_the_way
            .swap_remove(self.random.index(calls));
        let (request, ask) = (call.request, call.ask.clone());
        self.clients.waiting.push(call);
        self.arrive(Event::Asked { request, ask });
    }

    fn some_up(&mut self) {
        for _ in 0..self.random.between(1, 4) {
            if self.streams.is_empty() {
                return;
            }
            let place = self.random.index(self.streams.len());
            self.carry_up(place);
        }
    }

    fn some_down(&mut self) -> Checked {
        for _ in 0..self.random.between(1, 4) {
            if self.streams.is_empty() {
                return Ok(());
            }
            let place = self.random.index(self.streams.len());
            self.carry_down(place)?;
        }
        Ok(())
    }

    /// An agent takes a step, and its worker reports.
    fn agent(&mut self) {
        if let Some(worker) = self.judge.asked_for_room()
            && self.random.once_in(2)
        {
            return self.hurry(worker);
        }
        let (worker, process) = self.somebody();
        let result = self.agent_result();
        let starts = result != Ended::Unbegun && !self.random.once_in(8);
        let place = match self.process(worker, process) {
            Some(process) if !process.gone => process.entries.len(),
            Some(_) | None => return,
        };
        let place = self.random.index(place);
        let more = if self.has(Switch::Budgets) || self.has(Switch::DailyBudgets) {
            self.random.below(30)
        } else {
            0
        };
        if self.has(Switch::Timeouts) && self.random.once_in(4) {
            self.sign(worker, process, place);
        }
        if more > 0 && self.random.once_in(2) {
            self.meter(worker, process, place, more);
            return;
        }
        if let Some(process) = self.process(worker, process) {
            process.spend(place, more);
            process.progress(place, result, starts);
        }
        self.report(worker, process);
    }

    /// Agents of a worker end one after the other, so that what waits there begins.
    fn hurry(&mut self, worker: u8) {
        for _ in 0..3 {
            if let Some(process) = self.process(worker, 0).filter(|w| !w.gone) {
                for place in 0..process.entries.len() {
                    process.progress(place, Ended::Good, true);
                }
            }
        }
        self.report(worker, 0);
    }

    /// An agent gives a sign of life: its events reach the head beside the stream.
    fn sign(&mut self, worker: u8, process: usize, place: usize) {
        let process = self.process(worker, process);
        let entry = process.and_then(|w| w.entries.get(place).copied());
        if let Some(entry) = entry {
            self.arrive(Event::Active(entry.attempt));
        }
    }

    /// An agent uses tokens, and its worker says so; that may be lost.
    fn meter(&mut self, worker: u8, process: usize, place: usize, more: u64) {
        let Some(sender) = self.process(worker, process) else {
            return;
        };
        let stream = sender.stream.filter(|_| sender.welcomed);
        let used = sender.spend(place, more);
        if let (Some((attempt, used)), Some(id)) = (used, stream)
            && let Some(stream) = self.stream(id)
        {
            stream.say(Up::Meter(attempt, used));
        }
    }

    fn agent_result(&mut self) -> Ended {
        let one_in = if self.has(Switch::Fallbacks) { 2 } else { 3 };
        if self.has(Switch::Limits) && self.random.once_in(one_in) {
            return Ended::Limited;
        }
        if self.has(Switch::BadWorkers) && self.random.once_in(2) {
            return Ended::Unbegun;
        }
        if !self.has(Switch::Failures) {
            return Ended::Good;
        }
        match self.random.below(6) {
            0 | 1 => Ended::Bad,
            2 => Ended::Hopeless,
            _ => Ended::Good,
        }
    }

    fn beat(&mut self) {
        let (worker, process) = self.somebody();
        self.beat_of(worker, process);
    }

    pub(super) fn beat_of(&mut self, worker: u8, process: usize) {
        let welcomed = |w: &&mut Worker| w.welcomed;
        let Some(id) = self
            .process(worker, process)
            .filter(welcomed)
            .and_then(|w| w.stream)
        else {
            return;
        };
        if let Some(stream) = self.stream(id) {
            stream.say(Up::Beat);
        }
    }

    /// A result is in its place; its head may hear it twice.
    pub(super) fn close_one(&mut self) {
        let closes = self.head.closes.len();
        if closes == 0 {
            return;
        }
        let attempt = self.head.closes.swap_remove(self.random.index(closes));
        self.closed += 1;
        let conflict = self.closed.is_multiple_of(3);
        self.arrive(Event::Closed { attempt, conflict });
        if self.has(Switch::DoubledCloses) && self.random.once_in(3) {
            self.judge.cover.hit(Point::CloseAgain);
            self.arrive(Event::Closed { attempt, conflict });
        }
    }

    fn pass_some_time(&mut self) -> Checked {
        let ms = match self.random.below(4) {
            0 if self.has(Switch::LongWaits) => self.random.below(60_000),
            0 | 1 => self.random.below(5_000),
            _ => self.random.below(200),
        };
        self.pass_time(ms)
    }

    /// Time passes; the head wakes whenever something is due.
    pub(super) fn pass_time(&mut self, ms: u64) -> Checked {
        let end = self.clock + ms;
        while let Some(due) = self.head.core.next_deadline() {
            let due = due.0.saturating_add_signed(-self.ahead);
            if due > end {
                break;
            }
            self.clock = self.clock.max(due);
            let before = self.head.core.next_deadline();
            self.whole_turn()?;
            // What is over is looked at once more when something that needs it has moved.
            if self.awake(before).is_err() {
                self.whole_turn()?;
                self.awake(before)?;
            }
        }
        self.clock = end;
        Ok(())
    }
}

fn is_unsuccessful(at: At) -> bool {
    matches!(at, At::Ended(status) if status != EndStatus::Succeeded)
}
