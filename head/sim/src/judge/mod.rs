//! Compares everything that the core decides with what it should have decided, step by step.
//!
//! The judge knows the rows (its [`Shadow`]), what the core keeps in memory only (links, leases),
//! and what was promised to others. It decides anew, in other words than the core, what may follow
//! from an event, and breaks off at the first difference.

mod ahead;
mod budgets;
mod calendar;
mod choice;
mod clocks;
mod days;
mod higher;
mod leases;
mod memory;
mod messages;
mod moves;
mod orders;
mod retention;
mod schedules;
mod taken_back;
mod tasks;
mod turns;
mod workers;

pub use budgets::Owner;

use orchestra_core::{Change, Config, Core, Step};
use orchestra_types::{AttemptId, TaskId, Timestamp};

use crate::{
    cast::{Cast, WORKERS_MAX},
    cover::{Coverage, Point},
    event::{Ask, Event, Look, Whose},
    rule::{Checked, hold},
    shadow::{Shadow, bit},
};

/// A worker as the head's memory should have it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Its open stream.
    pub connection: Option<u64>,
    /// As it described itself last.
    pub look: Option<Look>,
    /// Whether it counts as lost.
    pub lost: bool,
    /// Whether it was heard since the head was started.
    pub heard: bool,
    /// When its lease ends.
    pub lease_ends: Option<u64>,
}

/// What the judge knows.
#[derive(Debug)]
pub struct Judge {
    /// What was decided.
    pub shadow: Shadow,
    /// Workers in the head's memory.
    pub seen: [Seen; WORKERS_MAX],
    /// Whether tasks are given to workers.
    pub assigning: bool,
    /// What worlds go through.
    pub cover: Coverage,
    config: Config,
    now: u64,
    /// Workers whose lease must end with this event, as a set.
    expired: u8,
    /// Whether a worker got room in this step.
    freed: bool,
    /// What waited for a slot of their workers then, for all that is known.
    lost_ahead: Vec<AttemptId>,
    /// Tasks that changed in this step, as a set.
    changed: u64,
    /// Tasks that are elsewhere after this step, as a set.
    moved: u64,
    calls: ahead::Calls,
    orders: orders::Orders,
    money: budgets::Money,
    /// The event raises a limit that is not there.
    refused: bool,
    /// Attempts that are to be taken back with this event.
    back: Vec<AttemptId>,
    today: days::Today,
    calendar: calendar::Wall,
    clocks: clocks::Clocks,
    turns: turns::Turns,
    runs: schedules::Runs,
    /// Cancels and retries of this step, for the durable shadow.
    pub marks: Vec<(TaskId, bool)>,
}

impl Judge {
    /// A judge of a new core.
    #[must_use]
    pub fn new(config: &Config, cover: Coverage) -> Self {
        Self {
            shadow: Shadow::default(),
            seen: [Seen::default(); WORKERS_MAX],
            assigning: true,
            cover,
            config: config.clone(),
            now: 0,
            expired: 0,
            freed: false,
            lost_ahead: Vec::new(),
            changed: 0,
            moved: 0,
            calls: ahead::Calls::default(),
            orders: orders::Orders::default(),
            money: budgets::Money::default(),
            refused: false,
            back: Vec::new(),
            today: days::Today::of(config),
            calendar: calendar::Wall::default(),
            clocks: clocks::Clocks::default(),
            turns: turns::Turns::default(),
            runs: schedules::Runs::default(),
            marks: Vec::new(),
        }
    }

    /// Judges what followed from an event.
    pub fn step(
        &mut self,
        now: Timestamp,
        event: &Event,
        step: &Step,
        core: &Core,
        cast: &Cast,
    ) -> Checked {
        self.cover.hit(Point::Steps);
        let was = std::mem::replace(&mut self.now, now.0);
        self.changed = 0;
        self.moved = 0;
        self.marks.clear();
        self.refused = false;
        let before = self.before(event);
        self.note_clock(event);
        self.note_calls(event, &before);
        self.note(event);
        self.begin_day();
        self.note_use(event);
        self.note_day(event, &before);
        self.note_sign(event);
        self.note_runs();
        self.leases();
        self.note_lost_ahead();
        self.note_back(event);
        for change in &step.changes {
            self.change(event, change, cast)?;
            self.shadow.apply(change, cast);
        }
        self.mark(event, &before, step);
        self.messages(event, &before, step, cast)?;
        self.all_taken_back()?;
        self.memory(event, step, core, cast)?;
        self.no_idle()?;
        self.money(event, step, core)?;
        self.day(core)?;
        self.went_back()?;
        self.clocks(step, core)?;
        self.schedules(core)?;
        self.retention(step, core)?;
        self.nothing_waits_in_vain(was, event)?;
        self.deadline(core)
    }

