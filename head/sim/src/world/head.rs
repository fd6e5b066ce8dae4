//! The head's loop in a world: take what waits, decide, commit, send; and its end in between.

use std::hash::{DefaultHasher, Hash, Hasher};

use orchestra_core::{Change, Core, Message, Step};
use orchestra_types::TaskId;

use super::World;
use crate::{
    cover::Point,
    event::Event,
    plan::Switch,
    rule::{Checked, Rule, broken},
};

/// Most inputs of one turn.
const TURN_MAX: u64 = 4;

/// A step that is decided and not yet durable.
struct Decided {
    step: Step,
    marks: Vec<(TaskId, bool)>,
}

/// Where a head is killed in a turn.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kill {
    BeforeCommit,
    InCommit,
    BeforeSend,
    InSend,
}

impl World<'_> {
    /// What waits for the head, from now on.
    pub(super) fn arrive(&mut self, event: Event) {
        self.head.inbox.push_back((self.clock, event));
    }

    /// One turn: some inputs, one commit, then everything is sent.
    pub(super) fn turn(&mut self) -> Checked {
        let kill = self.kill();
        let most = self.random.between(1, TURN_MAX);
        self.turn_of(usize::try_from(most).unwrap_or(1), kill)
    }

    /// A turn that nothing cuts.
    pub(super) fn whole_turn(&mut self) -> Checked {
        self.turn_of(usize::MAX, None)
    }

    fn kill(&mut self) -> Option<Kill> {
        if !self.has(Switch::HeadKilled) || !self.random.once_in(24) {
            return None;
        }
        let kills = [
            Kill::BeforeCommit,
            Kill::InCommit,
            Kill::BeforeSend,
            Kill::InSend,
        ];
        Some(kills[self.random.index(kills.len())])
    }

    fn turn_of(&mut self, most: usize, kill: Option<Kill>) -> Checked {
        let mut turn = Vec::new();
        for _ in 0..most {
            let Some((at, event)) = self.head.inbox.pop_front() else {
                break;
            };
            let at = at.saturating_add_signed(self.ahead);
            turn.push(self.decide(at, &event)?);
        }
        if turn.is_empty() {
            let due = self.head.core.next_deadline();
            let now = self.head_time();
            if due.is_some_and(|due| due <= now) || self.random.once_in(8) {
                turn.push(self.decide(now.0, &Event::Tick)?);
            }
        }
        self.finish(turn, kill)
    }

    fn decide(&mut self, at: u64, event: &Event) -> Result<Decided, Box<crate::rule::Violation>> {
        let now = self.head.now.max(orchestra_types::Timestamp(at));
        self.head.now = now;
        let input = event.input(self.cast, &self.disk.shadow);
        let step = self.head.core.handle(now, input);
        self.note(event, &step);
        let core = &self.head.core;
        self.judge.step(now, event, &step, core, self.cast)?;
        let marks = std::mem::take(&mut self.judge.marks);
        Ok(Decided { step, marks })
    }

    fn note(&mut self, event: &Event, step: &Step) {
        self.trace.line(self.clock, || format!("head <- {event:?}"));
        for change in &step.changes {
            self.trace.line(self.clock, || format!("    {change:?}"));
        }
        for message in &step.messages {
            self.trace
                .line(self.clock, || format!("    -> {message:?}"));
        }
        if let Some(digest) = &mut self.digest {
            let mut hasher = DefaultHasher::new();
            (*digest, format!("{step:?}")).hash(&mut hasher);
            *digest = hasher.finish();
        }
    }

    /// Durable first, told second; a kill may come between.
    fn finish(&mut self, turn: Vec<Decided>, kill: Option<Kill>) -> Checked {
        match kill {
            Some(Kill::BeforeCommit) => {
                self.judge.cover.hit(Point::KilledBeforeCommit);
                return self.killed();
            }
            Some(Kill::InCommit) => {
                self.judge.cover.hit(Point::KilledInCommit);
                let kept = self.random.index(turn.len() + 1);
                for decided in turn.into_iter().take(kept) {
                    self.commit(decided.step.changes, &decided.marks);
                }
                return self.killed();
            }
            Some(Kill::BeforeSend | Kill::InSend) | None => {}
        }
        let mut messages = Vec::new();
        for decided in turn {
            self.commit(decided.step.changes, &decided.marks);
            messages.extend(decided.step.messages);
        }
        self.judge.cover.hit(Point::Commits);
        match kill {
            Some(Kill::BeforeSend) => {
                self.judge.cover.hit(Point::KilledBeforeSend);
                self.killed()
            }
            Some(Kill::InSend) => {
                self.judge.cover.hit(Point::KilledInSend);
                let sent = self.random.index(messages.len() + 1);
                messages.truncate(sent);
                self.send(messages)?;
                self.killed()
            }
            Some(Kill::BeforeCommit | Kill::InCommit) | None => self.send(messages),
        }
    }

    fn commit(&mut self, changes: Vec<Change>, marks: &[(TaskId, bool)]) {
        self.disk.write(changes, self.cast);
        for (task, cancelled) in marks {
            self.disk.shadow.mark(*task, *cancelled);
        }
    }

    fn send(&mut self, messages: Vec<Message>) -> Checked {
        for message in messages {
            self.send_one(message)?;
        }
        Ok(())
    }

    /// `kill -9`: memory, streams and unanswered calls are gone. It is started anew.
    pub(super) fn killed(&mut self) -> Checked {
        self.trace.line(self.clock, || "head killed".to_owned());
        self.lose_streams();
        self.head.inbox.clear();
        self.head.closes.clear();
        self.clients.head_lost();
        self.restart()
    }

    /// Started from what is durable, by the clock of now, which may be another one.
    fn restart(&mut self) -> Checked {
        self.judge.cover.hit(Point::Restarts);
        if self.has(Switch::LongWaits) {
            self.clock += self.random.below(20_000);
        }
        // Its time begins by the wall clock.
        self.ahead += std::mem::take(&mut self.set);
        if self.has(Switch::ClockJumps) {
            let jump = i64::try_from(self.random.below(120_000)).unwrap_or(0) - 60_000;
            // At times so far that schedules are due long after.
            let times = if self.random.once_in(4) { 5 } else { 1 };
            self.ahead = jump * times;
            if self.head_time() < self.head.now {
                self.judge.cover.hit(Point::ClockBack);
            }
        }
        let now = self.head_time();
        let (core, step) = Core::restore(self.plan.config.clone(), now, self.disk.load());
        self.trace
            .line(self.clock, || format!("head starts at {now:?}"));
        self.head.core = core;
        self.head.now = now;
        self.head.next_connection = 1;
        self.note(&Event::Restored, &step);
        let (core, durable) = (&self.head.core, &self.disk.shadow);
        self.judge.restored(now, durable, &step, core, self.cast)?;
        self.rows_are_memory()?;
        self.results_stay()?;
        let first = Decided {
            step,
            marks: Vec::new(),
        };
        self.finish(vec![first], None)?;
        self.arrive(Event::ClockTaken);
        Ok(())
    }

    /// Row by row, byte by byte.
    fn rows_are_memory(&self) -> Checked {
        for (id, _) in self.disk.shadow.tasks() {
            let view = self.head.core.task(id);
            if !view.is_some_and(|view| self.disk.is_task(view.row)) {
                return Err(broken(Rule::Restore, format!("{id} is not as its row")));
            }
        }
        Ok(())
    }

    /// In order: nothing new is started, what waits is done, then it ends.
    pub(super) fn stopped(&mut self) -> Checked {
        self.judge.cover.hit(Point::HeadStopped);
        self.trace.line(self.clock, || "head stops".to_owned());
        self.arrive(Event::StopAssigning);
        self.whole_turn()?;
        self.rows_are_memory()?;
        self.killed()
    }
}
