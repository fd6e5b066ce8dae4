//! What the end of a task means for those that come after it.
//!
//! ```text
//! the one before     the choice of the one after    the one after
//! succeeded          any                            waits for one less
//! failed, cancelled  run                            waits for one less
//! or needs_review    cancel                         is cancelled, and those after it are asked too
//!                    block                          stays blocked; a retry that succeeds frees it
//! ```
//!
//! A person who lets a blocked one go (`Core::release`) makes its choice `run`.

use orchestra_types::{Failure, FailureCode, OnDependencyFailure, TaskId, TaskStatus, Timestamp};

use crate::{
    Calendar, Core, RequestId, Step,
    message::{Message, NotFound, ReleaseRefused, Reply},
    row::{EndStatus, State, TaskFacts},
    task::{Task, Waits},
};

/// Where a task stands with those that it comes after.
pub(crate) struct Standing {
    /// Those that it must still wait for.
    pub waits_for: Waits,
    /// The state that follows.
    pub state: State,
    /// Why it is cancelled at once.
    pub reason: Option<Failure>,
}

/// What one ended task means for one that comes after it.
enum Verdict {
    Free,
    Cancel,
    Show,
}

impl Core {
    /// Where a task that was created at `created_at` stands.
    pub(crate) fn standing(
        &self,
        now: Timestamp,
        created_at: Timestamp,
        after: &[TaskId],
        facts: &TaskFacts,
    ) -> Standing {
        let runs_anyway = facts.on_dependency_failure == OnDependencyFailure::Run;
        let open = after.iter().copied().filter(|before| {
            // A task of the same submission that comes later is not known yet: it is waited for.
            let end = self.end_of(*before);
            end.is_none_or(|end| end != EndStatus::Succeeded && !runs_anyway)
                && !mutated!(DependencyIgnored)
        });
        let waits_for: Waits = open.collect();
        let cancels = facts.on_dependency_failure == OnDependencyFailure::Cancel;
        let reason = self.unsuccessful(&waits_for).filter(|_| cancels);
        let state = if reason.is_some() {
            State::Ended {
                status: EndStatus::Cancelled,
                at: now,
            }
        } else if waits_for.is_empty() {
            State::queued(self.calendar, now, created_at, facts)
        } else {
            State::Blocked
        };
        Standing {
            waits_for,
            state,
            reason: reason.map(|(id, status)| dependency_failed(id, status.status())),
        }
    }

    /// The first of them that ended without success.
    pub(crate) fn unsuccessful(&self, waits_for: &Waits) -> Option<(TaskId, EndStatus)> {
        waits_for
            .iter()
            .find_map(|id| self.end_of(id).map(|end| (id, end)))
    }

    pub(crate) fn end_of(&self, id: TaskId) -> Option<EndStatus> {
        match self.tasks.get(&id)?.row.state {
            State::Ended { status, .. } => Some(status),
            State::Blocked
            | State::Queued { .. }
            | State::Assigned { .. }
            | State::Running { .. }
            | State::Closing { .. } => None,
        }
    }

    /// Tells the tasks that come after `first`, and those after them, that it has ended. A list
    /// and not a recursion: a chain may be as long as the queue.
    pub(crate) fn settle_dependants(&mut self, now: Timestamp, first: TaskId, step: &mut Step) {
        let mut ended = vec![first];
        let mut stuck = Vec::new();
        while let Some(id) = ended.pop() {
            let Some(end) = self.end_of(id) else {
                continue;
            };
            let dependants = self.dependants.get(&id).into_iter().flatten();
            let dependants: Vec<TaskId> = dependants.copied().collect();
            for dependant in dependants {
                match self.verdict(end, dependant) {
                    Verdict::Free => self.free(now, id, dependant, step),
                    Verdict::Show => stuck.push((dependant, id)),
                    Verdict::Cancel => {
                        let reason = dependency_failed(id, end.status());
                        self.end_quietly(now, dependant, EndStatus::Cancelled, Some(reason), step);
                        ended.push(dependant);
                    }
                }
            }
        }
        for (dependant, reason) in stuck {
            self.keep_back(dependant, reason, step);
        }
    }

    fn verdict(&self, end: EndStatus, dependant: TaskId) -> Verdict {
        let row = &self.tasks.get(&dependant).expect("dependants exist").row;
        match (end, row.facts.on_dependency_failure) {
            (EndStatus::Succeeded, _) if mutated!(NeverFreed) => Verdict::Show,
            (EndStatus::Succeeded, _) | (_, OnDependencyFailure::Run) => Verdict::Free,
            _ if mutated!(FreedByFailure) => Verdict::Free,
            _ if mutated!(CascadeMissing) => Verdict::Show,
            (_, OnDependencyFailure::Cancel) if row.state == State::Blocked => Verdict::Cancel,
            (_, OnDependencyFailure::Cancel | OnDependencyFailure::Block) => Verdict::Show,
        }
    }

    pub(crate) fn on_release(
        &mut self,
        now: Timestamp,
        request: RequestId,
        id: TaskId,
        step: &mut Step,
    ) {
        let reply = self.release(now, id, step);
        step.messages.push(Message::Reply { request, reply });
    }

