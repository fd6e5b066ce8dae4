//! What takes too long: to find a worker, to run, to be heard of.
//!
//! A head that was away cannot tell who was silent meanwhile, and gives everybody time. Whether it
//! was away is not seen from here in every case, so there are two bounds for silence: nobody is
//! called off who was heard of since, and everybody is who was silent while the head was awake.

use orchestra_core::{Core, Held, Message, Step, StopReason};
use orchestra_types::{AttemptId, TaskId};

use super::{Judge, moves::Move};
use crate::{
    cover::Point,
    event::Event,
    rule::{Checked, hold},
    shadow::{At, Shade},
};

/// A moment that passed longer ago was missed because the head was away.
const MISSED_MS: u64 = 1000;

/// The clock of a running attempt, in the head's memory.
#[derive(Clone, Copy, Debug)]
struct Clock {
    attempt: AttemptId,
    /// Since when it has run at the earliest, as the head may count it, and at the latest.
    since: [u64; 2],
    /// The last sign of life.
    active: u64,
    /// The head was away until then, and does not count what was before.
    excused: u64,
    /// Since when the head may know that it takes too long, and since when it surely does.
    late: Option<u64>,
    surely_late: Option<u64>,
    /// Whether it may have been called off for its silence.
    silent: bool,
    /// The stream on which it was told to end because it takes too long.
    told: Option<u64>,
}

/// When a task has waited too long for a worker, whatever the wall clock shows. After an absence of the head workers
/// have the time of a lease to come back.
#[derive(Clone, Copy, Debug)]
struct Wait {
    id: TaskId,
    /// Not before then.
    from: u64,
    /// Surely then.
    by: u64,
    /// Whether a worker that could take it was not back yet since the head was started.
    awaits: bool,
}

