//! What can be read: borrowed views of the state, never a second copy of it.

use std::collections::{BTreeMap, BTreeSet};

use orchestra_types::{
    AccountName, AttemptId, Failure, FailureCode, Priority, RunnerName, TaskId, TaskStatus,
    Timestamp, WorkerId,
    runner::{Readiness, WorkerInfo},
};

use crate::{
    ConnectionId, Core,
    dependants::dependency_failed,
    queue::Requirement,
    row::{Availability, State, TaskRow},
    task::Task,
    worker::Worker,
};

/// How many tasks there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    by_status: [u64; TaskStatus::ALL.len()],
    open_by_priority: [u64; Priority::ALL.len()],
    finishing: u64,
}

impl Counts {
    /// Tasks with this status.
    #[must_use]
    pub fn with_status(&self, status: TaskStatus) -> u64 {
        self.by_status[status as usize]
    }

    /// Tasks with this priority that have not ended.
    #[must_use]
    pub fn open_with_priority(&self, priority: Priority) -> u64 {
        self.open_by_priority[priority as usize]
    }

    /// Tasks that have not ended.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.open_by_priority.iter().sum()
    }

    /// Those of the running ones whose attempt has ended: they hold no slot, and their result is being put
    /// in place.
    #[must_use]
    pub fn finishing(&self) -> u64 {
        self.finishing
    }

    pub(crate) fn add(&mut self, task: &Task) {
        let (status, priority) = (task.status(), task.row.facts.priority);
        self.by_status[status as usize] += 1;
        if !status.is_ended() {
            self.open_by_priority[priority as usize] += 1;
        }
        self.finishing += u64::from(task.row.state.is_closing());
    }

    pub(crate) fn remove(&mut self, task: &Task) {
        let (status, priority) = (task.status(), task.row.facts.priority);
        self.by_status[status as usize] -= 1;
        if !status.is_ended() {
            self.open_by_priority[priority as usize] -= 1;
        }
        self.finishing -= u64::from(task.row.state.is_closing());
    }
}

/// A task, to be read.
#[derive(Clone, Debug)]
pub struct TaskView<'a> {
    /// As it is kept.
    pub row: &'a TaskRow,
    /// The status that people see.
    pub status: TaskStatus,
    /// Tasks that it still waits for.
    pub waits_for: Vec<TaskId>,
    /// Since when nothing was heard of its agent, where that is worth a notice.
    pub silent_since: Option<Timestamp>,
    /// Why it failed, waits, or is tried again.
    pub reason: Option<Failure>,
}

/// Which tasks to list.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Any of these; empty means all.
    pub statuses: Vec<TaskStatus>,
    /// All of these.
    pub labels: BTreeMap<String, String>,
    /// Asked for or used in the latest attempt.
    pub runner: Option<RunnerName>,
    /// Project id or name.
    pub project: Option<String>,
    /// Who submitted it: `user@host`, or the user on whatever machine.
    pub submitter: Option<String>,
    /// At most this many.
    pub limit: usize,
    /// Start behind this one.
    pub after: Option<TaskId>,
    /// From the highest id down.
    pub newest_first: bool,
}

/// A part of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The tasks.
    pub ids: Vec<TaskId>,
    /// Go on behind this one; none at the end.
    pub next: Option<TaskId>,
}

/// Whether a worker is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Its control stream is open.
    Connected(ConnectionId),
    /// It is away, and its lease runs.
    Disconnected,
    /// It is away, and its lease has ended.
    Lost,
}

/// A worker, to be read.
#[derive(Clone, Debug)]
pub struct WorkerView<'a> {
    /// As it described itself last.
    pub info: &'a WorkerInfo,
    /// Whether it is there.
    pub link: Link,
    /// When it first came.
    pub joined_at: Timestamp,
    /// Its last sign of life; none since the head was started.
    pub last_seen: Option<Timestamp>,
    /// Whether it is given anything new.
    pub availability: Availability,
    /// The attempts that it holds.
    pub attempts: Vec<AttemptId>,
    /// How many of them only wait there for a slot.
    pub waiting: u32,
}

