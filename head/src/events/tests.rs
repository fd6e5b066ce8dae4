use std::{fs::OpenOptions, io::Write};

use orchestra_proto::v1;
use orchestra_types::{AttemptId, TaskId};

use super::{Events, Owner, Reader, file};

const ATTEMPT: AttemptId = AttemptId {
    task: TaskId(7),
    number: 1,
};

fn events(seqs: std::ops::RangeInclusive<u64>) -> Vec<v1::Event> {
    let event = |seq| v1::Event {
        seq,
        raw: format!("line {seq} {}", "x".repeat(3000)),
        kind: Some(v1::event::Kind::RawOnly(true)),
        ..v1::Event::default()
    };
    seqs.map(event).collect()
}

fn start(dir: &tempfile::TempDir) -> (Events, Owner) {
    Events::start(dir.path()).unwrap()
}

async fn stop(events: Events, mut owner: Owner) {
    drop(events);
    owner.ended().await.unwrap();
}

async fn read_all(reader: &mut Reader) -> Vec<u64> {
    let mut seqs = Vec::new();
    loop {
        let batch = reader.next().await.unwrap();
        if batch.is_empty() {
            return seqs;
        }
        seqs.extend(batch.iter().map(|event| event.seq));
    }
}

#[tokio::test]
async fn duplicates_are_passed_over_and_nothing_is_taken_behind_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let (log, owner) = start(&dir);
    assert_eq!(log.append(ATTEMPT, events(1..=3)).await.unwrap(), 3);
    assert_eq!(log.append(ATTEMPT, events(2..=4)).await.unwrap(), 4);
    assert_eq!(log.append(ATTEMPT, events(6..=7)).await.unwrap(), 4);
    let mut reader = log.read(ATTEMPT, 0).await.unwrap();
    assert_eq!(read_all(&mut reader).await, [1, 2, 3, 4]);
    drop(reader);
    stop(log, owner).await;
}

#[tokio::test]
async fn a_torn_tail_is_cut_off_and_what_was_acknowledged_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (log, owner) = start(&dir);
    log.append(ATTEMPT, events(1..=5)).await.unwrap();
    stop(log, owner).await;
    let path = file::path(dir.path(), ATTEMPT);
    let whole = std::fs::read(&path).unwrap();
    // Every place where a power cut can tear the sixth record off.
    for torn in [1, 7, 8, 9, 200] {
        std::fs::write(&path, &whole).unwrap();
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(&whole[8..8 + torn]).unwrap();
        let (log, owner) = start(&dir);
        assert_eq!(log.append(ATTEMPT, events(6..=6)).await.unwrap(), 6);
        let mut reader = log.read(ATTEMPT, 4).await.unwrap();
        assert_eq!(read_all(&mut reader).await, [5, 6], "torn at {torn}");
        drop(reader);
        stop(log, owner).await;
    }
}

#[tokio::test]
async fn a_reader_follows_live_from_any_number_without_loss_or_duplicate() {
    let dir = tempfile::tempdir().unwrap();
    let (log, owner) = start(&dir);
    log.append(ATTEMPT, events(1..=10)).await.unwrap();
    let mut reader = log.read(ATTEMPT, 8).await.unwrap();
    assert_eq!(read_all(&mut reader).await, [9, 10]);
    let writer = log.clone();
    let mut writers = tokio::task::JoinSet::new();
    writers.spawn(async move {
        for seq in 11..=60 {
            writer.append(ATTEMPT, events(seq..=seq)).await.unwrap();
        }
    });
    let mut seen = Vec::new();
    while seen.last() != Some(&60) {
        let more = tokio::time::timeout(std::time::Duration::from_secs(20), reader.more());
        more.await.expect("events come").unwrap();
        seen.extend(read_all(&mut reader).await);
    }
    assert_eq!(seen, (11..=60).collect::<Vec<u64>>());
    writers.join_all().await;
    drop(reader);
    stop(log, owner).await;
}

#[tokio::test]
async fn a_slow_reader_gets_everything_in_bounded_batches() {
    let dir = tempfile::tempdir().unwrap();
    let (log, owner) = start(&dir);
    let mut slow = log.read(ATTEMPT, 0).await.unwrap();
    for first in (1..=2000).step_by(500) {
        log.append(ATTEMPT, events(first..=first + 499))
            .await
            .unwrap();
    }
    let mut seen = 0;
    while seen < 2000 {
        let batch = slow.next().await.unwrap();
        assert!(!batch.is_empty() && batch.len() <= 512, "{}", batch.len());
        for event in batch {
            seen += 1;
            assert_eq!(event.seq, seen);
        }
    }
    drop(slow);
    stop(log, owner).await;
}

#[tokio::test]
async fn a_flipped_bit_is_reported_with_its_place_and_never_served() {
    let dir = tempfile::tempdir().unwrap();
    let (log, owner) = start(&dir);
    log.append(ATTEMPT, events(1..=3)).await.unwrap();
    let mut reader = log.read(ATTEMPT, 0).await.unwrap();
    let path = file::path(dir.path(), ATTEMPT);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = reader.next().await.unwrap_err().to_string();
    assert!(error.contains("damaged at byte 8"), "{error}");
    drop(reader);
    stop(log, owner).await;
}
