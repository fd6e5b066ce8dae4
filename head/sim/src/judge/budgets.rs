//! What tasks and their subtasks have used, and what follows where a budget is used up.

use orchestra_core::{Core, Message, OutcomeRow, Step};
use orchestra_types::{AttemptId, TaskId, limits};

use super::{
    Judge,
    days::OfDay,
    moves::{Move, met_limit, result},
};
use crate::{
    cast::{Result, Said},
    cover::Point,
    event::{Amount, Ask, Event},
    rule::{Checked, hold},
    shadow::{Purse, Shade},
};

/// Whose budget is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A task's.
    Task(TaskId),
    /// The project's, today.
    Project,
}

/// An attempt that is held.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub attempt: AttemptId,
    /// What is known to be used so far.
    used: u64,
    /// What its worker has said of that since it is held.
    read: u64,
    /// What of it was counted when the attempt was given up, before it was taken back.
    counted: Option<u64>,
    /// Whether it counted as an attempt then.
    charged: bool,
    /// Whether a budget ends it.
    stopped: bool,
    /// The stream on which it was told to end.
    told: Option<u64>,
    /// What it uses of its project's day.
    pub day: OfDay,
}

impl Run {
    /// As nobody has said yet what it has used since it is held.
    fn new(task: TaskId, shade: &Shade) -> Self {
        let counted = shade.counted(shade.attempts);
        Self {
            attempt: AttemptId {
                task,
                number: shade.attempts,
            },
            used: counted.unwrap_or(0),
            read: 0,
            counted,
            charged: shade.is_charged(shade.attempts),
            stopped: false,
            told: None,
            day: counted.map_or(OfDay::default(), |used| {
                OfDay::counted(if shade.project { used } else { 0 })
            }),
        }
    }

    fn uncounted(&self) -> u64 {
        self.used - self.counted.unwrap_or(0)
    }
}

/// What the judge counts by itself.
#[derive(Debug, Default)]
pub(super) struct Money {
    pub runs: Vec<Run>,
    /// Of every task that has used something or whose limit was changed.
    purses: Vec<(TaskId, Purse)>,
    /// What each task's own attempts have used that ended, as its row is to say it.
    own: Vec<(TaskId, (u64, u32))>,
}

impl Money {
    /// A task is forgotten, with what it used.
    pub fn forget(&mut self, id: TaskId) {
        self.purses.retain(|(known, _)| *known != id);
        self.own.retain(|(known, _)| *known != id);
    }

    fn own(&mut self, id: TaskId) -> &mut (u64, u32) {
        let known = self.own.iter().position(|(known, _)| *known == id);
        let place = known.unwrap_or_else(|| {
            self.own.push((id, (0, 0)));
            self.own.len() - 1
        });
        &mut self.own[place].1
    }
}

impl Judge {
    /// A start: what running attempts have used is not known.
    pub(super) fn restore_money(&mut self) {
        let held = self.shadow.tasks().filter(|(_, s)| s.holder().is_some());
        let runs = held.map(|(task, shade)| Run::new(task, shade));
        let used = self.shadow.tasks().filter(|(_, s)| s.used != (0, 0));
        let own: Vec<_> = used.map(|(id, shade)| (id, shade.used)).collect();
        self.money = Money {
            runs: runs.collect(),
            purses: self.shadow.purses.clone(),
            own: own.clone(),
        };
        // Without a row nothing below it has used anything.
        for (id, (spent, attempts)) in own {
            if self.shadow.purse(id).is_none() {
                let purse = self.purse_mut(id);
                (purse.spent, purse.attempts) = (spent, attempts);
            }
        }
        for place in 0..self.money.runs.len() {
            let task = self.money.runs[place].attempt.task;
            let shade = self.shadow.task(task);
            self.money.runs[place].stopped = self.used_up_by_tasks(task, &shade).is_some();
            self.money.runs[place].day.stopped = shade.project && self.day_is_over();
        }
    }

    /// A task and those above it.
    fn line(&self, id: TaskId) -> impl Iterator<Item = TaskId> {
        let line = std::iter::successors(Some(id), |id| self.shadow.task(*id).parent);
        line.take(limits::PARENTS_MAX + 1)
    }

    /// The tasks for whose budgets a task counts, though they may come later: its own, and those
    /// above it.
    fn payers(&self, id: TaskId) -> Vec<TaskId> {
        self.line(id).collect()
    }

    fn purse(&self, id: TaskId) -> Purse {
        let mut known = self.money.purses.iter();
        let known = known
            .find(|(known, _)| *known == id)
            .map(|(_, purse)| *purse);
        known.unwrap_or(Purse {
            limit: self.shadow.task(id).budget,
            ..Purse::default()
        })
    }

    fn purse_mut(&mut self, id: TaskId) -> &mut Purse {
        let purse = self.purse(id);
        let known = self.money.purses.iter().position(|(known, _)| *known == id);
        let place = known.unwrap_or_else(|| {
            self.money.purses.push((id, purse));
            self.money.purses.len() - 1
        });
        &mut self.money.purses[place].1
    }

