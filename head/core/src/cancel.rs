//! What people ask of a task: cancel, try again, another priority, note an apply.

use orchestra_types::{
    ApplyResult, Failure, FailureCode, OnDependencyFailure, Priority, TaskId, TaskStatus, Timestamp,
};

use crate::{
    Core, RequestId, Step,
    message::{CancelRefused, Message, NotFound, PriorityRefused, Reply, RetryRefused, StopReason},
    row::{Avoids, EndStatus, Ending, State},
    view::Link,
};

impl Core {
    pub(crate) fn on_cancel(
        &mut self,
        now: Timestamp,
        request: RequestId,
        id: TaskId,
        step: &mut Step,
    ) {
        let reply = self.cancel(now, id, step);
        step.messages.push(Message::Reply { request, reply });
    }

    fn cancel(&mut self, now: Timestamp, id: TaskId, step: &mut Step) -> Reply {
        let Some(task) = self.tasks.get_mut(&id) else {
            return Reply::NotFound(NotFound(id));
        };
        match &mut task.row.state {
            State::Blocked | State::Queued { .. } => {
                let reason = before_start(task.row.reason.as_deref());
                self.end(now, id, EndStatus::Cancelled, Some(reason), step);
            }
            State::Assigned { .. } | State::Running { .. } => {
                task.row.cancel_requested = true;
                if !mutated!(CancelNotWritten) {
                    self.write(id, step);
                }
                self.order_stop(id, StopReason::Cancelled, step);
            }
            // Too late to stop anything, but not too late to prevent the next attempt.
            State::Closing { ending, .. } => match ending {
                Ending::Retry { .. } if mutated!(CancelTooLate) => {}
                Ending::Retry { reason } | Ending::Elsewhere { reason } => {
                    *ending = Ending::End {
                        status: EndStatus::Cancelled,
                        reason: Some(Box::new(before_retry(reason))),
                    };
                    self.write(id, step);
                }
                Ending::End {
                    status: EndStatus::Cancelled,
                    ..
                } => {}
                Ending::End { .. } if mutated!(LateCancelUnsaid) => {}
                Ending::End { .. } => {
                    return Reply::CancelRefused(CancelRefused::Finishing(id));
                }
            },
            // Whoever it waits for wants nothing more of it.
            State::Ended {
                status: EndStatus::NeedsReview,
                ..
            } => {
                let waited = task.row.reason.take();
                let reason = dismissed(waited.as_deref());
                self.end(now, id, EndStatus::Cancelled, Some(reason), step);
            }
            State::Ended { status, .. } => {
                return Reply::CancelRefused(CancelRefused::Ended(id, status.status()));
            }
        }
        Reply::Done(id)
    }

    /// Tells the worker that holds a task's attempt to end it. A worker that is away is told when
    /// it comes back.
    pub(crate) fn order_stop(&self, id: TaskId, reason: StopReason, step: &mut Step) {
        let Some(task) = self.tasks.get(&id) else {
            return;
        };
        let attempt = task.attempt();
        let Some(worker) = task.holder(attempt.number) else {
            return;
        };
        let Some(worker) = self.workers.get(worker) else {
            return;
        };
        match worker.link {
            Link::Connected(connection) => step.messages.push(Message::Stop {
                connection,
                attempt,
                reason,
            }),
            Link::Disconnected | Link::Lost => {}
        }
    }

    pub(crate) fn on_retry(
        &mut self,
        now: Timestamp,
        request: RequestId,
        id: TaskId,
        step: &mut Step,
    ) {
        let reply = self.retry(now, id, step);
        step.messages.push(Message::Reply { request, reply });
    }

    fn retry(&mut self, now: Timestamp, id: TaskId, step: &mut Step) -> Reply {
        let Some(task) = self.tasks.get_mut(&id) else {
            return Reply::NotFound(NotFound(id));
        };
        match &task.row.state {
            State::Blocked
            | State::Queued { .. }
            | State::Assigned { .. }
            | State::Running { .. }
            | State::Closing { .. } => {
                return Reply::RetryRefused(RetryRefused::NotEnded(id, task.status()));
            }
            State::Ended {
                status: EndStatus::Succeeded,
                ..
            } => {
                return Reply::RetryRefused(RetryRefused::Succeeded(id));
            }
            State::Ended {
                status: EndStatus::Failed | EndStatus::Cancelled | EndStatus::NeedsReview,
                ..
            } => {}
        }
        let cancels = task.row.facts.on_dependency_failure == OnDependencyFailure::Cancel;
        let waits_for = std::mem::take(&mut task.waits_for);
        let behind = self.unsuccessful(&waits_for).filter(|_| cancels);
        let task = self.tasks.get_mut(&id).expect("it was found above");
        task.waits_for = waits_for;
        if let Some((before, status)) = behind {
            return Reply::RetryRefused(RetryRefused::Behind(id, before, status.status()));
        }
        let used_up = self.task_hold(now, id);
        if let Some(why) = used_up.filter(|_| !mutated!(UsedUpTriedAgain)) {
            return Reply::RetryRefused(RetryRefused::UsedUp(id, Box::new(why)));
        }
        if !mutated!(RetryForgetsOrder) {
            self.wait_anew(id);
        }
        let task = self.tasks.get_mut(&id).expect("it was found above");
        let row = &mut task.row;
        (row.failures, row.losses, row.limited, row.cancel_requested) = (0, 0, 0, false);
        (row.reason, row.apply) = (None, None);
        // A person wants it now: another worker is preferred, and not waited for.
        if let Some(last) = &mut row.last {
            last.avoids = Some(Avoids {
                worker: last.worker.clone(),
                until: Timestamp(0),
            });
            last.moved = 0;
        }
        let state = if task.waits_for.is_empty() {
            State::queued(self.calendar, now, now, &task.row.facts)
        } else {
            State::Blocked
        };
        self.set_state(now, id, state, step);
        Reply::Done(id)
    }

