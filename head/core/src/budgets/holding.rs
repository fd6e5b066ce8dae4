//! What a budget that is used up keeps from starting: a queued task is held, or a person is asked.

use orchestra_types::{Failure, FailureCode, Limit, TaskId, Timestamp, shell};

use super::{Budgets, Owner};
use crate::{
    Core, Step,
    row::{EndStatus, Ending},
};

impl Budgets {
    /// Why a task of these owners may not be started now.
    pub(super) fn hold(&self, now: Timestamp, owners: &[Owner]) -> Option<Failure> {
        owners.iter().find_map(|owner| {
            let ledger = self.ledger(owner)?;
            let limit = ledger.budget.forbids_start(&ledger.total(now))?;
            Some(self.why(owner, &limit, now))
        })
    }

    /// The owner whose limit has been reached, and which limit.
    fn reached(&self, now: Timestamp, owners: &[Owner]) -> Option<(Owner, Limit)> {
        owners.iter().find_map(|owner| {
            let ledger = self.ledger(owner)?;
            let limit = ledger.budget.reached(&ledger.total(now))?;
            Some((owner.clone(), limit))
        })
    }

    fn why(&self, owner: &Owner, limit: &Limit, now: Timestamp) -> Failure {
        let used = self.ledger(owner).map(|l| l.total(now)).unwrap_or_default();
        let raise = limit.raise();
        match owner {
            Owner::Task(id) => {
                let text = format!(
                    "the budget of {id} is used up at {limit} (used: {used}); its work so far is \
                     kept. Shall it go on with more, by `ctl budget {id} {raise}`?"
                );
                Failure::new(FailureCode::BudgetExceeded, text)
            }
            Owner::Project(id) => {
                let name = self.projects.get(id).map_or("", |p| p.name.as_str());
                let mut others = self.projects.iter();
                let shared = others.any(|(other, p)| other != id && p.name == name);
                let option = if shared { id.as_str() } else { name };
                let text = format!(
                    "project {name} has used up its budget of the day at {limit} (used: {used}); \
                     its tasks go on tomorrow (UTC), or with more, as `ctl budget --project {} \
                     {raise}`",
                    shell::word(option)
                );
                Failure {
                    resets_at: Some(self.midnight()),
                    ..Failure::new(FailureCode::BudgetExceeded, text)
                }
            }
        }
    }

    /// Whether a queued task is held. It stands nowhere in the queue then.
    #[cfg(test)]
    pub fn is_held(&self, id: TaskId) -> bool {
        self.held.contains_key(&id)
    }

    /// Why a queued task is held.
    pub fn held_reason(&self, id: TaskId) -> Option<&Failure> {
        self.held.get(&id)
    }

    /// Whether a queued task is held until somebody raises a budget. A project's of the day is another
    /// one tomorrow.
    pub fn asks(&self, id: TaskId) -> bool {
        let held = self.held_reason(id);
        held.is_some_and(|why| why.resets_at.is_none())
    }

    /// A task is no longer held.
    pub fn let_go(&mut self, id: TaskId) -> bool {
        let Some(why) = self.held.remove(&id) else {
            return false;
        };
        self.until_midnight -= usize::from(why.resets_at.is_some());
        true
    }

    fn keep_back(&mut self, id: TaskId, why: Failure) {
        self.let_go(id);
        self.until_midnight += usize::from(why.resets_at.is_some());
        self.held.insert(id, why);
    }
}

impl Core {
    /// What follows for a task whose attempt a budget has stopped.
    pub(crate) fn over_budget_of(&self, now: Timestamp, id: TaskId) -> Ending {
        self.over_budget(now, &self.owners(id))
    }

    pub(super) fn over_budget(&self, now: Timestamp, owners: &[Owner]) -> Ending {
        let goes_on =
            "its budget had room again when it was stopped; it goes on from its kept work";
        match self.budgets.reached(now, owners) {
            Some((owner @ Owner::Task(_), limit)) => Ending::End {
                status: EndStatus::NeedsReview,
                reason: Some(Box::new(self.budgets.why(&owner, &limit, now))),
            },
            Some((owner @ Owner::Project(_), limit)) => Ending::Retry {
                reason: Box::new(self.budgets.why(&owner, &limit, now)),
            },
            None => Ending::Retry {
                reason: Box::new(Failure::new(FailureCode::BudgetExceeded, goes_on)),
            },
        }
    }

    /// What becomes of a retry that a budget of the task's own does not allow: a person is asked.
    pub(crate) fn unless_forbidden(&self, now: Timestamp, id: TaskId, ending: Ending) -> Ending {
        let (Ending::Retry { reason } | Ending::Elsewhere { reason }) = &ending else {
            return ending;
        };
        match self.task_hold(now, id) {
            None => ending,
            Some(mut why) => {
                why.message = format!("{}; the last attempt ended by {reason}", why.message);
                Ending::End {
                    status: EndStatus::NeedsReview,
                    reason: Some(Box::new(why)),
                }
            }
        }
    }

    /// Whether a budget ends what runs of a task.
    pub(crate) fn is_used_up(&self, now: Timestamp, id: TaskId) -> bool {
        self.budgets.reached(now, &self.owners(id)).is_some()
    }

    /// Why the budgets of a task and those above it, and not its project's, forbid its start.
    pub(crate) fn task_hold(&self, now: Timestamp, id: TaskId) -> Option<Failure> {
        let owners = self.owners(id).into_iter();
        let tasks = owners.filter(|owner| matches!(owner, Owner::Task(_)));
        self.budgets.hold(now, &tasks.collect::<Vec<_>>())
    }

    /// Holds a queued task whose budget is used up; whether it is held.
    pub(crate) fn hold(&mut self, now: Timestamp, id: TaskId) -> bool {
        let owners = self.owners(id);
        let why = self.budgets.hold(now, &owners);
        let why = why.filter(|_| !mutated!(BudgetIgnored));
        let held = why.is_some();
        if let Some(why) = why {
            self.budgets.keep_back(id, why);
        }
        held
    }

    /// Takes a task out of the queue when its budget is used up; whether it did.
    pub(crate) fn pull_back(&mut self, now: Timestamp, id: TaskId, step: &mut Step) -> bool {
        if !self.hold(now, id) {
            return false;
        }
        if let Some(task) = self.tasks.get(&id) {
            self.queue.remove(id, task.place, task.wait());
        }
        step.messages.push(crate::Message::Changed { task: id });
        self.tell_held(id, false, step);
        true
    }

    /// Lets those into the queue whose budget allows it again.
    pub(super) fn release_held(&mut self, now: Timestamp, step: &mut Step) {
        if mutated!(HeldForEver) {
            return;
        }
        let held: Vec<TaskId> = self.budgets.held.keys().copied().collect();
        for id in held {
            let asked = self.budgets.asks(id);
            self.budgets.let_go(id);
            if !self.hold(now, id) {
                self.enqueue(now, id);
                step.messages.push(crate::Message::Changed { task: id });
            }
            self.tell_held(id, asked, step);
        }
    }
}