    fn is_under_cancelled(&self, wants: &[crate::cast::Want]) -> bool {
        let mut parents = wants.iter().filter_map(|want| want.parent);
        parents.any(|parent| self.shadow.task(parent).is_cancelled())
    }

    /// What an event finds, where the answer to it depends on that.
    fn before(&self, event: &Event) -> Before {
        let mut before = Before::default();
        match event {
            Event::Asked { ask, .. } => match ask {
                Ask::Submit { key, wants } => {
                    before.under_cancelled = self.is_under_cancelled(wants);
                    before.key = self.shadow.key(*key);
                    before.open = self.open();
                }
                Ask::Recur { key, want, .. } => {
                    before.under_cancelled = self.is_under_cancelled(std::slice::from_ref(want));
                    let mut known = self.shadow.schedules.iter();
                    before.schedule = known.find(|known| known.key == *key).copied();
                }
                Ask::ChangeSchedule(id, _) => before.schedule = self.shadow.schedule(*id),
                Ask::Day(_, whose) => {
                    before.project = self.knows_project() || *whose == Whose::OfHere;
                }
                Ask::Cordon(..) | Ask::Remove(_) => {}
                Ask::Cancel(task)
                | Ask::Retry(task)
                | Ask::Release(task)
                | Ask::Applied(task)
                | Ask::Limit(task, _)
                | Ask::Prioritise(task, _) => {
                    let shade = self.shadow.task(*task);
                    before.shade = Some(shade);
                    before.doomed = self.shadow.is_doomed(&shade);
                    before.used_up = self.used_up_by_tasks(*task, &shade).is_some();
                }
            },
            Event::Attached { worker, .. } => {
                let seen = &self.seen[usize::from(*worker)];
                before.connection = seen.connection;
                before.epoch = self.shadow.epochs[usize::from(*worker)];
            }
            Event::Reported {
                connection,
                worker,
                seq,
                attempt,
                ..
            } => {
                let n = usize::from(*worker);
                before.acked = self.shadow.acked[n];
                before.current = self.seen[n].connection == Some(*connection);
                before.fresh = before.current && *seq == before.acked + 1;
                let shade = self.shadow.task(attempt.task);
                before.held = shade.attempts == attempt.number
                    && shade.holder().is_some_and(|(holder, _)| holder == *worker);
            }
            Event::Detached { .. }
            | Event::Capacity { .. }
            | Event::Heartbeat { .. }
            | Event::Metered { .. }
            | Event::Active(_)
            | Event::Closed { .. }
            | Event::StopAssigning
            | Event::ClockSet(_)
            | Event::ClockTaken
            | Event::Tick
            | Event::Restored => {}
        }
        before
    }

    fn open(&self) -> u64 {
        let open = self.shadow.tasks().filter(|(_, shade)| {
            let status = shade.status();
            status.is_some_and(|status| !status.is_ended())
        });
        open.count() as u64
    }

    /// Promises that a step makes and takes back.
    fn mark(&mut self, event: &Event, before: &Before, step: &Step) {
        let Event::Asked { ask, .. } = event else {
            return;
        };
        let (Some(shade), true) = (before.shade, answered_done(step)) else {
            return;
        };
        match ask {
            Ask::Cancel(task) if messages::cancel_holds(&shade) => self.promise(*task, true),
            Ask::Submit { .. }
            | Ask::Cancel(_)
            | Ask::Retry(_)
            | Ask::Release(_)
            | Ask::Applied(_)
            | Ask::Cordon(..)
            | Ask::Remove(_)
            | Ask::Limit(..)
            | Ask::Day(..)
            | Ask::Recur { .. }
            | Ask::ChangeSchedule(..)
            | Ask::Prioritise(..) => {}
        }
    }