    /// What was used of a budget, by running attempts too.
    fn used_of(&self, owner: TaskId) -> u64 {
        let runs = self.money.runs.iter();
        let below = runs.filter(|run| self.line(run.attempt.task).any(|id| id == owner));
        self.purse(owner).spent + below.map(Run::uncounted).sum::<u64>()
    }

    /// The budget that keeps a task from being started.
    #[must_use]
    pub fn used_up(&self, id: TaskId, shade: &Shade) -> Option<Owner> {
        let tasks = self.used_up_by_tasks(id, shade).map(Owner::Task);
        tasks.or_else(|| (shade.project && self.day_is_over()).then_some(Owner::Project))
    }

    /// The same among those of tasks.
    pub(super) fn used_up_by_tasks(&self, id: TaskId, shade: &Shade) -> Option<TaskId> {
        if self.money.purses.is_empty() && shade.budget == 0 && shade.parent.is_none() {
            return None;
        }
        self.line(id).find(|owner| {
            let limit = self.purse(*owner).limit;
            limit > 0 && self.used_of(*owner) >= limit
        })
    }

    fn run_of(&self, change: &Move<'_>) -> Option<&Run> {
        let mut runs = self.money.runs.iter();
        runs.find(|run| run.attempt.task == change.id)
    }

    /// Whether an attempt ends because of a budget, and nothing else is to be said of it.
    pub(super) fn is_over(&self, change: &Move<'_>) -> bool {
        let Some(result) = result(change).filter(|_| !change.old.cancel_requested) else {
            return false;
        };
        let run = self.run_of(change);
        let stopped = run.is_some_and(|run| run.stopped || run.day.stopped);
        result == Result::OverBudget || (stopped && result != Result::Good)
    }

    /// What an event says about use.
    pub(super) fn note_use(&mut self, event: &Event) {
        match event {
            Event::Metered {
                connection,
                worker,
                attempt,
                used,
            } => {
                let current = self.seen[usize::from(*worker)].connection == Some(*connection);
                let shade = self.shadow.task(attempt.task);
                let holder = shade.holder().is_some_and(|(holder, _)| holder == *worker);
                if !current || !holder {
                    return;
                }
                self.cover.hit(Point::Metered);
                let mut runs = self.money.runs.iter_mut();
                if let Some(run) = runs.find(|run| run.attempt == *attempt) {
                    run.used = run.used.max(*used);
                    run.read = run.read.max(*used);
                    run.day.read(if shade.project { *used } else { 0 });
                }
            }
            Event::Asked {
                ask: Ask::Limit(id, amount),
                ..
            } => {
                if self.shadow.task(*id).at == crate::shadow::At::Nowhere {
                    return;
                }
                self.refused = amount.adds() && self.purse(*id).limit == 0;
                if self.refused {
                    return;
                }
                self.cover
                    .hit(match self.used_of(*id) > 0 && self.purse(*id).limit == 0 {
                        true => Point::LimitedLate,
                        false => Point::LimitChanged,
                    });
                let purse = self.purse_mut(*id);
                match amount {
                    Amount::Add(tokens) => purse.limit += tokens,
                    Amount::Set(tokens) => purse.limit = *tokens,
                    Amount::Lift => purse.limit = 0,
                }
            }
            _ => {}
        }
    }

    /// A task was given to a worker, or leaves it.
    pub(super) fn count_use(&mut self, change: &Move<'_>) {
        let held = |shade: &Shade| shade.holder().is_some();
        match (held(&change.old), held(&change.new)) {
            (false, true) => self.money.runs.push(Run::new(change.id, &change.new)),
            (true, false) => self.pay(change),
            (true, true) | (false, false) => {}
        }
    }

    fn pay(&mut self, change: &Move<'_>) {
        let given_back = self.is_given_back(change);
        let payers = self.payers(change.id);
        let result = self.result(change);
        let Some(place) = self
            .money
            .runs
            .iter()
            .position(|r| r.attempt.task == change.id)
        else {
            return;
        };
        let run = self.money.runs.swap_remove(place);
        if given_back {
            return;
        }
        let used = match change.event {
            Event::Reported { used, .. } if result.is_some() => *used,
            _ => 0,
        };
        let free = met_limit(change) || self.moves_on(change);
        let free = match result {
            Some(_) => free,
            None => self.is_ahead(change),
        };
        let charged = u32::from(!free && !run.charged);
        let more = run.used.max(used) - run.counted.unwrap_or(0);
        let own = self.money.own(change.id);
        *own = (own.0 + more, own.1 + charged);
        for owner in payers {
            let purse = self.purse_mut(owner);
            purse.spent += more;
            purse.attempts += charged;
        }
        if change.old.project {
            self.today.pay(run.day, used, charged);
        }
    }