/// An account, to be read.
#[derive(Clone, Debug)]
pub struct AccountView<'a> {
    /// Which.
    pub name: &'a AccountName,
    /// Attempts that work on it.
    pub in_use: u32,
    /// How many it may have at once; none is no limit.
    pub max: Option<u32>,
    /// How many it bears for a while.
    pub slowed_to: Option<u32>,
    /// Nothing is started on it before that.
    pub parked_until: Option<Timestamp>,
    /// Why it is parked or slowed.
    pub why: &'a str,
    /// The runners that use it; empty where only parked ones are asked for.
    pub runners: BTreeSet<&'a RunnerName>,
    /// The workers that have it; empty where only parked ones are asked for.
    pub workers: BTreeSet<&'a WorkerId>,
}

/// What one slot of a runner does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentState {
    /// Nothing.
    Idle,
    /// It works on this attempt.
    Busy(AttemptId),
    /// None: this attempt only waits there for one.
    Waiting(AttemptId),
    /// Its worker is away; what it does is not known.
    Offline(Option<AttemptId>),
}

/// One slot of a runner on a worker.
#[derive(Clone, Debug)]
pub struct AgentView<'a> {
    /// Where.
    pub worker: &'a WorkerInfo,
    /// Which runner.
    pub runner: &'a RunnerName,
    /// What it does.
    pub state: AgentState,
}

impl Core {
    /// Counts all tasks, in constant time.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Reads a task.
    #[must_use]
    pub fn task(&self, id: TaskId) -> Option<TaskView<'_>> {
        let task = self.tasks.get(&id)?;
        Some(TaskView {
            row: &task.row,
            status: task.status(),
            silent_since: self.overdue.silent_since(id),
            waits_for: task.waits_for.iter().collect(),
            reason: self
                .waiting_reason(task)
                .or_else(|| last_reason(task).cloned())
                .or_else(|| self.blocked_reason(task)),
        })
    }

    /// Lists tasks. A page may be short, or even empty, and still have a next one: where few of
    /// very many tasks fit, it ends early.
    #[must_use]
    pub fn list(&self, filter: &Filter) -> Page {
        let statuses = &filter.statuses;
        if filter.newest_first {
            let below = filter.after.unwrap_or(TaskId(u64::MAX));
            filter.page(self.tasks.range(..below, statuses).rev())
        } else {
            let from = TaskId(filter.after.map_or(0, |id| id.0.saturating_add(1)));
            filter.page(self.tasks.range(from.., statuses))
        }
    }

    /// The ids of all tasks that have not ended.
    pub fn open_tasks(&self) -> impl Iterator<Item = TaskId> {
        self.tasks
            .values()
            .filter(|t| !t.status().is_ended())
            .map(|t| t.row.id)
    }

    /// Reads all workers.
    pub fn workers(&self) -> impl Iterator<Item = WorkerView<'_>> {
        self.workers.values().map(|w| WorkerView {
            info: &w.row.info,
            link: w.link,
            availability: w.row.availability,
            joined_at: w.row.joined_at,
            last_seen: w.heard.then_some(w.last_seen),
            attempts: w.attempts.keys().copied().collect(),
            waiting: u32::try_from(self.ordered_ahead(w).len()).unwrap_or(u32::MAX),
        })
    }

    /// Reads all slots of ready runners: busy ones first, with what waits for one, then as many idle ones as
    /// could start.
    #[must_use]
    pub fn agents(&self) -> Vec<AgentView<'_>> {
        let workers = self.workers.values();
        workers
            .flat_map(|w| w.agents(&self.ordered_ahead(w)))
            .collect()
    }

    /// The worker that holds an attempt now.
    #[must_use]
    pub fn holder(&self, attempt: AttemptId) -> Option<&WorkerId> {
        self.tasks.get(&attempt.task)?.holder(attempt.number)
    }

    /// Why a queued task that nobody stands before is not started.
    pub(crate) fn waiting_reason(&self, task: &Task) -> Option<Failure> {
        match task.row.state {
            State::Queued { .. } => {
                let held = self.budgets.held_reason(task.row.id).cloned();
                held.or_else(|| self.account_reason(&Requirement::of(&task.row.facts)))
            }
            State::Blocked
            | State::Assigned { .. }
            | State::Running { .. }
            | State::Closing { .. }
            | State::Ended { .. } => None,
        }
    }

    /// Why a blocked task cannot go on by itself: a task before it ended without success, or is held by
    /// a budget that somebody must raise.
    fn blocked_reason(&self, task: &Task) -> Option<Failure> {
        let before = self.kept_back_by(task.row.id)?;
        if let Some(why) = self.budgets.held_reason(before) {
            let message = format!("{before} waits: {}", why.message);
            return Some(Failure::new(why.code, message));
        }
        let status = self.tasks.get(&before)?.status();
        Some(dependency_failed(before, status))
    }
}

