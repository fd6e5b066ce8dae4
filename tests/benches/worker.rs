//! Measures what a worker costs that has nothing to do, and what each running attempt adds, and
//! prints one JSON document.
//!
//! `cargo bench -p orchestra-tests --bench worker -- [ATTEMPTS [IDLE_SECONDS]]`
//!
//! Built binaries, as a person starts them. Memory is counted as the kernel shares it out (PSS), and
//! what belongs to a process alone; an attempt is `sleep`, whose own memory does not count.

use std::{
    fs,
    io::Write,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use orchestra_tests::{Binaries, Cluster, Deadline, Setup, until};
use serde_json::{Value, json};

const ATTEMPTS: u64 = 20;
const IDLE_SECONDS: u64 = 60;
/// What is done once after a start is over by then.
const SETTLED_AFTER: Duration = Duration::from_secs(15);

fn main() -> anyhow::Result<()> {
    let mut numbers = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let attempts = numbers.next().map_or(Ok(ATTEMPTS), |n| n.parse())?;
    let seconds = numbers.next().map_or(Ok(IDLE_SECONDS), |n| n.parse())?;
    Binaries::build()?;
    let config = format!("worker:\n  slots: {attempts}\n");
    let cluster = Cluster::new(Setup::new().config(&config))?;
    cluster.start()?;
    let worker = cluster.worker_pid()?;
    thread::sleep(SETTLED_AFTER);
    let idle = idle(worker, Duration::from_secs(seconds))?;
    let running = running(&cluster, worker, attempts)?;
    let document = json!({"idle_worker": idle, "running": running});
    cluster.stop()?;
    writeln!(std::io::stdout(), "{document:#}")?;
    Ok(())
}

fn idle(worker: u32, time: Duration) -> anyhow::Result<Value> {
    let (ticks, wakes, began) = (ticks(worker), wakes(worker), Instant::now());
    thread::sleep(time);
    let seconds = began.elapsed().as_secs_f64();
    let used =
        (self::ticks(worker) - ticks) as f64 / rustix::param::clock_ticks_per_second() as f64;
    Ok(json!({
        "seconds": seconds.round(),
        "memory": memory(worker)?,
        "nursery_memory": nurseries(worker).first().map(|pid| memory(*pid)).transpose()?,
        "cpu_percent": used / seconds * 100.0,
        "wakeups_per_second": (self::wakes(worker) - wakes) as f64 / seconds,
    }))
}

fn running(cluster: &Cluster, worker: u32, attempts: u64) -> anyhow::Result<Value> {
    let before = memory(worker)?;
    let task = json!({"command": ["sleep", "600"], "no_repo": true});
    let file = cluster.path("tasks.jsonl");
    fs::write(
        &file,
        format!("{task}\n").repeat(usize::try_from(attempts)?),
    )?;
    cluster.ctl(&["add", "-f", "tasks.jsonl", "--json"])?.ok()?;
    let found = until("all attempts run", Deadline::secs(120), || {
        let found = supervisors(worker);
        Ok((found.len() as u64 == attempts).then_some(found))
    })?;
    thread::sleep(SETTLED_AFTER);
    let after = memory(worker)?;
    let all: Vec<Value> = found
        .iter()
        .map(|pid| memory(*pid))
        .collect::<Result<_, _>>()?;
    let sum = |name: &str| all.iter().filter_map(|one| one[name].as_u64()).sum::<u64>();
    let grown = |name: &str| {
        let of = |value: &Value| value[name].as_u64().unwrap_or(0);
        of(&after).saturating_sub(of(&before))
    };
    let each = |name: &str| (sum(name) + grown(name)) / attempts;
    Ok(json!({
        "attempts": attempts,
        "supervisor_pss_kib": sum("pss_kib") / attempts,
        "supervisor_private_kib": sum("private_kib") / attempts,
        "supervisor_threads": found.first().map_or(0, |pid| threads(*pid).count()),
        "worker_grown_pss_kib_each": grown("pss_kib") / attempts,
        "per_attempt_pss_kib": each("pss_kib"),
        "per_attempt_private_kib": each("private_kib"),
        "worker": after,
    }))
}

/// The supervisors that a worker has had made, keepers included.
fn supervisors(worker: u32) -> Vec<u32> {
    let made = nurseries(worker).into_iter().flat_map(nurseries);
    made.chain(children(worker, b"supervise")).collect()
}

/// The nursery of a worker; of a nursery, what it has made.
fn nurseries(parent: u32) -> Vec<u32> {
    children(parent, b"nursery")
}

/// The children of a process that have a word in their command line.
fn children(parent: u32, word: &[u8]) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_one = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let named = line.split(|b| *b == 0).any(|of| of == word);
        named && field(*pid, "PPid:") == u64::from(parent)
    };
    pids.filter(is_one).collect()
}

fn memory(pid: u32) -> anyhow::Result<Value> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("failed to read `{path}`"))?;
    let of = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let number = line.map(|rest| rest.trim().trim_end_matches(" kB"));
        number
            .and_then(|text| text.parse::<u64>().ok())
            .unwrap_or(0)
    };
    ensure!(of("Rss:") > 0, "`{path}` has another form");
    Ok(json!({
        "rss_kib": of("Rss:"),
        "pss_kib": of("Pss:"),
        "private_kib": of("Private_Clean:") + of("Private_Dirty:"),
        "anonymous_kib": of("Anonymous:"),
    }))
}

fn threads(pid: u32) -> impl Iterator<Item = u32> {
    let entries = fs::read_dir(format!("/proc/{pid}/task"));
    let entries = entries.into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// How often its threads were given a processor.
fn wakes(pid: u32) -> u64 {
    let of = |thread: u32| {
        let path = format!("{pid}/task/{thread}");
        field(&path, "voluntary_ctxt_switches:") + field(&path, "nonvoluntary_ctxt_switches:")
    };
    threads(pid).map(of).sum()
}

fn field(pid: impl std::fmt::Display, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.trim().parse().ok()).unwrap_or(0)
}

fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let at = |place: usize| fields.get(place).and_then(|f| f.parse().ok()).unwrap_or(0);
    at(11) + at(12)
}
