//! Recurring tasks: a schedule is a durable template from which runs are made.
//!
//! A run is a task like any other, with an id of its own. There is one at a time: a run that is
//! due while the last one has not ended is made when it ends. What was missed meanwhile, or while
//! the head was away, is one run.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use orchestra_types::{Recurrence, ScheduleId, ShellCommand, TaskId, TaskSpec, Timestamp, limits};

use crate::{
    Core, RequestId, Step,
    calendar::SetBack,
    change::Change,
    input::{NewTask, ScheduleChange},
    message::{Message, Reply, SubmitRefused},
};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// How long a run waits that found the queue full.
const QUEUE_FULL_PAUSE: Duration = Duration::from_secs(60);

/// A recurring task to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSchedule {
    /// What each run is.
    pub spec: TaskSpec,
    /// When they come.
    pub every: Recurrence,
    /// When the first one comes; by the rule when none is named.
    pub first: Option<Timestamp>,
}

/// A schedule, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleRow {
    /// Which.
    pub id: ScheduleId,
    /// The key of the request that made it.
    pub key: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// What each run is.
    pub spec: Box<TaskSpec>,
    /// When they come.
    pub every: Recurrence,
    /// When the next one is due, or was when it could not be made yet.
    pub next: Timestamp,
    /// Whether a person has stopped it for now.
    pub paused: bool,
    /// The latest run.
    pub last: Option<TaskId>,
    /// How many runs were made.
    pub runs: u64,
}

impl ScheduleRow {
    /// When the next run is due once the wall clock was set back to this. A moment that a person has
    /// named for the first run stays.
    fn next_after(&self, wall: Timestamp) -> Timestamp {
        let (period, named) = match self.every {
            Recurrence::Every(every) => (every, true),
            Recurrence::Daily { .. } => (DAY, self.next.since(self.created_at) > DAY),
        };
        if self.runs == 0 && named {
            return self.next;
        }
        if self.next.since(wall) <= period.saturating_mul(2) || mutated!(RunsLag) {
            return self.next;
        }
        self.every.next(self.next, wall)
    }

    /// As it goes on after a start at this time. The clock may have been ahead before, and have made a run by
    /// that. One that shows a time from before the schedule itself is wrong now.
    pub(crate) fn resumed(self, wall: Timestamp) -> Self {
        let next = match wall < self.created_at || mutated!(RunsLagFromStart) {
            true => self.next,
            false => self.next_after(wall),
        };
        Self { next, ..self }
    }
}

/// All schedules.
#[derive(Debug, Default)]
pub(crate) struct Schedules {
    rows: BTreeMap<ScheduleId, ScheduleRow>,
    /// Those whose time is to come.
    timers: BTreeSet<(Timestamp, ScheduleId)>,
    /// Those that are due when a run has ended.
    waiting: BTreeMap<TaskId, ScheduleId>,
    last_id: u64,
}

impl Schedules {
    /// Takes in what is durable, or new.
    pub fn insert(&mut self, row: ScheduleRow) {
        self.last_id = self.last_id.max(row.id.0);
        if !row.paused {
            self.timers.insert((row.next, row.id));
        }
        self.rows.insert(row.id, row);
    }

    /// Ids up to this one were given, also those whose rows are gone.
    pub fn given(&mut self, last: ScheduleId) {
        self.last_id = self.last_id.max(last.0);
    }

    /// When the next run is due.
    pub fn next(&self) -> Option<Timestamp> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// A task has ended: who waited for it is due at once.
    pub fn on_end(&mut self, now: Timestamp, task: TaskId) {
        if let Some(id) = self.waiting.remove(&task)
            && !mutated!(RunWaitsForEver)
        {
            // Its moment is to come again where the wall clock was set back since.
            let next = self.rows.get(&id).map_or(now, |row| row.next);
            self.timers.insert((now.max(next), id));
        }
    }

    /// All of them.
    pub fn rows(&self) -> impl Iterator<Item = &ScheduleRow> {
        self.rows.values()
    }

    fn of_key(&self, key: &str) -> Vec<ScheduleId> {
        let rows = self.rows.values().filter(|row| row.key == key);
        rows.map(|row| row.id).collect()
    }

    fn stop(&mut self, id: ScheduleId) {
        self.timers.retain(|(_, known)| *known != id);
        self.waiting.retain(|_, known| *known != id);
    }
}

impl Core {
    pub(crate) fn on_schedule(
        &mut self,
        now: Timestamp,
        request: RequestId,
        key: &str,
        new: Vec<NewSchedule>,
        step: &mut Step,
    ) {
        let known = self.schedules.of_key(key);
        let reply = if !known.is_empty() {
            Reply::Scheduled {
                ids: known,
                duplicate: true,
            }
        } else if let Some(refused) = self.schedule_refusal(&new) {
            Reply::SubmitRefused(refused)
        } else {
            let add = new
                .into_iter()
                .map(|new| self.add_schedule(now, key, new, step));
            Reply::Scheduled {
                ids: add.collect(),
                duplicate: false,
            }
        };
        step.messages.push(Message::Reply { request, reply });
    }