    /// The result of an attempt that was given up says what it used in all.
    pub(super) fn pay_late(&mut self, event: &Event, attempt: AttemptId) {
        let used = match event {
            Event::Reported { used, .. } => *used,
            _ => 0,
        };
        let shade = self.shadow.task(attempt.task);
        let counted = shade.counted(attempt.number);
        let more = counted.map_or(0, |counted| used.saturating_sub(counted));
        if more == 0 {
            return;
        }
        self.cover.hit(Point::LateUse);
        self.money.own(attempt.task).0 += more;
        for owner in self.payers(attempt.task) {
            self.purse_mut(owner).spent += more;
        }
        if shade.project {
            self.today.pay_late(more);
        }
    }

    /// What is kept of an attempt's use that is given up: what its worker had told.
    pub(super) fn told_use(&self, event: &Event, row: &OutcomeRow) -> Checked {
        let given_back = matches!(
            event,
            Event::Reported {
                said: Said::GivenBack,
                ..
            }
        );
        let mut runs = self.money.runs.iter();
        let run = runs.find(|run| run.attempt == row.id && !given_back);
        let told = run.map_or(0, |run| run.read);
        let kept = row.reading.as_ref();
        let kept = kept.map_or(0, |reading| reading.usage.output_tokens);
        hold!(
            Budgets,
            kept == told,
            "{} had told {told}, and {kept} is kept",
            row.id
        );
        Ok(())
    }

    /// What is known to be used by a task's attempt that is held.
    pub(super) fn known_use(&self, id: TaskId) -> Option<u64> {
        let mut runs = self.money.runs.iter();
        runs.find(|run| run.attempt.task == id).map(|run| run.used)
    }

    /// After each step: what is written is what was used; what runs under a budget that is used up
    /// is told to end, once on each stream; and what a raise allows goes on.
    pub(super) fn money(&mut self, event: &Event, step: &Step, core: &Core) -> Checked {
        for (id, purse) in &self.money.purses {
            self.one_purse(*id, *purse, core)?;
        }
        for (id, own) in &self.money.own {
            let written = self.shadow.task(*id).used;
            hold!(
                Budgets,
                written == *own,
                "{id} used {own:?} by itself, its row says {written:?}"
            );
        }
        for place in 0..self.money.runs.len() {
            self.ends_in_time(place, step)?;
        }
        if let Event::Asked {
            ask: Ask::Limit(owner, _),
            ..
        } = event
            && !self.refused
        {
            for (id, shade) in self.shadow.tasks() {
                let waits = shade.over_budget && shade.is_in_review();
                let below = waits && self.used_up_by_tasks(id, shade).is_none();
                let raised = self.payers(id).contains(owner);
                hold!(
                    Budgets,
                    !(below && raised),
                    "{id} does not go on after a raise"
                );
            }
        }
        Ok(())
    }

    fn one_purse(&self, id: TaskId, purse: Purse, core: &Core) -> Checked {
        // Without a row a start takes what the task used by itself, and its first limit.
        let shade = self.shadow.task(id);
        let written = self.shadow.purse(id).unwrap_or(Purse {
            limit: shade.budget,
            spent: shade.used.0,
            attempts: shade.used.1,
        });
        hold!(
            Budgets,
            written == purse,
            "{id} used {purse:?}, written is {written:?}"
        );
        let view = core.budget(id);
        let view = view.map(|(b, s)| (b.tokens.unwrap_or(0), s.tokens));
        let right = view == Some((purse.limit, self.used_of(id)));
        hold!(Budgets, right, "{id} shows {view:?}, not {purse:?}");
        Ok(())
    }

    fn ends_in_time(&mut self, place: usize, step: &Step) -> Checked {
        let run = self.money.runs[place];
        let shade = self.shadow.task(run.attempt.task);
        let Some((worker, _)) = shade.holder() else {
            return Ok(());
        };
        if self.used_up_by_tasks(run.attempt.task, &shade).is_some() {
            self.money.runs[place].stopped = true;
        }
        if shade.project && self.day_is_over() {
            self.money.runs[place].day.stopped = true;
        }
        let run = self.money.runs[place];
        let connection = self.seen[usize::from(worker)].connection;
        if !(run.stopped || run.day.stopped) || connection.is_none() {
            return Ok(());
        }
        if run.told != connection {
            let mut messages = step.messages.iter();
            let told = messages
                .any(|m| matches!(m, Message::Stop { attempt, .. } if *attempt == run.attempt));
            hold!(Budgets, told, "{} goes on beyond its budget", run.attempt);
            self.cover.hit(match run.told {
                Some(_) => Point::BudgetStopAgain,
                None => Point::BudgetStop,
            });
        }
        self.money.runs[place].told = connection;
        Ok(())
    }

    /// Whether a budget is a reason to end an attempt.
    pub(super) fn is_too_much(&self, attempt: AttemptId) -> bool {
        let shade = self.shadow.task(attempt.task);
        let mut runs = self.money.runs.iter();
        let stopped = runs.any(|run| run.attempt == attempt && (run.stopped || run.day.stopped));
        stopped || self.used_up(attempt.task, &shade).is_some()
    }
}