    /// Lets a blocked task go: those that it comes after and that have ended without success keep it no
    /// longer, now and from here on. It still waits for those that have not ended.
    fn release(&mut self, now: Timestamp, id: TaskId, step: &mut Step) -> Reply {
        let Some(task) = self.tasks.get(&id) else {
            return Reply::NotFound(NotFound(id));
        };
        let status = task.status();
        if task.row.facts.on_dependency_failure == OnDependencyFailure::Run && !status.is_ended() {
            return Reply::Done(id);
        }
        if task.row.state != State::Blocked {
            return Reply::ReleaseRefused(ReleaseRefused::NotBlocked(id, status));
        }
        let waits: Vec<TaskId> = task.waits_for.iter().collect();
        let (ended, open): (Vec<TaskId>, Vec<TaskId>) = waits
            .into_iter()
            .partition(|before| self.end_of(*before).is_some());
        if ended.is_empty()
            && let Some(before) = open.first()
        {
            let status = self.tasks.get(before).map(Task::status);
            let status = status.unwrap_or(TaskStatus::Blocked);
            return Reply::ReleaseRefused(ReleaseRefused::Waits(id, *before, status));
        }
        if !mutated!(ReleaseForgotten) {
            self.change_facts(id, |facts| {
                facts.on_dependency_failure = OnDependencyFailure::Run;
            });
        }
        let early = open.iter().filter(|_| mutated!(ReleaseTooEarly));
        let let_go = ended.iter().filter(|_| !mutated!(ReleaseKeepsWaiting));
        for before in let_go.chain(early) {
            self.waits_no_longer(*before, id);
        }
        let task = self.tasks.get(&id).expect("it was found above");
        let state = match task.waits_for.is_empty() {
            true => State::queued(self.calendar, now, task.row.created_at, &task.row.facts),
            false => State::Blocked,
        };
        self.set_state(now, id, state, step);
        Reply::Done(id)
    }

    fn free(&mut self, now: Timestamp, before: TaskId, dependant: TaskId, step: &mut Step) {
        self.waits_no_longer(before, dependant);
        let task = self.tasks.get(&dependant).expect("dependants exist");
        if task.waits_for.is_empty() && task.row.state == State::Blocked {
            let queued = State::queued(self.calendar, now, task.row.created_at, &task.row.facts);
            self.change_state(now, dependant, queued, step);
        }
    }

    /// One that runs anyway, and begins anew, waits for those before it that have not ended: some may have been
    /// tried again since it waited for them. The others still wait for what has not succeeded.
    pub(crate) fn wait_anew(&mut self, id: TaskId) {
        let task = self.tasks.get(&id).expect("the caller looked the task up");
        if task.row.facts.on_dependency_failure != OnDependencyFailure::Run {
            return;
        }
        let goes_on =
            |before: &TaskId| self.tasks.contains_key(before) && self.end_of(*before).is_none();
        let waits_for: Waits = task.row.after.iter().copied().filter(goes_on).collect();
        for before in waits_for.iter() {
            self.dependants.entry(before).or_default().insert(id);
        }
        let task = self.tasks.get_mut(&id).expect("it was found above");
        task.waits_for = waits_for;
    }

    fn waits_no_longer(&mut self, before: TaskId, dependant: TaskId) {
        if let Some(waiting) = self.dependants.get_mut(&before) {
            waiting.remove(&dependant);
            if waiting.is_empty() {
                self.dependants.remove(&before);
            }
        }
        let task = self.tasks.get_mut(&dependant).expect("dependants exist");
        task.waits_for.remove(before);
    }

    /// Whether a blocked task must still wait, seen anew: a commit that was cut short by a crash
    /// may have ended the one before it and not reached this one.
    pub(crate) fn settle_blocked(&mut self, now: Timestamp, id: TaskId, step: &mut Step) {
        let task = self.tasks.get(&id).expect("the caller looked the task up");
        if task.row.state != State::Blocked {
            return;
        }
        let cancels = task.row.facts.on_dependency_failure == OnDependencyFailure::Cancel;
        if task.waits_for.is_empty() {
            let queued = State::queued(self.calendar, now, task.row.created_at, &task.row.facts);
            self.set_state(now, id, queued, step);
        } else if cancels && let Some((before, end)) = self.unsuccessful(&task.waits_for) {
            let reason = dependency_failed(before, end.status());
            self.end(now, id, EndStatus::Cancelled, Some(reason), step);
        }
    }
}

impl State {
    /// A task that may start at once, or when its time has come: by the wall clock.
    pub(crate) fn queued(
        calendar: Calendar,
        now: Timestamp,
        created_at: Timestamp,
        facts: &TaskFacts,
    ) -> Self {
        let start_at = facts.timing.start_at.unwrap_or_default();
        let wall = calendar.wall(now);
        Self::Queued {
            since: created_at.max(calendar.steady(start_at)),
            not_before: if mutated!(StartTimeIgnored) {
                wall
            } else {
                wall.max(start_at)
            },
        }
    }
}

/// The reason of a task that cannot go on because of another one, with which it begins.
pub(crate) fn dependency_failed(id: TaskId, status: TaskStatus) -> Failure {
    Failure::new(
        FailureCode::DependencyFailed,
        format!("{id} ended as {status}"),
    )
}
