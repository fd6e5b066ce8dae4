//! The tasks and workers of the benchmark.

use std::collections::BTreeMap;

use orchestra_core::{ConnectionId, Core, Held, Input, Message, NewTask};
use orchestra_types::{
    AccountName, AttemptId, Exit, Outcome, Priority, ProjectRef, TaskSpec, Timestamp, WorkerId,
    runner::{RunnerInfo, WorkerInfo},
};

const SLOTS: u32 = 8;
pub const RUNNERS: [&str; 4] = ["claude", "codex", "gemini", "goose"];
const LABELS: usize = 16;
const PROJECTS: usize = 10;
const SUBMITTERS: usize = 10;
/// Accounts of each runner; a worker has one of them.
pub const ACCOUNTS: u32 = 3;

/// Attaches a worker. Gives what it is told to start.
pub fn attach(core: &mut Core, n: u32) -> Vec<(AttemptId, u32)> {
    let runner = |name: &&str| RunnerInfo {
        slots: SLOTS,
        account: Some(account(name, n % ACCOUNTS)),
        ..RunnerInfo::ready(name.parse().expect("a constant name"))
    };
    let info = WorkerInfo {
        boot_id: "1".to_owned(),
        incarnation: "1".to_owned(),
        slots: SLOTS,
        labels: labels(n),
        runners: RUNNERS.iter().map(runner).collect(),
        ..WorkerInfo::bare(worker_id(n), "bench".parse().expect("a constant name"))
    };
    let attached = Input::Attached {
        connection: ConnectionId(u64::from(n)),
        info: Box::new(info),
        held: Vec::<Held>::new(),
        others: Vec::new(),
        first_unacked: 0,
    };
    starts(&core.handle(Timestamp(2_000_000_000), attached).messages)
}

/// The orders to start, each with the number of its worker.
pub fn starts(messages: &[Message]) -> Vec<(AttemptId, u32)> {
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

/// An account of a runner: its provider, and a part of a hash.
pub fn account(runner: &str, n: u32) -> AccountName {
    let name = format!("{runner}-0123456789ab{n:04x}");
    name.parse().expect("a name")
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

pub fn worker_id(n: u32) -> WorkerId {
    format!("worker-{n}").parse().expect("a name")
}

/// 300 bytes of description; 64 classes, 100 shares, all priorities.
pub fn task(n: usize) -> NewTask {
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
        spec: Box::new(TaskSpec {
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
        }),
        after_index: Vec::new(),
    }
}

/// A success.
pub fn outcome() -> Outcome {
    Outcome::bare(Exit::Code(0), Timestamp(0))
}