impl Wait {
    fn until(id: TaskId, at: u64) -> Self {
        Self {
            id,
            from: at,
            by: at,
            awaits: false,
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    running: Vec<Clock>,
    /// When the core asked to be woken.
    asked: Option<u64>,
    /// When a clock had something to say, at the latest.
    due: Option<u64>,
    waits: Vec<Wait>,
    /// When the head may have noticed last that it was away.
    excused: Option<u64>,
}

impl Judge {
    /// A start: nothing was heard meanwhile, and nothing is held against anybody.
    pub(super) fn restore_clocks(&mut self, core: &Core) {
        let now = self.now;
        let running = self.shadow.tasks().filter(|(_, s)| is_running(s));
        let running = running.map(|(id, shade)| Clock::new(id, shade, now));
        self.clocks = Clocks {
            running: running.collect(),
            asked: core.next_deadline().map(|at| at.0),
            due: None,
            waits: Vec::new(),
            excused: None,
        };
        self.count_waits();
        let back_by = self.lease_from(now);
        for wait in &mut self.clocks.waits {
            wait.from = wait.from.max(back_by);
            wait.by = wait.by.max(back_by);
        }
        self.clocks.due = self.clock_due();
    }

    /// What an event says about who is alive, and the time about whether the head was away.
    pub(super) fn note_sign(&mut self, event: &Event) {
        let now = self.now;
        let missed = |at: Option<u64>| at.is_some_and(|at| now.saturating_sub(at) > MISSED_MS);
        let (maybe, surely) = (missed(self.clocks.asked), missed(self.clocks.due));
        for clock in self.clocks.running.iter_mut().filter(|_| maybe || surely) {
            clock.excused = now;
            clock.surely_late = clock.surely_late.map(|_| now);
            // Who was to end meanwhile has all his time again.
            clock.late = clock.late.map(|late| if surely { now } else { late });
        }
        if maybe || surely {
            self.clocks.excused = Some(now);
        }
        if let Event::Attached { worker, held, .. } = event {
            self.hear_run_times(*worker, held);
        }
        if let Event::Active(attempt) = event {
            let mut clocks = self.clocks.running.iter_mut();
            if let Some(clock) = clocks.find(|clock| clock.attempt == *attempt) {
                clock.active = self.now;
            }
        }
    }

    /// A worker says for how long its agents have run. The head that heard of their start knows that; of what an
    /// earlier one heard, nothing counts that was before, by the same clock. Of one that was taken back,
    /// some may count already.
    fn hear_run_times(&mut self, worker: u8, held: &[Held]) {
        for held in held {
            let shade = self.shadow.task(held.attempt.task);
            let its_own = shade.holder().is_some_and(|(holder, _)| holder == worker);
            let mut clocks = self.clocks.running.iter_mut();
            let clock = clocks.find(|clock| clock.attempt == held.attempt && its_own);
            let (Some(clock), Some(ran)) = (clock, held.running) else {
                continue;
            };
            let ran = u64::try_from(ran.as_millis()).unwrap_or(u64::MAX);
            let told = shade.held_since;
            let bounds = match shade.counted(shade.attempts) {
                None => &mut clock.since[..],
                Some(_) => &mut clock.since[..1],
            };
            for since in bounds {
                let not_before = if told <= *since { told } else { 0 };
                let began = self.now.saturating_sub(ran).max(not_before);
                if began < *since {
                    self.cover.hit(Point::RunTimeHeard);
                    *since = began;
                }
            }
        }
    }

    /// A task begins to run, or no longer runs.
    pub(super) fn count_time(&mut self, change: &Move<'_>) {
        let running = &mut self.clocks.running;
        match (is_running(&change.old), is_running(&change.new)) {
            (false, true) => running.push(Clock::new(change.id, &change.new, self.now)),
            (true, false) => running.retain(|clock| clock.attempt.task != change.id),
            (true, true) | (false, false) => {}
        }
    }

    /// Whether a task may be called back because it did not begin in time.
    pub(super) fn has_waited_long(&self, id: TaskId) -> bool {
        self.wait_of(id).is_some_and(|wait| wait.from <= self.now)
    }

    /// Whether it may be ended for that.
    pub(super) fn waited_too_long(&self, id: TaskId) -> bool {
        let awaits = self.awaits(&self.shadow.task(id));
        self.wait_of(id)
            .is_some_and(|wait| wait.from <= self.now && !(wait.awaits && awaits))
    }

    /// Whether a worker that could take a task was not heard since the head was started, and may be.
    fn awaits(&self, shade: &Shade) -> bool {
        let mut away = (0..self.seen.len()).filter(|worker| !self.seen[*worker].heard);
        away.any(|worker| self.could_do(shade, worker))
    }

    fn wait_of(&self, id: TaskId) -> Option<Wait> {
        self.clocks.waits.iter().find(|wait| wait.id == id).copied()
    }

    /// A wait begins when the task's time comes by the wall clock, and is as long as it is from then on.
    fn count_waits(&mut self) {
        let set = self.set_with_event();
        let excused = self.clocks.excused.filter(|at| *at == self.now);
        let back_by = excused.map(|at| self.lease_from(at));
        let tasks = self.shadow.tasks();
        let waits = tasks.filter_map(|(id, shade)| {
            let (since, limit) = waits_for(shade)?;
            let queued = match shade.at {
                At::Queued { not_before, .. } => not_before,
                // It was in the queue when the clock was set, and was given away with that.
                _ if self.has_moved(id) => shade.waits_since.unwrap_or(0),
                _ => 0,
            };
            let again = set.is_some_and(|earlier| queued > earlier);
            let wait = match self.wait_of(id) {
                Some(_) if again => Wait::until(id, self.steady(queued).max(self.now) + limit),
                Some(known) => known,
                None => Wait::until(id, self.begins_to_wait(queued, since) + limit),
            };
            let awaits = self.awaits(shade);
            let again = (awaits || wait.awaits).then_some(self.now + limit.max(MISSED_MS));
            let by = wait.by.max(back_by.unwrap_or(0)).max(again.unwrap_or(0));
            Some(Wait { by, awaits, ..wait })
        });
        self.clocks.waits = waits.collect();
    }

    /// What was given back and waits for its time to start, by a clock that was set back meanwhile, waits for
    /// a worker from then on.
    pub(super) fn waits_for_start(&mut self, id: TaskId) {
        self.clocks.waits.retain(|wait| wait.id != id);
    }

    /// Since when a task waits for its first attempt stands in its row from its first order on, and until an
    /// attempt has begun, or ended otherwise than by being given back. To be given back makes it no shorter.
    pub(super) fn first_wait(&self, change: &Move<'_>) -> Checked {
        let Move { id, old, new, .. } = change;
        let [wait, _, _] = old.limits;
        let given_back = self.is_given_back(change);
        let since = match (old.at, new.at) {
            (At::Queued { not_before, .. }, At::Assigned { .. }) if old.attempts == 0 => {
                Some(not_before).filter(|_| wait > 0)
            }
            (At::Blocked | At::Ended(_), At::Queued { not_before, .. }) => {
                old.waits_since.map(|_| not_before)
            }
            (At::Assigned { .. }, At::Queued { not_before, .. }) if given_back => {
                let again = not_before > self.wall();
                old.waits_since
                    .map(|since| if again { not_before } else { since })
            }
            (At::Assigned { .. }, at) if at != old.at && !given_back => None,
            _ => old.waits_since,
        };
        let right = new.waits_since == since;
        hold!(
            Clocks,
            right,
            "{id} waits since {:?}, not {since:?}",
            new.waits_since
        );
        Ok(())
    }

    /// A wait does not begin later than now, whatever clock an earlier head had, unless it is for a time to
    /// start.
    fn begins_to_wait(&self, queued: u64, since: u64) -> u64 {
        match self.steady(queued) > self.now {
            true => self.steady(queued),
            false => self.steady(since).min(self.now),
        }
    }

    /// After each step nothing that has waited too long goes on to wait at a worker that is there.
    pub(super) fn nothing_waits_too_long(&self, worker: usize, waiting: &[AttemptId]) -> Checked {
        let late = waiting.iter().find(|attempt| {
            let wait = self.wait_of(attempt.task);
            wait.is_some_and(|wait| wait.by <= self.now)
        });
        let right = late.is_none();
        hold!(Clocks, right, "{late:?} waits too long at {worker}");
        Ok(())
    }

    /// Whether an attempt is given up: its worker did not end it, and is there.
    pub(super) fn is_given_up(&self, change: &Move<'_>) -> bool {
        let holder = change.old.holder().map_or(0, |(holder, _)| holder);
        let attempt = AttemptId {
            task: change.id,
            number: change.old.attempts,
        };
        let disowned = match change.event {
            Event::Attached { worker, held, .. } => {
                *worker == holder && !held.iter().any(|held| held.attempt == attempt)
            }
            _ => false,
        };
        is_running(&change.old)
            && change.new.is_in_review()
            && self.result(change).is_none()
            && self.expired & (1 << holder) == 0
            && !disowned
    }

    pub(super) fn given_up(&mut self, change: &Move<'_>) -> Checked {
        let id = change.id;
        self.cover.hit(Point::GivenUp);
        let recorded = self.recorded(change, false);
        hold!(ResultOnce, recorded, "{id} is given up without a record");
        let mut clocks = self.clocks.running.iter();
        let clock = clocks.find(|clock| clock.attempt.task == id);
        let late = clock.and_then(|clock| clock.late);
        let right = late.is_some_and(|late| late + self.give_up_ms() <= self.now);
        hold!(Clocks, right, "{id} is given up too early: {clock:?}");
        Ok(())
    }

    /// Whether taking too long is a reason to end an attempt.
    pub(super) fn is_too_long(&self, attempt: AttemptId, why: StopReason) -> bool {
        let mut clocks = self.clocks.running.iter();
        let Some(clock) = clocks.find(|clock| clock.attempt == attempt) else {
            return false;
        };
        match why {
            StopReason::Timeout => self.has_run_too_long(clock, clock.since[0]),
            StopReason::Stalled => clock.silent || self.is_silent(clock, clock.active),
            StopReason::Cancelled | StopReason::Budget => false,
        }
    }

    /// After each step nobody waits or runs longer than he may without a word.
    pub(super) fn clocks(&mut self, step: &Step, core: &Core) -> Checked {
        self.clocks.asked = core.next_deadline().map(|at| at.0);
        self.count_waits();
        for (id, shade) in self.shadow.tasks() {
            let late = self.wait_of(id).is_some_and(|wait| wait.by <= self.now);
            let late = late && matches!(shade.at, At::Queued { .. });
            hold!(Clocks, !late, "{id} waits too long");
        }
        for place in 0..self.clocks.running.len() {
            let mut clock = self.clocks.running[place];
            self.clock(&mut clock, step)?;
            self.clocks.running[place] = clock;
        }
        self.clocks.due = self.clock_due();
        Ok(())
    }

    fn clock(&mut self, clock: &mut Clock, step: &Step) -> Checked {
        let attempt = clock.attempt;
        let holder = self.shadow.task(attempt.task).holder();
        let holder = holder.map_or(0, |(holder, _)| usize::from(holder));
        let connection = self.seen[holder].connection;
        let reasons = step.messages.iter().filter_map(|message| match message {
            Message::Stop {
                attempt: a, reason, ..
            } if *a == attempt => Some(*reason),
            _ => None,
        });
        let reasons: Vec<StopReason> = reasons.collect();
        let called_off = reasons.iter().find(|why| match why {
            StopReason::Timeout | StopReason::Stalled => true,
            StopReason::Cancelled | StopReason::Budget => false,
        });
        if let Some(why) = called_off {
            let silent = *why == StopReason::Stalled;
            self.cover.hit(match (clock.told, silent) {
                (Some(_), _) => Point::LateStopAgain,
                (None, true) => Point::Stalled,
                (None, false) => Point::TimedOut,
            });
            clock.silent |= silent;
        }
        let surely = self.has_run_too_long(clock, clock.since[1])
            || self.is_silent(clock, clock.active.max(clock.excused))
            || called_off.is_some();
        // Who is there hears of it at once; of others it is not known whether they are called off.
        let silent = connection.is_none() && self.is_silent(clock, clock.active);
        if surely || silent || self.has_run_too_long(clock, clock.since[0]) {
            clock.late.get_or_insert(self.now);
            clock.silent |= silent;
        }
        if surely {
            clock.surely_late.get_or_insert(self.now);
        }
        if clock.surely_late.is_some() && connection.is_some() {
            let told = clock.told == connection || !reasons.is_empty();
            hold!(Clocks, told, "{attempt} takes too long and is not told");
            clock.told = connection;
        }
        let since = clock.surely_late;
        let over = since.is_some_and(|since| since + self.give_up_ms() <= self.now);
        hold!(Clocks, !over, "{attempt} is not given up");
        Ok(())
    }

    /// When a clock has something to say next.
    pub(super) fn clock_due(&self) -> Option<u64> {
        // Of what is at a worker it is not known whether it was called back, and is still waited for.
        let queued = |wait: &&Wait| matches!(self.shadow.task(wait.id).at, At::Queued { .. });
        let waits = self.clocks.waits.iter().filter(queued);
        let waits = waits.map(|wait| wait.by);
        let runs = self.clocks.running.iter().filter_map(|clock| {
            if let Some(since) = clock.surely_late {
                return Some(since + self.give_up_ms());
            }
            if clock.late.is_some() {
                return None;
            }
            let silent_at = clock.active.max(clock.excused);
            let silent_at = self.silence_of(clock).map(|limit| silent_at + limit);
            [self.runs_until(clock, clock.since[1]), silent_at]
                .into_iter()
                .flatten()
                .min()
        });
        waits.chain(runs).min()
    }

    fn has_run_too_long(&self, clock: &Clock, since: u64) -> bool {
        let until = self.runs_until(clock, since);
        until.is_some_and(|at| at <= self.now)
    }

    fn is_silent(&self, clock: &Clock, since: u64) -> bool {
        let limit = self.silence_of(clock);
        limit.is_some_and(|limit| since + limit <= self.now)
    }

    fn silence_of(&self, clock: &Clock) -> Option<u64> {
        let [_, _, silence] = self.shadow.task(clock.attempt.task).limits;
        (silence > 0).then_some(silence)
    }

    /// When an attempt has run too long that has run since then.
    fn runs_until(&self, clock: &Clock, since: u64) -> Option<u64> {
        let shade = self.shadow.task(clock.attempt.task);
        let [_, run, _] = shade.limits;
        let margin = u64::try_from(self.config.timeout_margin.as_millis()).unwrap_or(0);
        (run > 0).then_some(since + run + margin)
    }

    fn give_up_ms(&self) -> u64 {
        u64::try_from(self.config.give_up_after.as_millis()).unwrap_or(u64::MAX)
    }
}

impl Clock {
    fn new(task: TaskId, shade: &Shade, now: u64) -> Self {
        Self {
            attempt: AttemptId {
                task,
                number: shade.attempts,
            },
            since: [now; 2],
            active: now,
            excused: now,
            late: None,
            surely_late: None,
            silent: false,
            told: None,
        }
    }
}

fn is_running(shade: &Shade) -> bool {
    matches!(shade.at, At::Running { .. })
}

/// From when on a task waits for its first attempt to begin, and how long it may. At a worker it waits
/// as well.
fn waits_for(shade: &Shade) -> Option<(u64, u64)> {
    let [wait, _, _] = shade.limits;
    let since = match shade.at {
        At::Queued { not_before, .. } if shade.attempts == 0 => Some(not_before),
        At::Queued { .. } | At::Assigned { .. } => shade.waits_since,
        _ => None,
    };
    since.filter(|_| wait > 0).map(|since| (since, wait))
}