    fn schedule_refusal(&self, new: &[NewSchedule]) -> Option<SubmitRefused> {
        if new.is_empty() {
            return Some(SubmitRefused::Empty);
        }
        if self.schedules.rows.len() + new.len() > limits::SCHEDULES_MAX {
            return Some(SubmitRefused::TooManySchedules {
                limit: limits::SCHEDULES_MAX,
            });
        }
        let kept = self
            .schedules
            .rows
            .values()
            .map(|row| text_bytes(&row.spec));
        let more = new.iter().map(|new| text_bytes(&new.spec));
        let limit = self.config.room.schedule_bytes;
        if kept.chain(more).sum::<usize>() > limit {
            return Some(SubmitRefused::TooMuchText { limit });
        }
        let each = new.iter().enumerate();
        let mut refused = each.filter_map(|(index, new)| {
            let task = NewTask {
                spec: Box::new(new.spec.clone()),
                after_index: Vec::new(),
            };
            self.task_refusal(index, &task, 1)
        });
        refused.next()
    }

    fn add_schedule(
        &mut self,
        now: Timestamp,
        key: &str,
        new: NewSchedule,
        step: &mut Step,
    ) -> ScheduleId {
        let wall = self.calendar.wall(now);
        let by_rule = match new.every {
            Recurrence::Every(_) => wall,
            Recurrence::Daily { .. } if mutated!(DailyAtOnce) => wall,
            Recurrence::Daily { .. } => new.every.next(wall, wall),
        };
        let id = ScheduleId(self.schedules.last_id + 1);
        let row = ScheduleRow {
            id,
            key: key.to_owned(),
            created_at: now,
            spec: Box::new(TaskSpec {
                schedule: Some(id),
                start_at: None,
                ..new.spec
            }),
            every: new.every,
            next: new.first.unwrap_or(by_rule),
            paused: false,
            last: None,
            runs: 0,
        };
        step.changes.push(Change::Schedule(Box::new(row.clone())));
        self.finished.need_for_runs(&row.spec);
        self.schedules.insert(row);
        id
    }

    pub(crate) fn on_schedule_change(
        &mut self,
        now: Timestamp,
        request: RequestId,
        id: ScheduleId,
        change: ScheduleChange,
        step: &mut Step,
    ) {
        let reply = match self.schedules.rows.get_mut(&id) {
            None => Reply::NoSchedule(id),
            Some(row) => {
                let paused = row.paused;
                match change {
                    ScheduleChange::Pause if !paused => self.pause(id, step),
                    ScheduleChange::Resume if paused => self.resume(now, id, step),
                    ScheduleChange::Pause | ScheduleChange::Resume => {}
                    ScheduleChange::Delete => {
                        self.finished.release_of_runs(&row.spec);
                        self.schedules.stop(id);
                        self.schedules.rows.remove(&id);
                        step.changes.push(Change::ForgetSchedule { id });
                        if id.0 == self.schedules.last_id {
                            step.changes.push(Change::ScheduleIds { last: id });
                        }
                    }
                }
                Reply::ScheduleDone(id)
            }
        };
        step.messages.push(Message::Reply { request, reply });
    }

    fn pause(&mut self, id: ScheduleId, step: &mut Step) {
        if !mutated!(PausedRuns) {
            self.schedules.stop(id);
        }
        self.change_schedule(id, step, |row| row.paused = true);
    }

    /// What would have been due meanwhile is left out.
    fn resume(&mut self, now: Timestamp, id: ScheduleId, step: &mut Step) {
        let wall = self.wall(now);
        self.change_schedule(id, step, |row| {
            row.paused = false;
            row.next = if row.next > wall || mutated!(PausedRunsAreMade) {
                row.next
            } else {
                row.every.next(row.next, wall)
            };
        });
        if let Some(row) = self.schedules.rows.get(&id) {
            self.schedules.timers.insert((row.next, id));
        }
    }

    fn change_schedule(
        &mut self,
        id: ScheduleId,
        step: &mut Step,
        change: impl FnOnce(&mut ScheduleRow),
    ) {
        if let Some(row) = self.schedules.rows.get_mut(&id) {
            change(row);
            step.changes.push(Change::Schedule(Box::new(row.clone())));
        }
    }

    /// Makes the runs that are due.
    pub(crate) fn run_schedules(&mut self, now: Timestamp, step: &mut Step) {
        let wall = self.wall(now);
        while let Some((at, id)) = self.schedules.timers.first().copied() {
            if at > wall {
                return;
            }
            self.schedules.timers.pop_first();
            self.run_schedule(now, id, step);
        }
    }

