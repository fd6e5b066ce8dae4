//! How long the core takes to give a freed slot its next task, and how much memory tasks take.
//!
//! `cargo run --release -p orchestra-core --example pick -- [TASKS]` prints one JSON document.
//! Times are nanoseconds of `Core::handle` for a worker's final report, which frees a slot, and the
//! assignment that follows; memory is the growth of the resident set while tasks are submitted.

use std::{collections::BTreeMap, fs, time::Instant};

use orchestra_core::{
    Config, ConnectionId, Core, Input, Message, NewTask, Report, ReportBody, RequestId,
};
use orchestra_types::{
    ApplyResult, AttemptId, Exit, ManifestSummary, Outcome, Priority, TaskSpec, Timestamp, Usage,
    WorkerId,
    runner::{Readiness, RunnerInfo, WorkerInfo},
};

const WORKERS: u32 = 16;
const SLOTS: u32 = 8;
const RUNNERS: [&str; 4] = ["claude", "codex", "gemini", "goose"];
const PICKS: usize = 20_000;
const CALL: usize = 10_000;

fn main() {
    let tasks = std::env::args()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(1_000_000);
    let mut core = Core::new(Config {
        queue_max: u64::MAX,
        ..Config::default()
    });
    let before = resident();
    let started = Instant::now();
    for first in (0..tasks).step_by(CALL) {
        let batch = (first..tasks.min(first + CALL)).map(task).collect();
        let key = format!("key-{first}");
        let submit = Input::Submit {
            request: RequestId(1),
            key,
            tasks: batch,
        };
        drop(core.handle(Timestamp(first as u64), submit));
    }
    let submit_ns = started.elapsed().as_nanos() / (tasks as u128).max(1);
    let bytes = resident().saturating_sub(before);
    let mut held = Vec::new();
    for n in 0..WORKERS {
        held.extend(attach(&mut core, n));
    }
    let mut times = picks(&mut core, &mut held);
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    println!(
        "{{\"tasks\":{tasks},\"picks\":{},\"pick_ns\":{{\"p50\":{},\"p99\":{},\"p999\":{},\"max\":{}}},\
         \"submit_ns_per_task\":{submit_ns},\"bytes_per_task\":{}}}",
        times.len(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0),
        bytes / tasks.max(1) as u64
    );
}

/// Ends attempts in turn; each end frees a slot that the core fills in the same step.
fn picks(core: &mut Core, held: &mut Vec<(AttemptId, u32)>) -> Vec<u128> {
    let mut seqs: BTreeMap<u32, u64> = BTreeMap::new();
    let mut times = Vec::with_capacity(PICKS);
    for n in 0..PICKS {
        let now = Timestamp(2_000_000_000 + n as u64);
        let Some((attempt, worker)) = (!held.is_empty()).then(|| held.swap_remove(n % held.len()))
        else {
            break;
        };
        let seq = seqs.entry(worker).or_default();
        *seq += 1;
        let body = ReportBody::Finished(Box::new(outcome()));
        let input = Input::Reported {
            connection: ConnectionId(u64::from(worker)),
            worker: worker_id(worker),
            report: Box::new(Report {
                seq: *seq,
                attempt,
                body,
            }),
        };
        let started = Instant::now();
        let step = core.handle(now, input);
        times.push(started.elapsed().as_nanos());
        held.extend(starts(&step.messages));
        let _ = core.handle(
            now,
            Input::Closed {
                attempt,
                apply: ApplyResult::NotRequested,
            },
        );
    }
    times
}

fn starts(messages: &[Message]) -> Vec<(AttemptId, u32)> {
    let start = |message: &Message| match message {
        Message::Start {
            connection,
            attempt,
            ..
        } => Some((*attempt, connection.0 as u32)),
        _ => None,
    };
    messages.iter().filter_map(start).collect()
}

fn attach(core: &mut Core, n: u32) -> Vec<(AttemptId, u32)> {
    let runner = |name: &&str| RunnerInfo {
        name: name.parse().expect("a constant name"),
        version: "1".to_owned(),
        path: String::new(),
        readiness: Readiness::Ready,
        slots: SLOTS,
        agentic: true,
        account: None,
    };
    let info = WorkerInfo {
        id: worker_id(n),
        name: format!("worker-{n}"),
        hostname: "bench".to_owned(),
        machine: "bench".parse().expect("a constant name"),
        boot_id: "1".to_owned(),
        incarnation: "1".to_owned(),
        version: "0".to_owned(),
        pid: 1,
        slots: SLOTS,
        labels: BTreeMap::from([("zone".to_owned(), format!("z{}", n % 4))]),
        runners: RUNNERS.iter().map(runner).collect(),
        kill_method: "none".to_owned(),
        cores: 2,
        memory_bytes: 0,
    };
    let connection = ConnectionId(u64::from(n));
    let attached = Input::Attached {
        connection,
        info: Box::new(info),
        held: Vec::new(),
    };
    starts(&core.handle(Timestamp(2_000_000_000), attached).messages)
}

fn worker_id(n: u32) -> WorkerId {
    format!("worker-{n}").parse().expect("a name")
}

/// 300 bytes of description; runner and label make 20 classes of requirements.
fn task(n: usize) -> NewTask {
    let runner = RUNNERS
        .get(n % 5)
        .map(|name| name.parse().expect("a constant name"));
    let zone = n
        .is_multiple_of(2)
        .then(|| ("zone".to_owned(), format!("z{}", n / 2 % 4)));
    let priority = Priority::ALL[n % 3];
    NewTask {
        spec: TaskSpec {
            priority,
            runner,
            timeout: std::time::Duration::from_secs(60),
            requires: zone.into_iter().collect(),
            submitter: "bench".to_owned(),
            ..TaskSpec::new("d".repeat(300))
        },
        after_index: Vec::new(),
    }
}

fn outcome() -> Outcome {
    Outcome {
        exit: Exit::Code(0),
        failure: None,
        text: String::new(),
        usage: Usage::default(),
        session: String::new(),
        model: String::new(),
        files: ManifestSummary::default(),
        branch: String::new(),
        commit: String::new(),
        artifacts: Vec::new(),
        started_at: Timestamp(0),
        finished_at: Timestamp(0),
    }
}

/// Resident memory of this process in bytes.
fn resident() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm
        .split_whitespace()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(0);
    pages * 4096
}
