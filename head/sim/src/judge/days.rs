//! What the project has used today, and what follows where its budget of the day is used up.

use orchestra_core::{Config, Core};
use orchestra_types::{TaskId, Timestamp};

use super::{Before, Judge};
use crate::{
    cast::{PROJECT, WORKERS_MAX},
    cover::Point,
    event::{Amount, Ask, Event},
    plan::DAY_MS,
    rule::{Checked, hold},
    shadow::{At, Day, Shade, bit},
};

/// What an attempt uses of its project's day.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OfDay {
    /// What is known to be used so far.
    used: u64,
    /// What of it was used on earlier days.
    before: u64,
    /// Whether the budget of the day ends it.
    pub stopped: bool,
}

impl OfDay {
    /// Of what it has used so much was counted before.
    pub fn counted(used: u64) -> Self {
        Self {
            used,
            before: used,
            stopped: false,
        }
    }

    /// It has used so much in all.
    pub fn read(&mut self, used: u64) {
        self.used = self.used.max(used);
    }

    fn today(self) -> u64 {
        self.used - self.before
    }
}

/// What the judge counts by itself.
#[derive(Debug)]
pub(super) struct Today {
    number: u64,
    /// Tokens of a day, as configured; 0 is no limit.
    configured: u64,
    set: Option<u64>,
    added: u64,
    spent: u64,
    attempts: u32,
    /// Whether the head remembers the project for its configured budget, though all its tasks may
    /// be forgotten.
    remembered: bool,
    /// Tasks that wait for the next day, as a set, and those that waited for this one.
    waits: u64,
    waited: u64,
}

impl Today {
    pub fn of(config: &Config) -> Self {
        let configured = config.budgets.get(PROJECT).and_then(|b| b.tokens);
        let configured = configured.unwrap_or(0);
        Self {
            number: 0,
            configured,
            set: None,
            added: 0,
            spent: 0,
            attempts: 0,
            remembered: false,
            waits: 0,
            waited: 0,
        }
    }

    /// Of each day; 0 is no limit.
    fn daily(&self) -> u64 {
        self.set.unwrap_or(self.configured)
    }

    /// With what was added; 0 is no limit.
    fn limit(&self) -> u64 {
        self.daily() + self.added
    }

    /// As a row has it.
    fn counted(&self) -> Day {
        Day {
            number: self.number,
            set: self.set,
            added: self.added,
            spent: self.spent,
            attempts: self.attempts,
        }
    }

    /// Whether this is what was written: of an earlier day only what was set holds on.
    fn is_as(&self, written: Option<Day>) -> bool {
        let counted = self.counted();
        let nothing_yet = Day {
            number: self.number,
            set: written.and_then(|day| day.set),
            added: 0,
            spent: 0,
            attempts: 0,
        };
        let of_today = written.filter(|day| day.number == self.number);
        counted == of_today.unwrap_or(nothing_yet)
    }

    /// So much more was used than was known when an attempt was given up.
    pub fn pay_late(&mut self, more: u64) {
        self.spent += more;
    }

    /// An attempt has ended and used so much in all.
    pub fn pay(&mut self, mut run: OfDay, used: u64, charged: u32) {
        run.read(used);
        self.spent += run.today();
        self.attempts += charged;
    }
}

impl Judge {
    /// A start knows what was written, and not what runs has used.
    pub(super) fn restore_day(&mut self) {
        let written = self.shadow.day;
        let today = self.now / DAY_MS;
        // A clock that was set back over midnight does not bring a day again.
        let ahead = written.is_some_and(|day| day.number == today + 1);
        self.today = Today {
            number: today + u64::from(ahead),
            ..Today::of(&self.config)
        };
        self.today.remembered = self.today.configured > 0 && self.knows_project();
        let Some(day) = written else { return };
        self.today.set = day.set;
        if day.number == self.today.number {
            (self.today.spent, self.today.attempts) = (day.spent, day.attempts);
            self.today.added = day.added;
        }
    }