    /// The wall clock was set back. What it has made by the later clock it does not make again by this
    /// one, but it does not wait for long until the clock is there again either.
    pub(crate) fn set_schedules_back(&mut self, back: SetBack, step: &mut Step) {
        let early = self.schedules.rows.values().filter_map(|row| {
            let next = row.next_after(back.wall);
            (next != row.next).then_some((row.id, next))
        });
        let early: Vec<(ScheduleId, Timestamp)> = early.collect();
        let timers = std::mem::take(&mut self.schedules.timers);
        self.schedules.timers = timers
            .into_iter()
            .map(|(at, id)| match self.schedules.rows.get(&id) {
                Some(row) if row.next == at => (row.next_after(back.wall), id),
                // A run that found the queue full, or waited for another one.
                Some(row) => (back.shift(at).max(row.next_after(back.wall)), id),
                None => (back.shift(at), id),
            })
            .collect();
        for (id, next) in early {
            self.change_schedule(id, step, |row| row.next = next);
        }
    }

    fn run_schedule(&mut self, now: Timestamp, id: ScheduleId, step: &mut Step) {
        let wall = self.wall(now);
        let Some(row) = self.schedules.rows.get(&id) else {
            return;
        };
        let open = |task: &TaskId| self.tasks.get(task).is_some_and(|t| !t.status().is_ended());
        if let Some(last) = row.last.filter(open)
            && !mutated!(RunsOverlap)
        {
            self.schedules.waiting.insert(last, id);
            return;
        }
        if self.counts.open() >= self.config.queue_max {
            let later = wall.plus(QUEUE_FULL_PAUSE);
            if !mutated!(FullQueueEndsRuns) {
                self.schedules.timers.insert((later, id));
            }
            return;
        }
        let key = format!("{id}-{}-{}", row.created_at.0, row.runs + 1);
        let mut spec = row.spec.clone();
        // Nothing waits for what was forgotten before schedules kept what they need.
        spec.after.retain(|id| self.tasks.contains_key(id));
        spec.parent = spec.parent.filter(|id| self.tasks.contains_key(id));
        let run = NewTask {
            spec,
            after_index: Vec::new(),
        };
        let run = self.accept_run(now, key, run, step);
        self.change_schedule(id, step, |row| {
            row.last = Some(run);
            row.runs += 1;
            row.next = if mutated!(MissedRunsAreMade) {
                row.every.next(row.next, row.next)
            } else {
                row.every.next(row.next, wall)
            };
        });
        if mutated!(RunNotNoted) {
            step.changes.pop();
        }
        if let Some(row) = self.schedules.rows.get(&id) {
            self.schedules.timers.insert((row.next, id));
        }
    }

    /// All schedules.
    pub fn schedules(&self) -> impl Iterator<Item = &ScheduleRow> {
        self.schedules.rows()
    }
}

/// The bytes of the texts of a task that are kept in memory only for recurring ones.
fn text_bytes(spec: &TaskSpec) -> usize {
    let command = match &spec.command {
        Some(ShellCommand::Line(line)) => line.len(),
        Some(ShellCommand::Argv(args)) => args.iter().map(String::len).sum(),
        None => 0,
    };
    spec.description.len() + command
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const MADE: Timestamp = Timestamp(1_780_000_000_000);

    /// A schedule whose next run is due so long after it was made.
    fn schedule(every: Recurrence, runs: u64, next: Duration) -> ScheduleRow {
        ScheduleRow {
            id: ScheduleId(1),
            key: "1".to_owned(),
            created_at: MADE,
            spec: Box::new(TaskSpec::new("do it")),
            every,
            next: MADE.plus(next),
            paused: false,
            last: None,
            runs,
        }
    }

    #[test]
    fn a_start_by_the_right_clock_goes_on_after_one_that_was_ahead() {
        let daily = Recurrence::Daily {
            minute: 360,
            ahead: 0,
        };
        let (hourly, now) = (Recurrence::Every(HOUR), MADE.plus(10 * HOUR));
        let due = |every, runs, next: Duration| schedule(every, runs, next).resumed(now).next;
        for (every, period) in [(hourly, HOUR), (daily, DAY)] {
            let soon = due(every, 3, 40 * DAY);
            assert!(
                soon > now && soon <= now.plus(period),
                "{every:?}: {soon:?}"
            );
            // What a person has named for the first run, and what is not far.
            assert_eq!(due(every, 0, 40 * DAY), MADE.plus(40 * DAY), "{every:?}");
            let near = 10 * HOUR + period;
            assert_eq!(due(every, 3, near), MADE.plus(near), "{every:?}");
        }
        // This clock is wrong.
        let kept = schedule(hourly, 3, 40 * DAY).resumed(Timestamp(1));
        assert_eq!(kept.next, MADE.plus(40 * DAY));
    }
}
