//! Workers come, describe themselves, and go.

use std::{cmp::Ordering, collections::BTreeSet};

use orchestra_types::{AttemptId, Timestamp, WorkerId, runner::WorkerInfo};

use crate::{
    ConnectionId, Core, Step,
    accounts::name_accounts,
    attempt::Loss,
    change::Change,
    input::Held,
    message::{Message, StopReason, Welcome},
    row::{Availability, State, WorkerRow},
    view::Link,
    worker::Worker,
};

/// What a worker says of itself as it attaches; see `Input::Attached`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told<'a> {
    pub held: &'a [Held],
    pub others: &'a [AttemptId],
    pub first_unacked: u64,
}

/// Most numbers of attempts that a worker can make us pass over at once.
const PASSED_OVER_MAX: u32 = 1000;
/// How many attempts more a result is waited for, whatever workers say.
const WAITED_FOR: u32 = 16;

impl Core {
    pub(crate) fn on_attached(
        &mut self,
        now: Timestamp,
        connection: ConnectionId,
        mut info: WorkerInfo,
        told: Told<'_>,
        step: &mut Step,
    ) {
        let Told {
            held,
            first_unacked,
            ..
        } = told;
        name_accounts(&mut info);
        self.parks_may_move();
        let id = info.id.clone();
        let known = self.workers.get(&id);
        let same_boot = known.is_some_and(|w| w.row.info.boot_id == info.boot_id);
        let (joined_at, epoch, availability) = match self.workers.get(&id) {
            Some(Worker { row, .. }) if mutated!(EpochAgain) => {
                (row.joined_at, row.epoch, row.availability)
            }
            Some(Worker { row, .. }) => (row.joined_at, row.epoch + 1, row.availability),
            None => (now, 1, Availability::Open),
        };
        let row = WorkerRow {
            info,
            joined_at,
            attached_at: now,
            epoch,
            availability,
        };
        step.changes.push(Change::Worker(Box::new(row.clone())));
        let worker = match self.workers.entry(id.clone()) {
            std::collections::btree_map::Entry::Occupied(known) => {
                let worker = known.into_mut();
                worker.describe(row.info.clone(), &mut self.accounts);
                worker.row = row;
                worker
            }
            std::collections::btree_map::Entry::Vacant(new) => {
                new.insert(Worker::new(row, 0, &mut self.accounts))
            }
        };
        if let Link::Connected(old) = worker.link {
            step.messages.push(Message::Disconnect { connection: old });
        }
        worker.link = Link::Connected(connection);
        // A worker that was told more than is known here met an earlier life of this head, which
        // was lost: what it knows comes from a backup. Waiting for those reports would be in vain.
        if first_unacked > worker.acked + 1 && !mutated!(ComesBackAtOne) {
            worker.acked = first_unacked - 1;
            step.changes.push(Change::Acked {
                worker: id.clone(),
                up_to: worker.acked,
            });
        }
        let acked_up_to = worker.acked;
        let unknown = self.unknown(&id, told);
        self.pass_over_numbers(held, step);
        if same_boot || mutated!(TakenBackAfterBoot) {
            self.take_back(now, &id, held, step);
        }
        self.touch(&id);
        self.ask_again(&id);
        self.see(now, &id);
        let over = self.hear_run_times(now, &id, held);
        let (keep, kill) = self.judge_held(&id, held, &unknown);
        self.never_take_back(&id, &kill, step);
        let welcome = Welcome {
            epoch,
            acked_up_to,
            keep,
            kill,
            unknown,
        };
        step.messages.push(Message::Welcome {
            connection,
            welcome,
        });
        if availability != Availability::Open {
            step.messages.push(Message::Availability {
                connection,
                availability,
            });
        }
        self.repeat_orders(now, connection, &id, held, step);
        // IMPORTANT: after the welcome, which a worker must hear first.
        self.enforce_running(now, &over, step);
    }

    /// Attempts that this head never gave to a worker: of tasks that are not here, beyond the number that was
    /// given last, or under a number that another worker had. An earlier life of this head did, which was lost
    /// when it was restored from a backup: what the worker has done of them is nowhere else.
    fn unknown(&self, id: &WorkerId, told: Told<'_>) -> Vec<AttemptId> {
        let others: BTreeSet<AttemptId> = told.others.iter().copied().collect();
        let is_unknown = |held: &AttemptId| {
            let Some(task) = self.tasks.get(&held.task) else {
                return true;
            };
            let last = task.row.last.as_ref().map(|last| &last.worker);
            match held.number.cmp(&task.row.attempts) {
                Ordering::Greater => true,
                // That its number was passed over is no order.
                Ordering::Equal => last != Some(id) || others.contains(held),
                Ordering::Less => others.contains(held),
            }
        };
        let held = told.held.iter().map(|held| held.attempt);
        held.filter(is_unknown).collect()
    }

