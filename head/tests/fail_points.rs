//! Walks through all fail points: at each the process is killed, meets an error of the disk, or
//! finds the disk full. What it acknowledged before is there afterwards.
//!
//! `cargo test -p orchestra-head --features fail-points --test fail_points`

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::Context;
use orchestra_core::Change;
use orchestra_head::{
    blobs::Blobs,
    disk::Disk,
    events::{Events, Limits, Piece},
    points,
    progress::Progress,
    store::{self, Idle, Store},
};
use orchestra_types::{AttemptId, TaskId, TaskSpec};

const DIR: &str = "ORCHESTRA_TEST_DIR";
const POINTS: &str = "ORCHESTRA_FAIL_POINTS";
const EVENTS: &str = "events";
const ATTEMPT: AttemptId = AttemptId {
    task: TaskId(1),
    number: 1,
};
/// Has its events in a file of the former layout first.
const FORMER: AttemptId = AttemptId {
    task: TaskId(2),
    number: 1,
};
const FORMER_EVENTS: u64 = 40;
/// Enough for several checkpoints of a store whose limits are small.
const COMMITS: u64 = 250;
const TASKS: u64 = 50;

#[test]
fn whatever_fails_wherever_nothing_acknowledged_is_lost() {
    let mut reached = 0;
    for point in points::ALL {
        for act in ["kill", "error", "full"] {
            for time in [1, 3] {
                let dir = memory_dir().unwrap();
                leave_former(dir.path()).unwrap();
                let armed = format!("{point}={act}@{time}");
                let first = child(dir.path(), "body", &armed).unwrap();
                let finished = first.contains_key("finished");
                // A point that nobody passes would show nothing.
                let is_passed = act != "kill" || time > 1 || !finished;
                assert!(is_passed, "{armed}: nothing passes it");
                reached += usize::from(!finished);
                check(dir.path(), &first).unwrap_or_else(|error| panic!("{armed}: {error:#}"));
                // It opens, goes on, and keeps what it had.
                let second = child(dir.path(), "body", "").unwrap();
                assert!(second.contains_key("finished"), "{armed}: does not go on");
                check(dir.path(), &second)
                    .unwrap_or_else(|error| panic!("{armed}, second run: {error:#}"));
                assert!(!former(dir.path()).exists(), "{armed}: an old file is left");
            }
        }
    }
    // A full disk in a background job is passed over, and some points are passed once only.
    assert!(reached > 40, "only {reached} runs met their point");
}

#[test]
fn a_segment_that_finds_no_room_takes_the_ballasts() {
    let dir = memory_dir().unwrap();
    // The first one is made with the journal.
    let acked = child(dir.path(), "commits_alone", "journal.make=full@2").unwrap();
    assert_eq!(acked.get("finished"), Some(&1), "{acked:?}");
    assert!(!dir.path().join("ballast").exists());
    let store = open(dir.path()).unwrap();
    for task in 1..=TASKS {
        let number = number_of(&store, task).unwrap();
        assert_eq!(Some(&number), acked.get(&task.to_string()), "task {task}");
    }
}

/// The death of a process needs no real disk, and thousands of syncs are quick in memory.
fn memory_dir() -> std::io::Result<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    }
}

/// Where the former layout has the events of an attempt.
fn former(dir: &Path) -> PathBuf {
    dir.join("events/0").join(format!("{FORMER}.log"))
}

/// Events as a head of the former layout left them.
fn leave_former(dir: &Path) -> anyhow::Result<()> {
    let mut bytes = b"ORCHEVT\x01".to_vec();
    for number in 1..=FORMER_EVENTS {
        let message = number.to_string();
        bytes.extend(u32::try_from(message.len())?.to_le_bytes());
        bytes.extend(crc32c::crc32c(message.as_bytes()).to_le_bytes());
        bytes.extend(message.as_bytes());
    }
    let path = former(dir);
    std::fs::create_dir_all(path.parent().context("it lies in a directory")?)?;
    Ok(std::fs::write(path, bytes)?)
}