    fn promise(&mut self, task: TaskId, cancelled: bool) {
        self.shadow.mark(task, cancelled);
        self.marks.push((task, cancelled));
    }

    fn change(&mut self, event: &Event, change: &Change, cast: &Cast) -> Checked {
        match change {
            Change::Task(row) => self.task(event, row, cast),
            Change::Attempt(row) => self.attempt(row, cast),
            Change::Outcome(row) => self.outcome(event, row, cast),
            Change::ForgetOutcome { id } => self.loss_forgotten(*id),
            Change::Worker(row) => self.worker(event, row),
            Change::Acked { worker, up_to } => self.acked(event, worker, *up_to, cast),
            Change::Key(row) => self.key(event, row),
            Change::Spec { id, spec } => {
                if let Some(schedule) = spec.schedule {
                    return self.run_made(*id, schedule);
                }
                let submits = matches!(
                    event,
                    Event::Asked {
                        ask: Ask::Submit { .. },
                        ..
                    }
                );
                hold!(Transitions, submits, "a specification without a submission");
                Ok(())
            }
            Change::Account(row) => self.account(event, row, cast),
            Change::Schedule(row) => self.recurs(event, row),
            Change::ForgetSchedule { id } => self.unscheduled(event, *id),
            Change::ScheduleIds { .. } | Change::Ledger(_) | Change::Project(_) => Ok(()),
            Change::ForgetWorker { id } => self.removed(event, id, cast),
            Change::ForgetTask { id, .. } => {
                self.changed |= bit(*id);
                self.forgets(*id)
            }
            Change::ForgetKey { key } => self.forgets_key(key),
        }
    }

    /// The head was started: memory is what was durable, and every worker has a whole lease.
    pub fn restored(
        &mut self,
        now: Timestamp,
        durable: &Shadow,
        step: &Step,
        core: &Core,
        cast: &Cast,
    ) -> Checked {
        self.forget_calls(now.0 < self.now);
        self.now = now.0;
        self.calendar = calendar::Wall::default();
        self.changed = 0;
        self.moved = 0;
        self.assigning = true;
        self.expired = 0;
        self.lost_ahead.clear();
        self.shadow.copy(durable);
        self.restore_orders();
        self.turns = turns::Turns::default();
        self.forget_runs();
        self.restore_day();
        self.restore_money();
        let lease_ends = self.lease_from(now.0);
        for (seen, epoch) in self.seen.iter_mut().zip(durable.epochs) {
            seen.connection = None;
            seen.lost = false;
            seen.heard = false;
            seen.lease_ends = (epoch > 0).then_some(lease_ends);
        }
        self.restore_clocks(core);
        hold!(Restore, step.changes.is_empty(), "a start changes rows");
        self.cover.hit(Point::RestoreCompared);
        self.messages(&Event::Restored, &Before::default(), step, cast)?;
        self.closes_again(step)?;
        self.schedules_from_start(core)?;
        self.same_schedules(core)?;
        self.everything(core, cast)
    }
}

/// What an event found.
#[derive(Debug, Default)]
struct Before {
    key: Option<crate::shadow::Key>,
    /// How many tasks had not ended.
    open: u64,
    /// Whether some are to be a part of a task that was cancelled.
    under_cancelled: bool,
    shade: Option<crate::shadow::Shade>,
    /// Whether it is cancelled with what it comes after, which may be forgotten with the same step.
    doomed: bool,
    /// Whether a budget of its own, or of a task above it, is used up.
    used_up: bool,
    schedule: Option<crate::shadow::Recurring>,
    /// Whether there is a project to have a budget.
    project: bool,
    /// The stream that a worker had.
    connection: Option<u64>,
    epoch: u64,
    acked: u64,
    /// A report came on the worker's open stream.
    current: bool,
    /// It is the next one.
    fresh: bool,
    /// Its attempt is held by this worker.
    held: bool,
}

fn answered_done(step: &Step) -> bool {
    use orchestra_core::{Message, Reply};
    let mut messages = step.messages.iter();
    messages.any(|message| {
        matches!(
            message,
            Message::Reply {
                reply: Reply::Done(_),
                ..
            }
        )
    })
}
