//! Seeded worlds: a core, workers that lose streams and memory, a store that is reread after
//! crashes. Invariants hold after each step, and after healing everything ends.

use std::{collections::BTreeMap, time::Duration};

use orchestra_types::{
    ApplyResult, AttemptId, FailureCode, TaskId, TaskStatus, WorkerId, runner::WorkerInfo,
};

use super::bench::{Bench, finished, rows, task, worker};
use crate::{Change, ConnectionId, Held, Input, Message, Report, ReportBody, RequestId, Step};

/// Steps of one world before it heals.
const STEPS: u32 = 120;
/// Steps that a healed world may take to end everything.
const HEAL_STEPS: u32 = 4000;

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// A worker as the world plays it: what is on its disk, and its stream.
struct SimWorker {
    info: WorkerInfo,
    connection: Option<u64>,
    running: Vec<AttemptId>,
    /// Reports on its disk that are not acknowledged.
    spool: BTreeMap<u64, (AttemptId, ReportBody)>,
    last_seq: u64,
}

struct World {
    bench: Bench,
    random: Random,
    workers: BTreeMap<WorkerId, SimWorker>,
    next_connection: u64,
    durable: Vec<Change>,
    closing: Vec<AttemptId>,
    /// The result that was recorded for each attempt, to see that it never changes.
    recorded: BTreeMap<AttemptId, bool>,
    seed: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut workers = BTreeMap::new();
        for name in ["a", "b", "c"] {
            let info = worker(name, 2, &[("claude", 2), ("codex", 1)]);
            let sim = SimWorker {
                info: info.clone(),
                connection: None,
                running: Vec::new(),
                spool: BTreeMap::new(),
                last_seq: 0,
            };
            workers.insert(info.id, sim);
        }
        Self {
            bench: Bench::new(),
            random: Random(seed),
            workers,
            next_connection: 0,
            durable: Vec::new(),
            closing: Vec::new(),
            recorded: BTreeMap::new(),
            seed,
        }
    }

    fn give(&mut self, input: Input) {
        let step = self.bench.give(input);
        self.after(step);
    }

    fn after(&mut self, step: Step) {
        for change in &step.changes {
            if let Change::Outcome(row) = change {
                let before = self.recorded.insert(row.id, row.result.is_ok());
                assert!(
                    before != Some(true),
                    "seed {}: result of {} twice",
                    self.seed,
                    row.id
                );
            }
        }
        self.durable.extend(step.changes);
        // Each message may be lost with the process or the stream: a fifth of the orders is.
        for message in step.messages {
            self.deliver(message);
        }
        self.check();
    }

    fn deliver(&mut self, message: Message) {
        match message {
            Message::Start {
                connection,
                attempt,
                ..
            } => {
                if self.random.below(5) == 0 {
                    return self.cut(connection);
                }
                if let Some(worker) = self.on(connection)
                    && !worker.running.contains(&attempt)
                {
                    worker.running.push(attempt);
                }
            }
            Message::Stop {
                connection,
                attempt,
                ..
            } => {
                if let Some(worker) = self.on(connection) {
                    worker.end(attempt, Some(FailureCode::Cancelled));
                }
            }
            Message::Welcome {
                connection,
                welcome,
            } => {
                if let Some(worker) = self.on(connection) {
                    worker.spool.retain(|seq, _| *seq > welcome.acked_up_to);
                    worker.running.retain(|a| !welcome.kill.contains(a));
                }
            }
            // An acknowledgement that is lost makes the worker say it all again.
            Message::AckReports { .. } if self.random.below(4) == 0 => {}
            Message::AckReports { connection, up_to } => {
                if let Some(worker) = self.on(connection) {
                    worker.spool.retain(|seq, _| *seq > up_to);
                }
            }
            Message::Disconnect { connection } => self.cut(connection),
            Message::Close { attempt, .. } => self.closing.push(attempt),
            Message::Reply { .. }
            | Message::Availability { .. }
            | Message::Changed { .. }
            | Message::Forgotten { .. } => {}
        }
    }

    fn on(&mut self, connection: ConnectionId) -> Option<&mut SimWorker> {
        self.workers
            .values_mut()
            .find(|w| w.connection == Some(connection.0))
    }

    fn cut(&mut self, connection: ConnectionId) {
        if let Some(worker) = self.on(connection) {
            worker.connection = None;
        }
    }

    fn pick(&mut self) -> WorkerId {
        let n = self.random.below(self.workers.len() as u64) as usize;
        self.workers.keys().nth(n).expect("in range").clone()
    }

    fn attach(&mut self, id: &WorkerId) {
        self.next_connection += 1;
        let connection = self.next_connection;
        let worker = self.workers.get_mut(id).expect("it exists");
        worker.connection = Some(connection);
        let held = worker.held();
        let info = Box::new(worker.info.clone());
        self.give(Input::Attached {
            connection: ConnectionId(connection),
            info,
            held,
        });
        self.resend(id);
    }

    fn resend(&mut self, id: &WorkerId) {
        let worker = &self.workers[id];
        let Some(connection) = worker.connection else {
            return;
        };
        let reports: Vec<_> = worker.spool.iter().map(|(s, r)| (*s, r.clone())).collect();
        for (seq, (attempt, body)) in reports {
            let report = Box::new(Report { seq, attempt, body });
            let connection = ConnectionId(connection);
            self.give(Input::Reported {
                connection,
                worker: id.clone(),
                report,
            });
        }
    }

    fn crash(&mut self) {
        let rows = rows(&self.durable);
        for worker in self.workers.values_mut() {
            worker.connection = None;
        }
        self.closing.clear();
        let step = self.bench.restore(rows);
        self.after(step);
    }

    fn act(&mut self) {
        let id = self.pick();
        match self.random.below(14) {
            0 | 1 => self.submit(),
            2 => self.attach(&id),
            3 => {
                let worker = self.workers.get_mut(&id).expect("it exists");
                if let Some(connection) = worker.connection.take() {
                    let connection = ConnectionId(connection);
                    self.give(Input::Detached {
                        connection,
                        worker: id,
                    });
                }
            }
            4..=6 => self.end_one(&id),
            7 => self.start_one(&id),
            8 => self.resend(&id),
            9 | 10 => {
                if let Some(attempt) = self.closing.pop() {
                    self.give(Input::Closed {
                        attempt,
                        apply: ApplyResult::NotRequested,
                    });
                }
            }
            11 => {
                let ms = self.random.below(60_000);
                let step = self.bench.later(Duration::from_millis(ms));
                self.after(step);
            }
            12 => {
                let count = self.bench.core.list(&crate::Filter {
                    limit: 1000,
                    ..Default::default()
                });
                let n = self.random.below(count.ids.len().max(1) as u64) as usize;
                if let Some(task) = count.ids.get(n).copied() {
                    let request = RequestId(1);
                    self.give(Input::Cancel { request, task });
                }
            }
            _ => self.crash(),
        }
    }

    fn submit(&mut self) {
        let mut new = task().retries(self.random.below(3) as u32);
        let last = self.bench.core.counts().open();
        if last > 0 && self.random.below(3) == 0 {
            let page = self.bench.core.list(&crate::Filter {
                limit: 1000,
                ..Default::default()
            });
            let n = self.random.below(page.ids.len() as u64) as usize;
            new = new.after(page.ids[n]);
        }
        let key = format!("{}-{}", self.seed, self.random.below(u64::MAX >> 33));
        self.give(Input::Submit {
            request: RequestId(1),
            key,
            tasks: vec![new],
        });
    }

    fn end_one(&mut self, id: &WorkerId) {
        let failure = (self.random.below(3) == 0).then_some(FailureCode::AgentFailed);
        let worker = self.workers.get_mut(id).expect("it exists");
        if let Some(attempt) = worker.running.first().copied() {
            worker.end(attempt, failure);
        }
        self.resend(id);
    }

    fn start_one(&mut self, id: &WorkerId) {
        let worker = self.workers.get_mut(id).expect("it exists");
        if let Some(attempt) = worker.running.last().copied() {
            worker.say(attempt, ReportBody::Started);
        }
        self.resend(id);
    }

    /// What must hold after every step.
    fn check(&self) {
        let core = &self.bench.core;
        let page = core.list(&crate::Filter {
            limit: usize::MAX - 1,
            ..Default::default()
        });
        let mut by_status = BTreeMap::new();
        for id in &page.ids {
            let view = core.task(*id).expect("listed");
            *by_status.entry(view.status).or_insert(0) += 1;
            let attempt = AttemptId {
                task: *id,
                number: view.row.attempts,
            };
            let holders = core
                .workers()
                .filter(|w| w.attempts.iter().any(|a| a.task == *id));
            let held = core.holder(attempt).is_some();
            assert_eq!(
                holders.count(),
                usize::from(held),
                "seed {}: {id}",
                self.seed
            );
            let waits = view.waits_for.iter().any(|b| {
                core.task(*b)
                    .is_none_or(|t| t.status != TaskStatus::Succeeded)
            });
            if matches!(
                view.status,
                TaskStatus::Assigned | TaskStatus::Running | TaskStatus::Queued
            ) {
                assert!(
                    !waits,
                    "seed {}: {id} goes before what it comes after",
                    self.seed
                );
            }
        }
        for status in TaskStatus::ALL {
            let counted = core.counts().with_status(status);
            assert_eq!(
                counted,
                by_status.get(&status).copied().unwrap_or(0),
                "seed {}",
                self.seed
            );
        }
        for worker in core.workers() {
            let most = worker.info.slots as usize;
            assert!(
                worker.attempts.len() <= most,
                "seed {}: too much at once",
                self.seed
            );
        }
    }

    /// Everyone is there and works: everything must end, except what waits for a failed task.
    fn heal(&mut self) {
        for step in 0..HEAL_STEPS {
            let ids: Vec<WorkerId> = self.workers.keys().cloned().collect();
            for id in ids {
                if self.workers[&id].connection.is_none() {
                    self.attach(&id);
                }
                self.start_one(&id);
                self.end_one(&id);
            }
            while let Some(attempt) = self.closing.pop() {
                self.give(Input::Closed {
                    attempt,
                    apply: ApplyResult::NotRequested,
                });
            }
            if self.is_quiet() {
                return;
            }
            let step_time = Duration::from_secs(if step % 8 == 0 { 30 } else { 1 });
            let step = self.bench.later(step_time);
            self.after(step);
        }
        let open: Vec<TaskId> = self.bench.core.open_tasks().collect();
        panic!("seed {}: never ended: {open:?}", self.seed);
    }

    fn is_quiet(&self) -> bool {
        let core = &self.bench.core;
        core.open_tasks().all(|id| {
            let view = core.task(id).expect("listed");
            view.status == TaskStatus::Blocked && view.reason.is_some()
        })
    }
}

impl SimWorker {
    fn say(&mut self, attempt: AttemptId, body: ReportBody) {
        self.last_seq += 1;
        self.spool.insert(self.last_seq, (attempt, body));
    }

    fn end(&mut self, attempt: AttemptId, failure: Option<FailureCode>) {
        if self.running.contains(&attempt) {
            self.running.retain(|a| *a != attempt);
            self.say(attempt, finished(failure));
        }
    }

    /// Running attempts, and those whose end is not acknowledged.
    fn held(&self) -> Vec<Held> {
        let unacknowledged = self
            .spool
            .values()
            .filter(|(_, b)| matches!(b, ReportBody::Finished(_)));
        let all = self
            .running
            .iter()
            .copied()
            .chain(unacknowledged.map(|(a, _)| *a));
        all.map(|attempt| Held {
            attempt,
            started: true,
        })
        .collect()
    }
}

#[test]
fn worlds_keep_their_invariants_and_end() {
    for seed in 0..1500 {
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.act();
        }
        world.heal();
    }
}
