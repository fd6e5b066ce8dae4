//! A test bench around the core: builders with defaults, short names, and everything that the core
//! said, so that a test can show that nothing else happened.

use std::{collections::BTreeMap, time::Duration};

use orchestra_types::{
    ApplyResult, AttemptId, Exit, Failure, FailureCode, OnDependencyFailure, Outcome, Priority,
    ProjectRef, RunnerName, TaskId, TaskSpec, TaskStatus, Timestamp, WorkerId,
    runner::{RunnerInfo, WorkerInfo},
};

use crate::{
    Change, Config, ConnectionId, Core, Held, Input, Message, NewTask, Reply, Report, ReportBody,
    RequestId, Rows, Step,
};

pub(super) struct Bench {
    pub core: Core,
    pub now: Timestamp,
    pub seqs: BTreeMap<WorkerId, u64>,
    /// All that was to be made durable.
    pub kept: Vec<Change>,
    next: u64,
}

impl Bench {
    pub fn new() -> Self {
        Self::with(Config::default())
    }

    pub fn with(config: Config) -> Self {
        Self {
            core: Core::new(config),
            now: Timestamp(1_000_000_000),
            seqs: BTreeMap::new(),
            kept: Vec::new(),
            next: 0,
        }
    }

    pub fn give(&mut self, input: Input) -> Step {
        let step = self.core.handle(self.now, input);
        assert_eq!(self.core.missed(self.now), None, "it fits a free slot");
        self.kept.extend(step.changes.iter().cloned());
        step
    }

    /// Time passes, with every tick in its time.
    pub fn later(&mut self, duration: Duration) -> Step {
        let end = self.now.plus(duration);
        let mut all = Step::default();
        while let Some(due) = self.core.next_deadline().filter(|due| *due < end) {
            self.now = self.now.max(due);
            let step = self.give(Input::Tick);
            all.changes.extend(step.changes);
            all.messages.extend(step.messages);
        }
        self.now = end;
        let last = self.give(Input::Tick);
        all.changes.extend(last.changes);
        all.messages.extend(last.messages);
        all
    }

    /// Time passes while the head is stopped or suspended.
    pub fn away(&mut self, duration: Duration) -> Step {
        self.now = self.now.plus(duration);
        self.give(Input::Tick)
    }

    pub fn submit(&mut self, tasks: Vec<NewTask>) -> Reply {
        self.next += 1;
        let key = format!("key-{}", self.next);
        self.submit_as(&key, tasks)
    }

    pub fn submit_as(&mut self, key: &str, tasks: Vec<NewTask>) -> Reply {
        reply(&self.submit_step_as(key, tasks))
    }

    pub fn submit_step(&mut self, tasks: Vec<NewTask>) -> Step {
        self.next += 1;
        let key = format!("key-{}", self.next);
        self.submit_step_as(&key, tasks)
    }

    fn submit_step_as(&mut self, key: &str, tasks: Vec<NewTask>) -> Step {
        self.give(Input::Submit {
            request: RequestId(7),
            key: key.to_owned(),
            tasks,
        })
    }

    pub fn add(&mut self, task: NewTask) -> TaskId {
        match self.submit(vec![task]) {
            Reply::Submitted {
                ids,
                duplicate: false,
            } => ids[0],
            other => panic!("not submitted: {other:?}"),
        }
    }

    pub fn attach(&mut self, info: &WorkerInfo, connection: u64, held: &[Held]) -> Step {
        self.give(Input::Attached {
            connection: ConnectionId(connection),
            info: Box::new(info.clone()),
            held: held.to_vec(),
            others: self.others(&info.id, held),
            first_unacked: 0,
        })
    }

    /// What the rows say: of what it holds, what was given to another worker.
    fn others(&self, worker: &WorkerId, held: &[Held]) -> Vec<AttemptId> {
        let its_own = |held: &&Held| {
            self.kept.iter().any(|change| match change {
                Change::Attempt(row) => row.id == held.attempt && row.worker == *worker,
                _ => false,
            })
        };
        let others = held.iter().filter(|held| !its_own(held));
        others.map(|held| held.attempt).collect()
    }