/// What the task's row says of how it came to be as it is. A budget stops a task until it goes on: one
/// that was raised, or is another one on another day, is no reason any more; what is used up now is
/// known by the budgets.
fn last_reason(task: &Task) -> Option<&Failure> {
    let reason = task.row.reason.as_deref()?;
    let of_pause = reason.code == FailureCode::BudgetExceeded;
    (!of_pause || task.status().is_ended()).then_some(reason)
}

/// Most tasks that one page looks at: whoever wants more asks again, and others have their turn.
const LOOKED_AT_MAX: usize = 20_000;

impl Filter {
    /// The first of these tasks that fit. Ends early where few do.
    fn page<'a>(&self, tasks: impl Iterator<Item = &'a Task>) -> Page {
        let mut page = Page::default();
        let mut last = None;
        for (looked_at, task) in tasks.enumerate() {
            if looked_at >= LOOKED_AT_MAX {
                page.next = last;
                return page;
            }
            last = Some(task.row.id);
            if !self.fits(task) {
                continue;
            }
            if page.ids.len() >= self.limit.max(1) {
                page.next = page.ids.last().copied();
                return page;
            }
            page.ids.push(task.row.id);
        }
        page
    }

    fn fits(&self, task: &Task) -> bool {
        let row = &task.row;
        let status = self.statuses.is_empty() || self.statuses.contains(&task.status());
        let labels = self
            .labels
            .iter()
            .all(|(k, v)| row.facts.labels.get(k) == Some(v));
        let runner = self.runner.as_ref().is_none_or(|wanted| {
            let used = row.last.as_ref().map(|last| &last.runner);
            used.or(row.facts.runner.as_ref()) == Some(wanted)
        });
        let project = self.project.as_ref().is_none_or(|wanted| {
            let project = row.facts.project.as_ref();
            project.is_some_and(|(id, name)| id.as_str() == wanted || name == wanted)
        });
        let submitter = self.submitter.as_ref().is_none_or(|wanted| {
            let is = row.facts.submitter.as_str();
            is == wanted || is.rsplit_once('@').is_some_and(|(user, _)| user == wanted)
        });
        status && labels && runner && project && submitter
    }
}

impl Worker {
    fn agents(&self, ahead: &BTreeSet<AttemptId>) -> Vec<AgentView<'_>> {
        let mut agents = Vec::new();
        let mut free = self.free_slots();
        for runner in &self.row.info.runners {
            let busy: Vec<AttemptId> = self.attempts_of(&runner.name).collect();
            for attempt in &busy {
                let state = match self.link {
                    Link::Connected(_) if ahead.contains(attempt) => AgentState::Waiting(*attempt),
                    Link::Connected(_) => AgentState::Busy(*attempt),
                    Link::Disconnected | Link::Lost => AgentState::Offline(Some(*attempt)),
                };
                agents.push(AgentView {
                    worker: &self.row.info,
                    runner: &runner.name,
                    state,
                });
            }
            if runner.readiness != Readiness::Ready || !runner.agentic {
                continue;
            }
            let used = u32::try_from(busy.len()).unwrap_or(u32::MAX);
            let idle = runner.slots.saturating_sub(used).min(free);
            free -= idle;
            let state = match self.link {
                Link::Connected(_) => AgentState::Idle,
                Link::Disconnected | Link::Lost => AgentState::Offline(None),
            };
            let view = AgentView {
                worker: &self.row.info,
                runner: &runner.name,
                state,
            };
            agents.extend(std::iter::repeat_n(view, idle as usize));
        }
        agents
    }
}