    /// Before each step.
    pub(super) fn begin_day(&mut self) {
        let today = self.wall() / DAY_MS;
        if today == self.today.number || today + 1 == self.today.number {
            return;
        }
        let first = self.today.number == 0;
        self.today.waited = std::mem::take(&mut self.today.waits);
        self.today.number = today;
        (self.today.spent, self.today.attempts, self.today.added) = (0, 0, 0);
        for run in &mut self.money.runs {
            run.day.before = run.day.used;
            run.day.stopped = false;
            if !first && run.day.used > 0 {
                self.cover.hit(Point::DayBeginsInRun);
            }
        }
        if !first {
            self.cover.hit(Point::DayBegins);
        }
    }

    /// A task is started.
    pub(super) fn starts_on(&mut self, id: TaskId) {
        if self.today.waited & bit(id) != 0 {
            self.today.waited &= !bit(id);
            self.cover.hit(Point::DayFrees);
        }
    }

    /// Whether there is a project to have a budget.
    pub(super) fn knows_project(&self) -> bool {
        let mut tasks = self.shadow.tasks();
        let wanted = |day: Day| day.set.is_some() || self.today.configured > 0;
        self.shadow.day.is_some_and(wanted)
            || self.today.remembered
            || tasks.any(|(_, shade)| shade.project)
    }

    /// The head remembers a project with a budget for its first task, also one that is forgotten in the
    /// same step.
    pub(super) fn remember_project(&mut self, shade: &Shade) {
        self.today.remembered |= self.today.configured > 0 && shade.project;
    }

    /// What a person says about the day.
    pub(super) fn note_day(&mut self, event: &Event, before: &Before) {
        let Event::Asked {
            ask: Ask::Day(amount, _),
            ..
        } = event
        else {
            return;
        };
        if !before.project {
            return;
        }
        self.refused = amount.adds() && self.today.limit() == 0;
        if self.refused {
            return;
        }
        if self.used_today() > 0 && self.today.limit() == 0 {
            self.cover.hit(Point::DayLimitedLate);
        }
        let today = &mut self.today;
        match amount {
            Amount::Add(tokens) => today.added += tokens,
            Amount::Set(tokens) => today.set = Some(*tokens),
            Amount::Lift => (today.set, today.added) = (Some(0), 0),
        }
        for run in &mut self.money.runs {
            run.day.stopped = false;
        }
    }

    fn used_today(&self) -> u64 {
        let runs = self.money.runs.iter().map(|run| run.day.today());
        self.today.spent + runs.sum::<u64>()
    }

    /// Whether nothing of the project may start today.
    pub(super) fn day_is_over(&self) -> bool {
        let limit = self.today.limit();
        limit > 0 && self.used_today() >= limit
    }

    /// After each step, what is written and shown is what was used today.
    pub(super) fn day(&mut self, core: &Core) -> Checked {
        if self.day_is_over() {
            let tasks = self.shadow.tasks();
            let waiting = tasks.filter(|(_, s)| s.project && matches!(s.at, At::Queued { .. }));
            self.today.waits = waiting.fold(0, |set, (id, _)| set | bit(id));
        }
        let (counted, written) = (self.today.counted(), self.shadow.day);
        hold!(
            Budgets,
            self.today.is_as(written),
            "the project used {counted:?}, written is {written:?}"
        );
        let shown = core.project_budgets(Timestamp(self.now)).into_iter().next();
        let shown = shown.map(|view| (view.today.tokens.unwrap_or(0), view.spent.tokens));
        let counted = (self.today.limit(), self.used_today());
        let unknown = counted == (0, 0) || !self.knows_project();
        let right = shown.map_or(unknown, |shown| shown == counted);
        hold!(Budgets, right, "shown is {shown:?}, not {counted:?}");
        Ok(())
    }

    /// When the day ends for which something waits that could begin.
    pub(super) fn midnight_due(&self) -> Option<u64> {
        if !self.assigning || !self.day_is_over() {
            return None;
        }
        let load = self.load();
        let waits = self.shadow.tasks().any(|(id, shade)| {
            let ready =
                matches!(shade.at, At::Queued { not_before, .. } if not_before <= self.wall());
            let by_day = shade.project && self.used_up_by_tasks(id, shade).is_none();
            let begins = |worker| self.could_begin(shade, worker, &load).is_some();
            ready && by_day && (0..WORKERS_MAX).any(begins)
        });
        waits.then(|| self.steady((self.today.number + 1) * DAY_MS))
    }
}
