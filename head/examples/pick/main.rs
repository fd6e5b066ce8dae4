//! What the core's queue costs: time to find the next task for a worker, to give a freed slot its
//! next task, memory of a waiting task, time to restore all of it, and reading a page.
//!
//! `cargo run --release -p orchestra-head --example pick -- [TASKS]…` prints one JSON document for
//! each size (1,000, 100,000 and 1,000,000 by default). Tasks have 300 bytes of description; they
//! make 64 classes of runner and labels and 100 shares. Each of the four runners works on three accounts,
//! all limited, and two accounts are parked.
//!
//! `pick_ns` is `Core::would_start`: which task goes next at a worker, and nothing else. `step_ns` is
//! `Core::handle` for a worker's final report, which ends a task, frees a slot, picks and assigns the next
//! one. Between two picks other memory is read, so that they find cold caches. `bytes_per_task` is the growth of the
//! resident set while tasks are submitted, the allocator's share included. `tidy_ms` is what the engine does
//! when it rests, before the picks: it gives memory back and puts the rest into large pages. `raw` is what the machine can do:
//! one read of memory that hangs on the one before, among 256 MiB, before and after. All times are the
//! thread's processor time: what else runs on the machine counts only as far as it takes caches and memory.

mod machine;
mod world;

use std::{collections::BTreeMap, hint::black_box};

use machine::{Chain, cpu_ns, memory_read_ns, resident};
use orchestra_core::{
    Config, ConnectionId, Core, Filter, Input, Report, ReportBody, RequestId, Rows,
};
use orchestra_head::memory::Keeper;
use orchestra_types::{
    AccountName, ApplyResult, AttemptId, Failure, FailureCode, Outcome, TaskStatus, Timestamp,
};
use world::{ACCOUNTS, RUNNERS, account, attach, outcome, starts, task, worker_id};

const WORKERS: u32 = 48;
const PICKS: usize = 20_000;
const CALL: usize = 10_000;
const IDLE_WORKERS: u32 = 10_000;
const NOW: u64 = 2_000_000_000;
/// What is read between two picks: half of a cache of the second level.
const BETWEEN_BYTES: usize = 512 * 1024;

fn main() {
    let sizes: Vec<usize> = std::env::args()
        .skip(1)
        .filter_map(|n| n.parse().ok())
        .collect();
    let sizes = if sizes.is_empty() {
        vec![1_000, 100_000, 1_000_000]
    } else {
        sizes
    };
    for tasks in sizes {
        measure(tasks);
    }
}

fn config() -> Config {
    let all = RUNNERS
        .iter()
        .flat_map(|runner| (0..ACCOUNTS).map(|n| (account(runner, n), 1000)));
    Config {
        queue_max: u64::MAX,
        accounts: all.collect(),
        ..Config::default()
    }
}

fn measure(tasks: usize) {
    let raw_before = memory_read_ns();
    let mut core = Core::new(config());
    let before = resident();
    let started = cpu_ns();
    for first in (0..tasks).step_by(CALL) {
        submit(&mut core, first..tasks.min(first + CALL));
    }
    let submit_ns = (cpu_ns() - started) / (tasks as u64).max(1);
    let bytes = resident().saturating_sub(before) / tasks.max(1) as u64;
    let page_ns = page(&core);
    let restore_ms = restore(&core);
    let tidy_ms = tidy();
    let mut bench = Bench::new(core);
    let parked = bench.park(&[account(RUNNERS[0], 1), account(RUNNERS[1], 2)]);
    let steps = distribution(bench.steps());
    let picks = distribution(bench.picks());
    let idle = distribution(idle());
    let raw_after = memory_read_ns();
    println!(
        "{{\"tasks\":{tasks},\"pick_ns\":{picks},\"step_ns\":{steps},\"parked_accounts\":{parked},\
         \"submit_ns_per_task\":{submit_ns},\"bytes_per_task\":{bytes},\"restore_ms\":{restore_ms},\
         \"tidy_ms\":{tidy_ms},\"page_ns\":{page_ns},\"submit_with_{IDLE_WORKERS}_idle_workers_ns\":{idle},\
         \"raw\":{{\"memory_read_ns\":[{raw_before},{raw_after}]}}}}"
    );
}

fn submit(core: &mut Core, tasks: std::ops::Range<usize>) {
    let at = Timestamp(tasks.start as u64);
    let key = format!("key-{}", tasks.start);
    let submit = Input::Submit {
        request: RequestId(1),
        key,
        tasks: tasks.map(task).collect(),
    };
    drop(core.handle(at, submit));
}

