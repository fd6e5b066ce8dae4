//! Schedules: each run is made once, when it is due, and never two at a time.

use orchestra_core::{Core, Reply, ScheduleChange, ScheduleRow, SubmitRefused};
use orchestra_types::{Recurrence, ScheduleId, TaskId};

use super::{Before, Judge};
use crate::{
    cover::Point,
    event::{Ask, Event},
    plan::DAY_MS,
    rule::{Checked, hold},
    shadow::{At, Recurring, bit},
};

/// How long a run waits that found the queue full.
const FULL_MS: u64 = 60_000;

/// What the judge remembers of schedules.
#[derive(Debug, Default)]
pub(super) struct Runs {
    /// Runs of this step, each with its schedule.
    made: Vec<(TaskId, ScheduleId)>,
    /// Until when by the wall clock a schedule may make none, because the queue was full.
    full: Vec<(ScheduleId, u64)>,
}

impl Judge {
    /// A start forgets who found the queue full.
    pub(super) fn forget_runs(&mut self) {
        self.runs = Runs::default();
    }

    /// Before a step.
    pub(super) fn note_runs(&mut self) {
        self.runs.made.clear();
        let now = self.wall();
        let mut full = std::mem::take(&mut self.runs.full);
        for (_, until) in &mut full {
            *until = self.shifted(*until);
        }
        full.retain(|(_, until)| *until > now);
        self.runs.full = full;
        self.excuse_full();
    }

    /// Who is due while the queue is full may wait.
    fn excuse_full(&mut self) {
        if self.open() < self.config.queue_max {
            return;
        }
        let due = self.shadow.schedules.iter().filter(|s| self.is_due(s));
        let due: Vec<ScheduleId> = due.map(|schedule| schedule.id).collect();
        for id in due {
            if self.full_until(id).is_none() {
                self.cover.hit(Point::RunPaused);
                self.runs.full.push((id, self.wall() + FULL_MS));
            }
        }
    }

    fn full_until(&self, id: ScheduleId) -> Option<u64> {
        let mut full = self.runs.full.iter();
        full.find(|(known, _)| *known == id)
            .map(|(_, until)| *until)
    }

    fn is_due(&self, schedule: &Recurring) -> bool {
        !schedule.paused && schedule.next <= self.wall() && !self.runs_still(schedule)
    }

    /// Whether its latest run has not ended.
    fn runs_still(&self, schedule: &Recurring) -> bool {
        schedule
            .last
            .is_some_and(|last| match self.shadow.task(last).at {
                At::Nowhere | At::Ended(_) => false,
                At::Blocked
                | At::Queued { .. }
                | At::Assigned { .. }
                | At::Running { .. }
                | At::Closing { .. } => true,
            })
    }

    /// A task that is made by a schedule.
    pub(super) fn run_made(&mut self, id: TaskId, schedule: ScheduleId) -> Checked {
        let known = self.shadow.schedule(schedule);
        let Some(known) = known else {
            hold!(
                Schedules,
                false,
                "{id} is a run of {schedule}, which is not"
            );
            return Ok(());
        };
        hold!(
            Schedules,
            !known.paused,
            "{id} is a run of {schedule}, paused"
        );
        let due = known.next <= self.wall();
        hold!(Schedules, due, "{id} is due at {}", known.next);
        let still = self.runs_still(&known);
        hold!(
            Schedules,
            !still,
            "{id} comes, and {:?} has not ended",
            known.last
        );
        let twice = self.runs.made.iter().any(|(_, of)| *of == schedule);
        hold!(Schedules, !twice, "{schedule} makes two runs at once");
        let late = self.wall() - known.next >= known.period();
        self.cover.hit(match (late, known.every) {
            (true, _) => Point::RunLate,
            (false, Recurrence::Every(_)) => Point::Run,
            (false, Recurrence::Daily { .. }) => Point::DailyRun,
        });
        self.runs.made.push((id, schedule));
        // There was room after all.
        self.runs.full.retain(|(known, _)| *known != schedule);
        Ok(())
    }

    /// Whether a task is a run that was made in this step.
    pub(super) fn is_run(&self, id: TaskId) -> bool {
        self.runs.made.iter().any(|(run, _)| *run == id)
    }