    pub fn detach(&mut self, worker: &str, connection: u64) -> Step {
        self.give(Input::Detached {
            connection: ConnectionId(connection),
            worker: worker.parse().unwrap(),
        })
    }

    /// A worker attaches that was told more than this head knows.
    pub fn attach_ahead(
        &mut self,
        info: &WorkerInfo,
        connection: u64,
        held: &[Held],
        first_unacked: u64,
    ) -> Step {
        self.seqs.insert(info.id.clone(), first_unacked - 1);
        self.give(Input::Attached {
            connection: ConnectionId(connection),
            info: Box::new(info.clone()),
            held: held.to_vec(),
            others: self.others(&info.id, held),
            first_unacked,
        })
    }

    pub fn report(
        &mut self,
        worker: &str,
        connection: u64,
        attempt: AttemptId,
        body: ReportBody,
    ) -> Step {
        let worker: WorkerId = worker.parse().unwrap();
        let seq = self.seqs.entry(worker.clone()).or_default();
        *seq += 1;
        let report = Box::new(Report {
            seq: *seq,
            attempt,
            body,
        });
        let given_to = self.kept.iter().rev().find_map(|change| match change {
            Change::Attempt(row) if row.id == attempt => Some(Box::new(row.worker.clone())),
            _ => None,
        });
        self.give(Input::Reported {
            connection: ConnectionId(connection),
            worker,
            report,
            given_to,
        })
    }

    pub fn finish(
        &mut self,
        worker: &str,
        connection: u64,
        attempt: AttemptId,
        failure: Option<FailureCode>,
    ) -> Step {
        self.report(worker, connection, attempt, finished(failure))
    }

    pub fn close(&mut self, attempt: AttemptId) -> Step {
        self.give(Input::Closed {
            attempt,
            apply: ApplyResult::NotRequested,
        })
    }

    pub fn status(&self, id: TaskId) -> TaskStatus {
        self.core.task(id).expect("the task exists").status
    }

    /// Rebuilds the core from every change so far would have to be kept; instead the caller gives
    /// the rows that a store would hold.
    /// The head ends, and starts again with what was made durable.
    pub fn restart(&mut self) -> Step {
        let step = self.restore(rows(&self.kept));
        self.kept.extend(step.changes.iter().cloned());
        step
    }

    pub fn restore(&mut self, rows: Rows) -> Step {
        let (core, step) = Core::restore(Config::default(), self.now, rows);
        self.core = core;
        step
    }
}

/// An attempt that a worker says it holds.
pub(super) fn held(task: TaskId, number: u32, started: bool) -> [Held; 1] {
    let attempt = attempt(task, number);
    [Held {
        attempt,
        started,
        running: None,
    }]
}

pub(super) fn finished(failure: Option<FailureCode>) -> ReportBody {
    ReportBody::Finished(Box::new(Outcome {
        failure: failure.map(|code| Failure::new(code, "said so")),
        text: "done".to_owned(),
        ..Outcome::bare(Exit::Code(0), Timestamp(0))
    }))
}

pub(super) fn task() -> NewTask {
    NewTask {
        spec: Box::new(TaskSpec {
            timeout: Duration::from_secs(60),
            project: Some(ProjectRef {
                id: "project".parse().unwrap(),
                name: "project".to_owned(),
                dir: "/project".into(),
                machine: "here".parse().unwrap(),
            }),
            submitter: "me@here".to_owned(),
            ..TaskSpec::new("write tests")
        }),
        after_index: Vec::new(),
    }
}

impl NewTask {
    pub(super) fn priority(mut self, priority: Priority) -> Self {
        self.spec.priority = priority;
        self
    }

    pub(super) fn runner(mut self, name: &str) -> Self {
        self.spec.runner = Some(name.parse().unwrap());
        self
    }

    pub(super) fn retries(mut self, retries: u32) -> Self {
        self.spec.retries = retries;
        self
    }

    pub(super) fn after(mut self, id: TaskId) -> Self {
        self.spec.after.push(id);
        self
    }

    /// What becomes of it when one before it does not succeed.
    pub(super) fn or(mut self, choice: OnDependencyFailure) -> Self {
        self.spec.on_dependency_failure = choice;
        self
    }