    pub(crate) fn on_prioritise(
        &mut self,
        now: Timestamp,
        request: RequestId,
        id: TaskId,
        priority: Priority,
        step: &mut Step,
    ) {
        let reply = self.prioritise(now, id, priority, step);
        step.messages.push(Message::Reply { request, reply });
    }

    fn prioritise(
        &mut self,
        now: Timestamp,
        id: TaskId,
        priority: Priority,
        step: &mut Step,
    ) -> Reply {
        let Some(task) = self.tasks.get(&id) else {
            return Reply::NotFound(NotFound(id));
        };
        let status = task.status();
        if status.is_ended() {
            return Reply::PriorityRefused(PriorityRefused::Ended(id, status));
        }
        if task.row.facts.priority == priority {
            return Reply::Done(id);
        }
        // What is counted, and the place in the queue, follow from the facts. Nothing else does: an
        // attempt that is held stays as it is, with its clocks.
        let queued = matches!(task.row.state, State::Queued { .. });
        let moves = queued && !mutated!(PriorityStaysInQueue);
        let before = task.row.facts.priority;
        // However the wall clock was set meanwhile.
        let waits = self.overdue.wait_of(id);
        if moves {
            self.leave_state(id);
        }
        if !moves && let Some(task) = self.tasks.get(&id) {
            self.counts.remove(task);
        }
        self.change_facts(id, |facts| facts.priority = priority);
        if moves {
            self.enter_state(now, id);
            self.overdue.set_wait(id, waits);
        } else {
            let task = self.tasks.get(&id).expect("it was found above");
            self.counts.add(task);
            if status == TaskStatus::Assigned {
                self.given.remove(before);
                self.given.add(priority);
                self.reordered = Some(id);
            }
        }
        self.write(id, step);
        Reply::Done(id)
    }

    pub(crate) fn on_apply_recorded(
        &mut self,
        now: Timestamp,
        request: RequestId,
        id: TaskId,
        result: ApplyResult,
        step: &mut Step,
    ) {
        let reply = self.record_apply(now, id, result, step);
        step.messages.push(Message::Reply { request, reply });
    }

    fn record_apply(
        &mut self,
        now: Timestamp,
        id: TaskId,
        result: ApplyResult,
        step: &mut Step,
    ) -> Reply {
        let Some(task) = self.tasks.get_mut(&id) else {
            return Reply::NotFound(NotFound(id));
        };
        let row = &mut task.row;
        let waited = row
            .reason
            .as_ref()
            .is_some_and(|r| r.code == FailureCode::ApplyConflict);
        let applied = matches!(result, ApplyResult::Applied { .. });
        let was_applied = matches!(row.apply.as_deref(), Some(ApplyResult::Applied { .. }));
        // One more apply that finds edits in its way takes nothing back.
        if applied || !was_applied {
            row.apply = Some(Box::new(result));
        }
        match row.state {
            // A person has solved what the task was waiting for.
            State::Ended {
                status: EndStatus::NeedsReview,
                ..
            } if waited && applied => {
                self.end(now, id, EndStatus::Succeeded, None, step);
            }
            State::Blocked
            | State::Queued { .. }
            | State::Assigned { .. }
            | State::Running { .. }
            | State::Closing { .. }
            | State::Ended { .. } => self.write(id, step),
        }
        Reply::Done(id)
    }
}

/// The reason of a task that waited for a person, who cancelled it: what it waited for stays known.
fn dismissed(waited: Option<&Failure>) -> Failure {
    let what = waited.map_or("", |failure| failure.message.as_str());
    match what {
        "" => cancelled("cancelled while it waited for a person"),
        what => cancelled(&format!("cancelled while it waited for a person: {what}")),
    }
}

/// The reason of a task that a person cancelled while nothing of it ran: how its last attempt ended stays
/// known.
pub(crate) fn before_start(last: Option<&Failure>) -> Failure {
    last.map_or_else(
        || cancelled("cancelled before it was started"),
        before_retry,
    )
}

fn before_retry(last: &Failure) -> Failure {
    let text = format!("cancelled before it was tried again; the last attempt ended by {last}");
    cancelled(&text)
}

/// The reason of a task that a person cancelled.
pub(crate) fn cancelled(message: &str) -> Failure {
    Failure::new(FailureCode::Cancelled, message)
}
