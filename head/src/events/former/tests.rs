//! The files in `fixture` were written by the former writer: three attempts with 3, 1 and 700 events.

use std::{
    fs,
    path::{Path, PathBuf},
};

use orchestra_proto::v1;
use orchestra_types::{AttemptId, TaskId};
use prost::Message;

use super::super::{Events, Limits, Owner, Piece};

const FIRST: AttemptId = id(1, 1);
const SECOND: AttemptId = id(1, 2);
const LONG: AttemptId = id(2001, 1);
const ALL: [(AttemptId, u64); 3] = [(FIRST, 3), (SECOND, 1), (LONG, 700)];

const fn id(task: u64, number: u32) -> AttemptId {
    AttemptId {
        task: TaskId(task),
        number,
    }
}

fn event(attempt: AttemptId, seq: u64) -> v1::Event {
    v1::Event {
        seq,
        time_ms: 1_700_000_000_000 + seq,
        kind: Some(v1::event::Kind::Message(v1::event::Text {
            text: format!("event {seq} of {attempt}"),
            ..v1::event::Text::default()
        })),
        ..v1::Event::default()
    }
}

fn path(root: &Path, attempt: AttemptId) -> PathBuf {
    let directory = (attempt.task.0 / 1000).to_string();
    root.join(directory).join(format!("{attempt}.log"))
}

/// What lies beside it stays in the temporary directory.
fn root(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("events")
}

/// A directory as the former head left it.
fn former() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/events/former/fixture");
    for (attempt, _) in ALL {
        let to = path(&root(&dir), attempt);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(path(&fixture, attempt), to).unwrap();
    }
    dir
}

fn start(dir: &Path) -> (Events, Owner) {
    Events::start(dir, Limits::default()).unwrap()
}

async fn stop(events: Events, mut owner: Owner) {
    drop(events);
    owner.ended().await.unwrap();
}

async fn append(events: &Events, attempt: AttemptId, seqs: std::ops::RangeInclusive<u64>) -> u64 {
    let first = *seqs.start();
    let bytes = seqs.map(|seq| event(attempt, seq).encode_to_vec().into());
    let pending = events.append(attempt, first, bytes.collect()).await;
    pending.unwrap().durable().await.unwrap().up_to
}

async fn all_of(events: &Events, attempt: AttemptId) -> Vec<v1::Event> {
    let mut reader = events.read(attempt, 0).await.unwrap();
    let mut all = Vec::new();
    while let Some(piece) = reader.next().await.unwrap() {
        let Piece::Events { events, .. } = piece else {
            panic!("{piece:?}");
        };
        all.extend(events.into_iter().map(|e| v1::Event::decode(e).unwrap()));
    }
    all
}

fn expected(attempt: AttemptId, last: u64) -> Vec<v1::Event> {
    (1..=last).map(|seq| event(attempt, seq)).collect()
}

fn former_files(dir: &Path) -> Vec<AttemptId> {
    super::list(dir).unwrap().into_keys().collect()
}

#[tokio::test]
async fn old_logs_are_there_after_an_upgrade_and_attempts_go_on() {
    let dir = former();
    let (events, owner) = start(&root(&dir));
    for (attempt, last) in ALL {
        assert_eq!(all_of(&events, attempt).await, expected(attempt, last));
    }
    assert_eq!(former_files(&root(&dir)), []);
    assert!(!root(&dir).join("0").exists() && !root(&dir).join("2").exists());
    assert_eq!(append(&events, SECOND, 1..=2).await, 2);
    stop(events, owner).await;
    let (events, owner) = start(&root(&dir));
    assert_eq!(all_of(&events, SECOND).await, expected(SECOND, 2));
    assert_eq!(all_of(&events, LONG).await, expected(LONG, 700));
    stop(events, owner).await;
}

#[tokio::test]
async fn taking_over_again_after_a_crash_doubles_nothing() {
    let dir = former();
    let (events, owner) = start(&root(&dir));
    stop(events, owner).await;
    // As if the removal of the files had not reached the disk, and a worker had sent more since.
    let again = former();
    for attempt in [FIRST, LONG] {
        let to = path(&root(&dir), attempt);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(path(&root(&again), attempt), to).unwrap();
    }
    let (events, owner) = start(&root(&dir));
    assert_eq!(append(&events, FIRST, 4..=4).await, 4);
    for (attempt, last) in [(FIRST, 4), (SECOND, 1), (LONG, 700)] {
        assert_eq!(all_of(&events, attempt).await, expected(attempt, last));
    }
    assert_eq!(former_files(&root(&dir)), []);
    stop(events, owner).await;
}

#[tokio::test]
async fn what_a_worker_sent_again_meanwhile_is_completed_from_the_old_file() {
    let dir = former();
    let aside = tempfile::tempdir().unwrap();
    for name in ["0", "2"] {
        fs::rename(root(&dir).join(name), aside.path().join(name)).unwrap();
    }
    // A head that did not know of old files.
    let (events, owner) = start(&root(&dir));
    append(&events, LONG, 1..=50).await;
    stop(events, owner).await;
    for name in ["0", "2"] {
        fs::rename(aside.path().join(name), root(&dir).join(name)).unwrap();
    }
    let (events, owner) = start(&root(&dir));
    assert_eq!(all_of(&events, LONG).await, expected(LONG, 700));
    stop(events, owner).await;
}

#[tokio::test]
async fn what_does_not_read_is_kept_aside_and_everything_before_it_is_served() {
    let dir = former();
    let file = path(&root(&dir), LONG);
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let (events, owner) = start(&root(&dir));
    let all = all_of(&events, LONG).await;
    assert!(all.len() > 300 && all == expected(LONG, all.len() as u64));
    assert_eq!(fs::read(file.with_extension("log.damaged")).unwrap(), bytes);
    assert_eq!(all_of(&events, FIRST).await, expected(FIRST, 3));
    stop(events, owner).await;
    // It is not looked at again.
    let (events, owner) = start(&root(&dir));
    assert_eq!(all_of(&events, LONG).await.len(), all.len());
    stop(events, owner).await;
}