    pub(super) fn after_place(mut self, place: u32) -> Self {
        self.after_index.push(place);
        self
    }
}

pub(super) fn worker(id: &str, slots: u32, runners: &[(&str, u32)]) -> WorkerInfo {
    let runner = |(name, slots): &(&str, u32)| RunnerInfo {
        slots: *slots,
        agentic: *name != "shell",
        ..RunnerInfo::ready(name.parse().unwrap())
    };
    let machine = format!("machine-{id}").parse().unwrap();
    WorkerInfo {
        boot_id: "boot".to_owned(),
        incarnation: "1".to_owned(),
        slots,
        runners: runners.iter().map(runner).collect(),
        ..WorkerInfo::bare(id.parse().unwrap(), machine)
    }
}

pub(super) fn reply(step: &Step) -> Reply {
    let replies = step.messages.iter().filter_map(|message| match message {
        Message::Reply { reply, .. } => Some(reply.clone()),
        _ => None,
    });
    let replies: Vec<Reply> = replies.collect();
    assert_eq!(replies.len(), 1, "exactly one answer to each question");
    replies[0].clone()
}

/// What was ordered: attempt, connection and runner.
pub(super) fn starts(step: &Step) -> Vec<(AttemptId, u64, String)> {
    let start = |message: &Message| match message {
        Message::Start {
            connection,
            attempt,
            runner,
        } => Some((*attempt, connection.0, runner.to_string())),
        _ => None,
    };
    step.messages.iter().filter_map(start).collect()
}

pub(super) fn attempt(task: TaskId, number: u32) -> AttemptId {
    AttemptId { task, number }
}

pub(super) fn runner(name: &str) -> RunnerName {
    name.parse().unwrap()
}

/// The rows that a store would hold after these changes.
pub(super) fn rows(changes: &[Change]) -> Rows {
    let mut tasks = BTreeMap::new();
    let mut workers = BTreeMap::new();
    let mut acked: BTreeMap<WorkerId, u64> = BTreeMap::new();
    let mut accounts = BTreeMap::new();
    let mut schedules = BTreeMap::new();
    let mut ledgers = BTreeMap::new();
    let mut projects = BTreeMap::new();
    let mut rows = Rows::default();
    for change in changes {
        match change {
            Change::Task(row) => drop(tasks.insert(row.id, (**row).clone())),
            Change::Worker(row) => drop(workers.insert(row.info.id.clone(), (**row).clone())),
            Change::Acked { worker, up_to } => drop(acked.insert(worker.clone(), *up_to)),
            Change::Ledger(row) => drop(ledgers.insert(row.task, **row)),
            Change::Project(row) => drop(projects.insert(row.id.clone(), (**row).clone())),
            Change::Account(row) => drop(accounts.insert(row.name.clone(), (**row).clone())),
            Change::Schedule(row) => drop(schedules.insert(row.id, (**row).clone())),
            Change::ForgetSchedule { id } => drop(schedules.remove(id)),
            Change::ScheduleIds { last } => rows.schedule_ids = Some(*last),
            Change::Key(row) => rows.keys.push(row.clone()),
            Change::ForgetTask { id, .. } => {
                tasks.remove(id);
                ledgers.remove(id);
            }
            Change::ForgetKey { key } => rows.keys.retain(|row| row.key != *key),
            Change::ForgetWorker { id } => drop(workers.remove(id)),
            Change::Spec { .. }
            | Change::Attempt(_)
            | Change::Outcome(_)
            | Change::ForgetOutcome { .. } => {}
        }
    }
    rows.tasks = tasks.into_values().collect();
    rows.schedules = schedules.into_values().collect();
    rows.accounts = accounts.into_values().collect();
    rows.ledgers = ledgers.into_values().collect();
    rows.projects = projects.into_values().collect();
    let with_acked = |row: crate::WorkerRow| {
        let up_to = acked.get(&row.info.id).copied().unwrap_or(0);
        (row, up_to)
    };
    rows.workers = workers.into_values().map(with_acked).collect();
    rows
}
