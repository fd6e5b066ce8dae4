//! What the core's queue costs: time to give a freed slot its next task, memory of a waiting task,
//! time to restore all of it, and reading a page.
//!
//! `cargo run --release -p orchestra-core --example pick -- [TASKS]…` prints one JSON document for
//! each size (1,000, 100,000 and 1,000,000 by default). Tasks have 300 bytes of description; they
//! make 64 classes of runner and labels and 100 shares. `pick_ns` is `Core::handle` for a worker's
//! final report, which ends a task, frees a slot and fills it again; memory is the growth of the
//! resident set while tasks are submitted, the allocator's share included. `raw` is what the machine can do: one
//! read of memory that hangs on the one before, among 256 MiB. All times are the thread's processor time: what
//! else runs on the machine does not count.

use std::{collections::BTreeMap, fs, hint::black_box};

use orchestra_core::{
    Config, ConnectionId, Core, Filter, Input, Message, NewTask, Report, ReportBody, RequestId,
    Rows,
};
use orchestra_types::{
    ApplyResult, AttemptId, Exit, ManifestSummary, Outcome, Priority, ProjectRef, TaskSpec,
    TaskStatus, Timestamp, Usage, WorkerId,
    runner::{Readiness, RunnerInfo, WorkerInfo},
};

const WORKERS: u32 = 16;
const SLOTS: u32 = 8;
const RUNNERS: [&str; 4] = ["claude", "codex", "gemini", "goose"];
const LABELS: usize = 16;
const PROJECTS: usize = 10;
const SUBMITTERS: usize = 10;
const PICKS: usize = 20_000;
const CALL: usize = 10_000;
const IDLE_WORKERS: u32 = 10_000;

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
    let raw = memory_read_ns();
    for tasks in sizes {
        measure(tasks, raw);
    }
}

fn config() -> Config {
    Config {
        queue_max: u64::MAX,
        ..Config::default()
    }
}

fn measure(tasks: usize, raw: u64) {
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
    let mut held = Vec::new();
    for n in 0..WORKERS {
        held.extend(attach(&mut core, n));
    }
    let picks = distribution(picks(&mut core, &mut held));
    let idle = distribution(idle());
    println!(
        "{{\"tasks\":{tasks},\"pick_ns\":{picks},\"submit_ns_per_task\":{submit_ns},\
         \"bytes_per_task\":{bytes},\"restore_ms\":{restore_ms},\"page_ns\":{page_ns},\
         \"submit_with_{IDLE_WORKERS}_idle_workers_ns\":{idle},\
         \"raw\":{{\"memory_read_ns\":{raw}}}}}"
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
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
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

/// Ends attempts in turn; each end frees a slot that the core fills in the same step.
fn picks(core: &mut Core, held: &mut Vec<(AttemptId, u32)>) -> Vec<u64> {
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
        let started = cpu_ns();
        let step = core.handle(now, input);
        times.push(cpu_ns() - started);
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
        prefetch: 0,
        agentic: true,
        account: None,
        login: orchestra_types::runner::Login::Unknown,
        model: String::new(),
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
        labels: labels(n),
        runners: RUNNERS.iter().map(runner).collect(),
        kill_method: "none".to_owned(),
        cores: 2,
        memory_bytes: 0,
        disk_bytes: 0,
        disk_free_bytes: 0,
        isolation: String::new(),
    };
    let connection = ConnectionId(u64::from(n));
    let attached = Input::Attached {
        connection,
        info: Box::new(info),
        held: Vec::new(),
        first_unacked: 0,
    };
    starts(&core.handle(Timestamp(2_000_000_000), attached).messages)
}

/// Each worker has the tools `t0` or `t1` to `t3` by its number, a zone and a tier.
fn labels(n: u32) -> BTreeMap<String, String> {
    let all = [("zone", n % 4), ("tier", n % 4), ("tool", n / 4 % 4)];
    let text = |key: &str, value| match key {
        "tool" => format!("t{value}"),
        _ => format!("z{value}"),
    };
    let labels = all.into_iter();
    labels
        .map(|(key, value)| (key.to_owned(), text(key, value)))
        .collect()
}

fn worker_id(n: u32) -> WorkerId {
    format!("worker-{n}").parse().expect("a name")
}

/// 300 bytes of description; 64 classes, 100 shares, all priorities.
fn task(n: usize) -> NewTask {
    let runner = RUNNERS[n % RUNNERS.len()];
    let labels = match n / RUNNERS.len() % LABELS {
        0..4 => vec![],
        set @ 4..8 => vec![("zone", set % 4)],
        set @ 8..12 => vec![("tier", set % 4)],
        set => vec![("zone", set % 4), ("tier", set % 4)],
    };
    // What tells the four sets without a requirement on zone and tier apart.
    let set = n / RUNNERS.len() % LABELS % 4;
    let tool = ("tool".to_owned(), format!("t{set}"));
    let labels = labels
        .into_iter()
        .map(|(key, value)| (key.to_owned(), format!("z{value}")));
    let spread = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
    let project = spread % PROJECTS;
    NewTask {
        spec: TaskSpec {
            priority: Priority::ALL[spread / 1000 % 3],
            runner: Some(runner.parse().expect("a constant name")),
            timeout: std::time::Duration::from_secs(60),
            requires: labels.chain([tool]).collect(),
            project: Some(ProjectRef {
                id: format!("dir-{project}").parse().expect("a name"),
                name: format!("project-{project}"),
                dir: format!("/home/someone/project-{project}").into(),
                machine: "bench".parse().expect("a constant name"),
            }),
            submitter: format!("user-{}@bench", spread / PROJECTS % SUBMITTERS),
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

/// Processor time of this thread.
fn cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
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

/// The time of one read of memory that hangs on the one before it.
fn memory_read_ns() -> u64 {
    const WORDS: usize = 32 * 1024 * 1024;
    const READS: usize = 2_000_000;
    // A step that visits every place once: odd, and about a golden section of the whole.
    let step = (WORDS as f64 * 0.618_034) as usize | 1;
    let next: Vec<usize> = (0..WORDS).map(|at| (at + step) % WORDS).collect();
    let started = cpu_ns();
    let mut at = 0;
    for _ in 0..READS {
        at = next[at];
    }
    black_box(at);
    (cpu_ns() - started) / READS as u64
}