    /// A schedule is written: it is new, a person changed it, or it made a run.
    pub(super) fn recurs(&mut self, event: &Event, row: &ScheduleRow) -> Checked {
        let new = Recurring::of(row);
        let Some(old) = self.shadow.schedule(row.id) else {
            let first_time = Some(row.id) > self.shadow.last_schedule;
            hold!(Schedules, first_time, "{} was given before", row.id);
            return self.is_asked_for(event, &new);
        };
        let mut runs = self.runs.made.iter().rev();
        let run = runs
            .find(|(_, schedule)| *schedule == row.id)
            .map(|(run, _)| *run);
        if new.runs != old.runs {
            let counted = new.runs == old.runs + 1 && new.last == run && run.is_some();
            hold!(Schedules, counted, "{new:?} follows {old:?}");
            return self.goes_on(&old, &new);
        }
        let change = match event {
            Event::Asked {
                ask: Ask::ChangeSchedule(id, change),
                ..
            } if *id == row.id => Some(*change),
            _ => None,
        };
        let right = match change {
            Some(ScheduleChange::Pause) => {
                new == Recurring {
                    paused: true,
                    ..old
                }
            }
            Some(ScheduleChange::Resume) => {
                let right = old.paused && !new.paused && new.last == old.last;
                hold!(Schedules, right, "{new:?} follows {old:?}");
                return self.goes_on(&old, &new);
            }
            None if self.is_set_back() => {
                let same = Recurring {
                    next: new.next,
                    ..old
                };
                return self.goes_on(&old, &new).and_then(|()| {
                    hold!(Schedules, new == same, "{new:?} follows {old:?}");
                    Ok(())
                });
            }
            Some(ScheduleChange::Delete) | None => false,
        };
        hold!(Schedules, right, "{new:?} follows {old:?} by {event:?}");
        Ok(())
    }

    /// The next run is the first one on the grid that is still to come.
    fn goes_on(&self, old: &Recurring, new: &Recurring) -> Checked {
        let to_come = new.next > self.wall() && new.every == old.every;
        let first = old.has_slot(new.next, old.next) && new.next <= self.wall() + old.period();
        let right = to_come && (new.next == old.next || first);
        hold!(Schedules, right, "at {}: {new:?} follows {old:?}", self.now);
        Ok(())
    }

    fn is_asked_for(&self, event: &Event, new: &Recurring) -> Checked {
        let right = match event {
            Event::Asked {
                ask: Ask::Recur {
                    key, every, first, ..
                },
                ..
            } => {
                let same = (new.key, new.every) == (*key, *every);
                let next = match (first, every) {
                    (Some(first), _) => new.next == first.0,
                    (None, Recurrence::Every(_)) => new.next == self.wall(),
                    (None, Recurrence::Daily { .. }) => {
                        let to_come = self.wall() + 1..=self.wall() + DAY_MS;
                        to_come.contains(&new.next) && new.has_slot(new.next, self.wall())
                    }
                };
                same && next && !new.paused && new.runs == 0 && new.last.is_none()
            }
            _ => false,
        };
        hold!(Schedules, right, "{new:?} follows from {event:?}");
        Ok(())
    }

    /// A schedule is gone because a person wants it.
    pub(super) fn unscheduled(&self, event: &Event, id: ScheduleId) -> Checked {
        let wanted = matches!(
            event,
            Event::Asked { ask: Ask::ChangeSchedule(asked, ScheduleChange::Delete), .. } if *asked == id
        );
        hold!(Schedules, wanted, "{id} is gone by {event:?}");
        Ok(())
    }

    /// Whether the runs of a schedule come after a task or are a part of it.
    pub(super) fn runs_need(&self, id: TaskId) -> bool {
        let mut schedules = self.shadow.schedules.iter();
        schedules.any(|schedule| schedule.needs & bit(id) != 0)
    }