fn distribution(mut times: Vec<u64>) -> String {
    times.sort_unstable();
    let last = times.len().saturating_sub(1) as f64;
    let at = |part: f64| times.get((last * part) as usize).copied().unwrap_or(0);
    format!(
        "{{\"n\":{},\"p50\":{},\"p99\":{},\"p999\":{},\"max\":{}}}",
        times.len(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    )
}

/// First pages of 100 tasks: all, those of a status that few have, and of a label that none has.
fn page(core: &Core) -> String {
    let time = |filter: &Filter| {
        let times = (0..21).map(|_| {
            let started = cpu_ns();
            black_box(core.list(filter));
            cpu_ns() - started
        });
        let mut times: Vec<u64> = times.collect();
        times.sort_unstable();
        times[times.len() / 2]
    };
    let all = Filter {
        limit: 100,
        newest_first: true,
        ..Filter::default()
    };
    let rare = Filter {
        statuses: vec![TaskStatus::NeedsReview],
        ..all.clone()
    };
    let label = Filter {
        labels: BTreeMap::from([("nobody".to_owned(), "has it".to_owned())]),
        ..all.clone()
    };
    let times = [time(&all), time(&rare), time(&label)];
    let [all, rare, label] = times;
    format!("{{\"all\":{all},\"rare_status\":{rare},\"rare_label\":{label}}}")
}

/// What the head's engine does with its memory when it rests. Says how long it took.
fn tidy() -> u64 {
    let started = cpu_ns();
    let mut memory = Keeper::new();
    while memory.tidy() {}
    (cpu_ns() - started) / 1_000_000
}

fn restore(core: &Core) -> u64 {
    let rows: Vec<_> = core
        .open_tasks()
        .filter_map(|id| Some(core.task(id)?.row.clone()))
        .collect();
    let rows = Rows {
        tasks: rows,
        ..Rows::default()
    };
    let started = cpu_ns();
    let (core, step) = Core::restore(config(), Timestamp(0), rows);
    let took = (cpu_ns() - started) / 1_000_000;
    drop((core, step));
    took
}

/// Single tasks submitted to many workers of which all are idle.
fn idle() -> Vec<u64> {
    let mut core = Core::new(config());
    for n in 0..IDLE_WORKERS {
        attach(&mut core, n);
    }
    let times = (0..1000).map(|n| {
        let started = cpu_ns();
        submit(&mut core, n..n + 1);
        cpu_ns() - started
    });
    times.collect()
}

/// A core with busy workers.
struct Bench {
    core: Core,
    now: Timestamp,
    /// What runs, and on which worker.
    held: Vec<(AttemptId, u32)>,
    /// The latest report of each worker.
    seqs: Vec<u64>,
    between: Chain,
}

impl Bench {
    fn new(mut core: Core) -> Self {
        let held = (0..WORKERS).flat_map(|n| attach(&mut core, n)).collect();
        Self {
            core,
            now: Timestamp(NOW),
            held,
            seqs: vec![0; WORKERS as usize],
            between: Chain::new(BETWEEN_BYTES),
        }
    }

    /// Lets an attempt of each account meet its limit. Says how many accounts are parked.
    fn park(&mut self, accounts: &[AccountName]) -> usize {
        for name in accounts {
            let account_of = |(attempt, worker): &(AttemptId, u32)| {
                let runner = self.core.task(attempt.task)?.row.facts.runner.clone()?;
                Some(account(runner.as_str(), worker % ACCOUNTS))
            };
            let runs_there = |held: &(AttemptId, u32)| account_of(held).as_ref() == Some(name);
            let Some(at) = self.held.iter().position(runs_there) else {
                continue;
            };
            let failure = Failure {
                resets_at: Some(Timestamp(NOW * 2)),
                ..Failure::new(FailureCode::QuotaExhausted, "no more until tomorrow")
            };
            self.end(
                at,
                Outcome {
                    failure: Some(failure),
                    ..outcome()
                },
            );
        }
        self.core.parked_accounts().len()
    }

    /// Ends attempts in turn; each end frees a slot that the core fills in the same step.
    fn steps(&mut self) -> Vec<u64> {
        let mut times = Vec::with_capacity(PICKS);
        for n in 0..PICKS {
            if self.held.is_empty() {
                break;
            }
            times.push(self.end(n % self.held.len(), outcome()));
        }
        times
    }

    /// Asks workers with free slots in turn what they would start, while nothing is started.
    fn picks(&mut self) -> Vec<u64> {
        drop(self.core.handle(self.now, Input::StopAssigning));
        while !self.held.is_empty() {
            self.end(0, outcome());
        }
        let workers: Vec<_> = (0..WORKERS).map(worker_id).collect();
        let picks = workers.iter().cycle().take(PICKS);
        let times = picks.filter_map(|worker| {
            self.between.read(BETWEEN_BYTES / 64);
            let started = cpu_ns();
            let found = black_box(self.core.would_start(self.now, worker));
            found.map(|_| cpu_ns() - started)
        });
        times.collect()
    }

    /// Ends an attempt. Says how long the step took.
    fn end(&mut self, at: usize, outcome: Outcome) -> u64 {
        let (attempt, worker) = self.held.swap_remove(at);
        self.now = Timestamp(self.now.0 + 1);
        let seq = &mut self.seqs[worker as usize];
        *seq += 1;
        let report = Report {
            seq: *seq,
            attempt,
            body: ReportBody::Finished(Box::new(outcome)),
        };
        let input = Input::Reported {
            connection: ConnectionId(u64::from(worker)),
            worker: worker_id(worker),
            report: Box::new(report),
            given_to: None,
        };
        let started = cpu_ns();
        let step = self.core.handle(self.now, input);
        let took = cpu_ns() - started;
        self.held.extend(starts(&step.messages));
        let apply = ApplyResult::NotRequested;
        let closed = self.core.handle(self.now, Input::Closed { attempt, apply });
        self.held.extend(starts(&closed.messages));
        took
    }
}
