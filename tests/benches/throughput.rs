//! Measures how many tasks a head and a worker of this machine bring to their end in a second, and what
//! of the processor's time that costs. Prints one JSON document with the machine's own limits,
//! taken in the same run.
//!
//! `cargo bench -p orchestra-tests --bench throughput -- [NOOP_TASKS [SHELL_TASKS [SHELL_PREFETCH]]]`
//!
//! Everything is real and durable: built binaries, one control stream over TLS, tasks submitted in
//! one call. `noop` tasks end at once inside the worker; `shell` tasks start `/bin/true`, each in a
//! directory of its own, under a supervisor, with its log and its events.

mod limits;

use std::{
    io::Write,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use orchestra_tests::{Binaries, Cluster, Setup};
use serde_json::{Value, json};

const NOOP_TASKS: u64 = 20_000;
const SHELL_TASKS: u64 = 300;
const SLOTS: u32 = 2;
/// Each look costs a process; its length is the error of the figures.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const GIVE_UP_AFTER: Duration = Duration::from_secs(600);

fn main() -> anyhow::Result<()> {
    // `cargo bench` adds a flag of its own.
    let mut counts = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let noop_tasks = counts.next().map_or(Ok(NOOP_TASKS), |n| n.parse())?;
    let shell_tasks = counts.next().map_or(Ok(SHELL_TASKS), |n| n.parse())?;
    let prefetch = counts.next().map(|n| n.parse::<u32>()).transpose()?;
    Binaries::build()?;
    let shell = prefetch.map(|n| format!("runners:\n  shell:\n    prefetch: {n}\n"));
    let config = format!("worker:\n  slots: {SLOTS}\n{}", shell.unwrap_or_default());
    let cluster = Cluster::new(Setup::new().config(&config))?;
    cluster.start()?;
    let noop = json!({"description": "nothing", "agent": "noop", "no_repo": true});
    let noop = drain(&cluster, &noop, noop_tasks)?;
    let shell = json!({"command": ["/bin/true"], "no_repo": true});
    let shell = drain(&cluster, &shell, shell_tasks)?;
    let document = json!({
        "slots": SLOTS,
        "shell_prefetch": prefetch,
        "noop": noop,
        "shell_true": shell,
        "machine": {
            "fdatasync_ms_p50": limits::fdatasync_ms(&cluster.state())?,
            "posix_spawn_true_per_second_two_threads": spawns_per_second(&["/bin/true"]),
            "with_a_process_between_per_second_two_threads": spawns_per_second(&BETWEEN),
        },
    });
    cluster.stop()?;
    writeln!(std::io::stdout(), "{document:#}")?;
    Ok(())
}

/// Submits `count` copies of a task in one call and waits until all have ended.
fn drain(cluster: &Cluster, task: &Value, count: u64) -> anyhow::Result<Value> {
    let file = cluster.path("tasks.jsonl");
    let lines = format!("{task}\n").repeat(usize::try_from(count)?);
    std::fs::write(&file, lines)?;
    let before = ended(cluster)?;
    let processes = [cluster.head_pid()?, cluster.worker_pid()?];
    let used = processes.map(processor_time);
    let began = Instant::now();
    let args = ["add", "-f", "tasks.jsonl", "--json"];
    cluster.ctl(&args)?.ok()?;
    let submitted = began.elapsed();
    while ended(cluster)? < before + count {
        ensure!(
            began.elapsed() < GIVE_UP_AFTER,
            "not within {GIVE_UP_AFTER:?}"
        );
        thread::sleep(LOOK_EVERY);
    }
    let took = began.elapsed();
    let mut per_task = processes.map(processor_time);
    for (after, before) in per_task.iter_mut().zip(used) {
        *after = (*after - before) * 1e6 / count as f64;
    }
    Ok(json!({
        "tasks": count,
        "seconds": took.as_secs_f64(),
        "ctl_add_seconds": submitted.as_secs_f64(),
        "tasks_per_second": (count as f64 / took.as_secs_f64()).round(),
        "head_cpu_us_per_task": per_task[0].round(),
        "worker_cpu_us_per_task": per_task[1].round(),
    }))
}

fn ended(cluster: &Cluster) -> anyhow::Result<u64> {
    let status = cluster.json(&["status"])?;
    let counts = status["tasks"].as_object().context("status has counts")?;
    let of = |name: &str| counts.get(name).and_then(Value::as_u64).unwrap_or(0);
    Ok(of("succeeded") + of("failed") + of("needs_review") + of("cancelled"))
}

/// Seconds of processor time of a process, its threads included.
fn processor_time(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Behind the name, which may hold anything, come the state and then numbers.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |place: usize| {
        fields
            .get(place)
            .and_then(|f| f.parse().ok())
            .unwrap_or(0.0)
    };
    (ticks(11) + ticks(12)) / rustix::param::clock_ticks_per_second() as f64
}

/// A process that starts `/bin/true`, waits for it and ends: what a supervisor is at least.
const BETWEEN: [&str; 3] = ["/bin/sh", "-c", "/bin/true; exit $?"];

/// How often a command can be started and waited for, by a small process on two threads.
fn spawns_per_second(command: &[&str]) -> f64 {
    let began = Instant::now();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..limits::ROUNDS {
                    let ended = Command::new(command[0]).args(&command[1..]).status();
                    debug_assert!(ended.is_ok());
                }
            });
        }
    });
    f64::from(2 * limits::ROUNDS) / began.elapsed().as_secs_f64()
}