    /// Numbers that an earlier life of this head gave are not given again: the worker would take the
    /// new attempt for the one that it holds. Nobody can tell whether there was such a life, so a worker
    /// may say so without one. Therefore no number that it names makes a result of another worker stale
    /// that is waited for: where there is one, few numbers are passed over, all told. A task that was lost
    /// before a backup, and then tried more often than that, is not to be expected.
    fn pass_over_numbers(&mut self, held: &[Held], step: &mut Step) {
        for AttemptId { task: id, number } in held.iter().map(|held| held.attempt) {
            let Some(task) = self.tasks.get_mut(&id) else {
                continue;
            };
            let most = match task.row.given_up {
                0 => PASSED_OVER_MAX,
                owed => owed.leading_zeros().saturating_sub(WAITED_FOR),
            };
            let passed = task.row.attempts..task.row.attempts.saturating_add(most);
            match task.row.state {
                State::Blocked | State::Queued { .. } | State::Ended { .. } => {
                    if number > 0 && passed.contains(&(number - 1)) {
                        // Results of attempts that were given up before are still waited for.
                        let by = number - task.row.attempts;
                        task.row.given_up = task.row.given_up.checked_shl(by).unwrap_or(0);
                        task.row.attempts = number;
                        self.write(id, step);
                    }
                }
                // The number is the one of the attempt that is held.
                State::Assigned { .. } | State::Running { .. } | State::Closing { .. } => {}
            }
        }
    }

    /// Which of the attempts that a worker still holds are its own. One that waits only for the
    /// acknowledgement of its final report is neither kept nor killed.
    fn judge_held(
        &self,
        id: &WorkerId,
        held: &[Held],
        unknown: &[AttemptId],
    ) -> (Vec<AttemptId>, Vec<AttemptId>) {
        let (mut keep, mut kill) = (Vec::new(), Vec::new());
        for held in held {
            let task = self.tasks.get(&held.attempt.task);
            let latest = task.is_some_and(|t| t.row.attempts == held.attempt.number);
            if self.holder(held.attempt) == Some(id) || mutated!(StrangersKept) {
                keep.push(held.attempt);
            } else if !latest || unknown.contains(&held.attempt) {
                kill.push(held.attempt);
            } else {
                let given_up = task.is_some_and(|t| match t.row.state {
                    State::Closing { .. } => false,
                    State::Blocked
                    | State::Queued { .. }
                    | State::Assigned { .. }
                    | State::Running { .. }
                    | State::Ended { .. } => true,
                });
                if given_up {
                    kill.push(held.attempt);
                }
            }
        }
        (keep, kill)
    }

    /// What a worker does not know of is ordered again, or is lost when it had been started.
    fn repeat_orders(
        &mut self,
        now: Timestamp,
        connection: ConnectionId,
        id: &WorkerId,
        held: &[Held],
        step: &mut Step,
    ) {
        let worker = self.workers.get_mut(id).expect("it was inserted above");
        // It knows in which order it begins what it has, and what is ordered again comes last.
        if !mutated!(OrderOfHeldIgnored) {
            worker.put_in_order(held.iter().map(|held| held.attempt));
        }
        let orders = worker.orders().into_iter();
        let runner = |attempt| Some((attempt, worker.attempts.get(&attempt)?.runner.clone()));
        let ours: Vec<_> = orders.filter_map(runner).collect();
        let held: BTreeSet<AttemptId> = held.iter().map(|h| h.attempt).collect();
        for (attempt, runner) in ours {
            let row = &self
                .tasks
                .get(&attempt.task)
                .expect("held attempts have a task")
                .row;
            if held.contains(&attempt) {
                let wished = row.cancel_requested && !mutated!(CancelNotRepeated);
                let cancelled = wished.then_some(StopReason::Cancelled);
                let over = self.is_over_budget(attempt) && !mutated!(BudgetStopNotRepeated);
                let over = over.then_some(StopReason::Budget);
                let late = self.overdue.stopping(attempt.task);
                if let Some(why) = cancelled.or(late).or(over) {
                    self.order_stop(attempt.task, why, step);
                }
            } else if mutated!(RunningIsOrderedAgain)
                || (matches!(row.state, State::Assigned { .. }) && !row.cancel_requested)
            {
                step.messages.push(Message::Start {
                    connection,
                    attempt,
                    runner,
                });
                // It is ordered again to be ended: its worker reports what became of it.
                if self.is_over_budget(attempt) && !mutated!(BudgetStopNotRepeated) {
                    self.order_stop(attempt.task, StopReason::Budget, step);
                }
            } else {
                let loss = Loss::of("the worker no longer has it");
                self.lose(now, attempt, loss, step);
            }
        }
    }

    pub(crate) fn on_detached(&mut self, connection: ConnectionId, id: &WorkerId) {
        let Some(worker) = self.workers.get_mut(id).filter(|w| w.is_on(connection)) else {
            return;
        };
        worker.link = Link::Disconnected;
        self.parks_may_move();
        self.touch(id);
    }

    pub(crate) fn on_capacity(
        &mut self,
        connection: ConnectionId,
        mut info: WorkerInfo,
        step: &mut Step,
    ) {
        name_accounts(&mut info);
        self.parks_may_move();
        let Some(worker) = self
            .workers
            .get_mut(&info.id)
            .filter(|w| w.is_on(connection))
        else {
            return;
        };
        worker.describe(info, &mut self.accounts);
        let row = worker.row.clone();
        if !mutated!(CapacityUnnoticed) {
            self.touch(&row.info.id);
        }
        step.changes.push(Change::Worker(Box::new(row.clone())));
        self.ask_if_ahead(&row.info.id);
    }

    pub(crate) fn on_heartbeat(&mut self, now: Timestamp, connection: ConnectionId, id: &WorkerId) {
        if self.workers.get(id).is_some_and(|w| w.is_on(connection))
            && !mutated!(HeartbeatForgotten)
        {
            self.see(now, id);
        }
    }
}