/// What a child acknowledged: for each task the number in its description.
fn child(dir: &Path, body: &str, armed: &str) -> anyhow::Result<BTreeMap<String, u64>> {
    let output = Command::new(std::env::current_exe()?)
        .args(["--exact", body, "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .env(POINTS, armed)
        .stderr(Stdio::null())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let acked = text.lines().filter_map(|line| {
        let (task, number) = line.strip_prefix("acked ")?.split_once(' ')?;
        Some((task.to_owned(), number.parse().ok()?))
    });
    Ok(acked.collect())
}

fn check(dir: &Path, acked: &BTreeMap<String, u64>) -> anyhow::Result<()> {
    let store = open(dir)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let last = runtime.block_on(async {
        let (events, _owner) = Events::start(&dir.join("events"), Limits::default())?;
        let former = last_event(&events, FORMER).await?;
        anyhow::ensure!(
            former == FORMER_EVENTS,
            "{former} events of the former layout"
        );
        last_event(&events, ATTEMPT).await
    })?;
    let events = acked.get(EVENTS).copied().unwrap_or(0);
    anyhow::ensure!(last >= events, "{events} events, found {last}");
    for task in 1..=TASKS {
        let Some(number) = acked.get(&task.to_string()) else {
            continue;
        };
        let found = number_of(&store, task)?;
        // The commit after the last acknowledged one may have been made durable too.
        anyhow::ensure!(
            found == *number || found == number + TASKS,
            "task {task} is {found}, acknowledged was {number}"
        );
    }
    Ok(())
}

fn number_of(store: &Store, task: u64) -> anyhow::Result<u64> {
    let spec = store.spec(TaskId(task))?;
    let description = spec.map_or_else(String::new, |spec| spec.description);
    let number = description.split(' ').next().and_then(|n| n.parse().ok());
    Ok(number.unwrap_or(0))
}

/// What the child does; nothing when it runs as a test of its own.
#[test]
fn body() -> anyhow::Result<()> {
    let Some(dir) = std::env::var_os(DIR) else {
        return Ok(());
    };
    let dir = Path::new(&dir);
    let mut store = open(dir)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let (events, _owner) = Events::start(&dir.join("events"), Limits::default())?;
    let mut out = std::io::stdout();
    let first = runtime.block_on(last_event(&events, ATTEMPT))? + 1;
    for number in first..first + COMMITS {
        let task = number % TASKS + 1;
        // Some rows are too large for the database.
        let length = if number % 20 == 0 { 70_000 } else { 5_000 };
        let event = format!("{number}").into();
        let appended = runtime.block_on(async {
            let pending = events.append(ATTEMPT, number, vec![event]).await?;
            pending.durable().await
        })?;
        writeln!(out, "acked {EVENTS} {}", appended.up_to)?;
        store.commit(&[vec![described(task, number, length)]])?;
        writeln!(out, "acked {task} {number}")?;
        out.flush()?;
        store.keep_pace()?;
        while store.idle()? == Idle::More {}
    }
    drop(store);
    let blobs = Blobs::open(&dir.join("blobs"))?;
    store::compact(&dir.join("db"), blobs, &Progress::unwatched())?;
    writeln!(out, "acked finished 1")?;
    Ok(())
}

/// Another child: commits only, so that no segment is made ahead. It has a ballast in the beginning.
#[test]
fn commits_alone() -> anyhow::Result<()> {
    let Some(dir) = std::env::var_os(DIR) else {
        return Ok(());
    };
    let dir = Path::new(&dir);
    let mut store = open(dir)?;
    anyhow::ensure!(dir.join("ballast").exists(), "there is no ballast");
    let mut out = std::io::stdout();
    for number in 1..=COMMITS {
        let task = number % TASKS + 1;
        store.commit(&[vec![described(task, number, 5_000)]])?;
        writeln!(out, "acked {task} {number}")?;
    }
    writeln!(out, "acked finished 1")?;
    Ok(out.flush()?)
}

/// The number and so many bytes, as a task's description.
fn described(task: u64, number: u64, length: usize) -> Change {
    let spec = TaskSpec::new(format!("{number} {}", "x".repeat(length)));
    Change::Spec {
        id: TaskId(task),
        spec: Box::new(spec),
    }
}

/// The number of the last event, with each before it looked at.
async fn last_event(events: &Events, attempt: AttemptId) -> anyhow::Result<u64> {
    let mut reader = events.read(attempt, 0).await?;
    let mut last = 0;
    while let Some(piece) = reader.next().await? {
        let Piece::Events { first, events } = piece else {
            anyhow::bail!("events are missing after {last}");
        };
        for (seq, event) in (first..).zip(events) {
            anyhow::ensure!(seq == last + 1, "event {seq} follows {last}");
            anyhow::ensure!(event == seq.to_string(), "event {seq} reads otherwise");
            last = seq;
        }
    }
    Ok(last)
}

fn open(dir: &Path) -> anyhow::Result<Store> {
    let blobs = Blobs::open(&dir.join("blobs"))?;
    let disk = Disk::watch(dir, Some(0));
    Ok(Store::open(&dir.join("db"), blobs)?.on(disk))
}