    /// What is answered to who asks for or about a schedule.
    pub(super) fn schedule_reply(&self, ask: &Ask, reply: &Reply, found: &Before) -> (bool, Point) {
        let before = found.schedule;
        match (ask, reply) {
            (Ask::Recur { key, .. }, Reply::Scheduled { ids, duplicate }) => {
                let mut known = self.shadow.schedules.iter();
                let known = known.find(|known| known.key == *key).map(|known| known.id);
                let right = ids.len() == 1 && ids.first().copied() == known;
                let point = if *duplicate {
                    Point::RecursAgain
                } else {
                    Point::Recurs
                };
                let grew = found.under_cancelled && !*duplicate;
                (right && before.is_some() == *duplicate && !grew, point)
            }
            (Ask::Recur { want, .. }, Reply::SubmitRefused(refused)) => {
                let right = match refused {
                    SubmitRefused::UnknownTask { after, .. } => {
                        self.shadow.task(*after).at == At::Nowhere
                    }
                    SubmitRefused::UnknownParent { .. } => want
                        .parent
                        .is_some_and(|parent| self.shadow.task(parent).at == At::Nowhere),
                    SubmitRefused::CancelledParent { parent, .. } => {
                        let now = self.shadow.task(*parent).is_cancelled();
                        want.parent == Some(*parent) && (found.under_cancelled || now)
                    }
                    _ => false,
                };
                (right && before.is_none(), Point::RecurRefused)
            }
            (Ask::ChangeSchedule(id, _), Reply::ScheduleDone(done)) => {
                (id == done && before.is_some(), Point::RecurChanged)
            }
            (Ask::ChangeSchedule(..), Reply::NoSchedule(_)) => {
                (before.is_none(), Point::NoSchedule)
            }
            (_, _) => (false, Point::NoSchedule),
        }
    }

    /// After each step: each run moved its schedule on, and none is due that could be made.
    pub(super) fn schedules(&mut self, core: &Core) -> Checked {
        for (run, schedule) in &self.runs.made {
            let known = self.shadow.schedule(*schedule);
            let noted = known.is_none_or(|known| known.last == Some(*run));
            hold!(Schedules, noted, "{schedule} does not know of {run}");
        }
        self.excuse_full();
        for schedule in &self.shadow.schedules {
            if schedule.next <= self.wall() && self.runs_still(schedule) {
                self.cover.hit(Point::RunWaits);
            }
            let excused = self.full_until(schedule.id).is_some();
            let far = self.wall() + 2 * schedule.period();
            let early = self.is_set_back() && schedule.runs > 0 && schedule.next > far;
            hold!(Schedules, !early, "at {}: {schedule:?}", self.now);
            let missed = self.is_due(schedule) && !excused;
            hold!(Schedules, !missed, "no run at {}: {schedule:?}", self.now);
        }
        self.same_schedules(core)
    }

    /// After a start by a clock that is behind the one before: who would wait for that one to be reached again
    /// goes on by this one.
    pub(super) fn schedules_from_start(&mut self, core: &Core) -> Checked {
        for new in core.schedules().map(Recurring::of) {
            let Some(old) = self.shadow.schedule(new.id) else {
                continue;
            };
            let far = old.runs > 0 && old.next > self.wall() + 2 * old.period();
            let by_clock = old.created_at <= self.wall();
            if far && by_clock {
                let same = Recurring {
                    next: new.next,
                    ..old
                };
                let soon = new.next <= self.wall() + old.period();
                hold!(
                    Schedules,
                    new == same && soon,
                    "{new:?} follows {old:?} at a start"
                );
                self.goes_on(&old, &new)?;
                self.shadow.set_schedule(new);
                self.cover.hit(Point::ScheduleFromStart);
            }
        }
        Ok(())
    }

    pub(super) fn same_schedules(&self, core: &Core) -> Checked {
        let mut rows = core.schedules().map(Recurring::of);
        let same = rows.all(|row| self.shadow.schedule(row.id) == Some(row));
        let same = same && core.schedules().count() == self.shadow.schedules.len();
        hold!(Memory, same, "schedules are {:?}", self.shadow.schedules);
        Ok(())
    }

    /// When runs are due.
    pub(super) fn runs_due(&self) -> impl Iterator<Item = u64> {
        let waits = |s: &&Recurring| !s.paused && !self.runs_still(s);
        let due = self.shadow.schedules.iter().filter(waits);
        due.map(|s| self.steady(s.next.max(self.full_until(s.id).unwrap_or(0))))
    }
}
