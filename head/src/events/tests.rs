use std::{fs::OpenOptions, io::Write};

use bytes::Bytes;
use orchestra_types::{AttemptId, TaskId};

use super::{Events, Gap, GapReason, Owner, Piece, Reader, segment::Name};

const ATTEMPT: AttemptId = AttemptId {
    task: TaskId(7),
    number: 1,
};
const OTHER: AttemptId = AttemptId {
    task: TaskId(7),
    number: 2,
};

fn start(dir: &tempfile::TempDir) -> (Events, Owner) {
    Events::start(dir.path()).unwrap()
}

async fn stop(events: Events, mut owner: Owner) {
    drop(events);
    owner.ended().await.unwrap();
}

fn body(seq: u64) -> Bytes {
    format!("event {seq} {}", "x".repeat(3000)).into()
}

async fn append(log: &Events, attempt: AttemptId, seqs: std::ops::RangeInclusive<u64>) -> u64 {
    let events = seqs.clone().map(body).collect();
    let pending = log.append(attempt, *seqs.start(), events).await.unwrap();
    pending.durable().await.unwrap()
}

/// Everything that there is, with each event checked.
async fn read_all(reader: &mut Reader) -> Vec<Result<u64, Gap>> {
    let mut seen = Vec::new();
    while let Some(piece) = reader.next().await.unwrap() {
        match piece {
            Piece::Gap(gap) => seen.push(Err(gap)),
            Piece::Events { first, events } => {
                assert!(!events.is_empty() && events.len() <= 512);
                for (event, seq) in events.into_iter().zip(first..) {
                    assert_eq!(event, body(seq));
                    seen.push(Ok(seq));
                }
            }
        }
    }
    seen
}

async fn all_of(log: &Events, attempt: AttemptId, after: u64) -> Vec<Result<u64, Gap>> {
    read_all(&mut log.read(attempt, after).await.unwrap()).await
}

fn numbers(seqs: std::ops::RangeInclusive<u64>) -> Vec<Result<u64, Gap>> {
    seqs.map(Ok).collect()
}

fn first_segment(dir: &tempfile::TempDir) -> std::path::PathBuf {
    let (number, generation) = (1, 0);
    Name { number, generation }.segment(dir.path())
}

#[tokio::test]
async fn duplicates_are_passed_over_and_nothing_is_taken_behind_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let (log, owner) = start(&dir);
    assert_eq!(append(&log, ATTEMPT, 1..=3).await, 3);
    assert_eq!(append(&log, ATTEMPT, 2..=4).await, 4);
    assert_eq!(append(&log, ATTEMPT, 1..=2).await, 4);
    assert_eq!(append(&log, ATTEMPT, 6..=7).await, 4);
    assert_eq!(all_of(&log, ATTEMPT, 0).await, numbers(1..=4));
    stop(log, owner).await;
}

#[tokio::test]
async fn attempts_share_a_segment_and_do_not_see_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let (log, owner) = start(&dir);
    for seq in 1..=50 {
        append(&log, ATTEMPT, seq..=seq).await;
        append(&log, OTHER, seq * 2 - 1..=seq * 2).await;
    }
    assert_eq!(all_of(&log, ATTEMPT, 10).await, numbers(11..=50));
    assert_eq!(all_of(&log, OTHER, 0).await, numbers(1..=100));
    stop(log, owner).await;
    let (log, owner) = start(&dir);
    assert_eq!(append(&log, ATTEMPT, 51..=51).await, 51);
    assert_eq!(all_of(&log, ATTEMPT, 0).await, numbers(1..=51));
    assert_eq!(all_of(&log, OTHER, 99).await, numbers(100..=100));
    stop(log, owner).await;
}

#[tokio::test]
async fn full_segments_are_found_again_with_and_without_their_indexes() {
    let dir = tempfile::tempdir().unwrap();
    let (log, owner) = start(&dir);
    // 36 MB: three segments.
    for first in (1..=12_000).step_by(500) {
        append(&log, ATTEMPT, first..=first + 499).await;
    }
    append(&log, OTHER, 1..=3).await;
    stop(log, owner).await;
    let index = first_segment(&dir).with_extension("idx");
    let whole = std::fs::read(&index).unwrap();
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for content in [Some(whole), Some(flipped), None] {
        match content {
            Some(content) => std::fs::write(&index, content).unwrap(),
            None => std::fs::remove_file(&index).unwrap(),
        }
        let (log, owner) = start(&dir);
        assert_eq!(all_of(&log, ATTEMPT, 0).await, numbers(1..=12_000));
        assert_eq!(all_of(&log, OTHER, 0).await, numbers(1..=3));
        assert_eq!(append(&log, ATTEMPT, 11_000..=11_001).await, 12_000);
        stop(log, owner).await;
    }
}

#[tokio::test]
async fn a_torn_tail_is_cut_off_and_what_was_acknowledged_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (log, owner) = start(&dir);
    append(&log, ATTEMPT, 1..=5).await;
    let path = first_segment(&dir);
    // What a kill leaves: no mark of a clean end.
    let acknowledged = std::fs::read(&path).unwrap();
    append(&log, ATTEMPT, 6..=6).await;
    append(&log, OTHER, 1..=1).await;
    let longer = std::fs::read(&path).unwrap();
    stop(log, owner).await;
    let tail = &longer[acknowledged.len()..];
    for torn in [1, 7, 8, 9, 200, 3000, tail.len() / 2 - 1] {
        std::fs::write(&path, &acknowledged).unwrap();
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(&tail[..torn]).unwrap();
        let (log, owner) = start(&dir);
        assert_eq!(append(&log, ATTEMPT, 6..=6).await, 6);
        let seen = all_of(&log, ATTEMPT, 4).await;
        assert_eq!(seen, numbers(5..=6), "torn at {torn}");
        stop(log, owner).await;
    }
}

#[tokio::test]
async fn a_tail_of_zeros_as_a_power_cut_leaves_it_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let (log, owner) = start(&dir);
    append(&log, ATTEMPT, 1..=2).await;
    let acknowledged = std::fs::read(first_segment(&dir)).unwrap();
    stop(log, owner).await;
    let mut zeros = acknowledged;
    zeros.extend([0; 9000]);
    std::fs::write(first_segment(&dir), zeros).unwrap();
    let (log, owner) = start(&dir);
    assert_eq!(append(&log, ATTEMPT, 3..=3).await, 3);
    assert_eq!(all_of(&log, ATTEMPT, 0).await, numbers(1..=3));
    stop(log, owner).await;
}

#[tokio::test]
async fn a_flipped_bit_anywhere_is_told_as_a_gap_and_never_served() {
    let dir = tempfile::tempdir().unwrap();
    let (log, owner) = start(&dir);
    for seq in 1..=3 {
        append(&log, ATTEMPT, seq..=seq).await;
    }
    stop(log, owner).await;
    let path = first_segment(&dir);
    let whole = std::fs::read(&path).unwrap();
    let frame = (whole.len() - 8 - 49) / 3;
    for at in (0..8 + frame * 3).step_by(101) {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x10;
        std::fs::write(&path, flipped).unwrap();
        let (log, owner) = start(&dir);
        let mut expected = numbers(1..=3);
        if at >= 8 {
            let lost = (at - 8) / frame;
            let seq = lost as u64 + 1;
            let (from, to, why) = (seq, seq, GapReason::Damaged);
            expected[lost] = Err(Gap { from, to, why });
            // Of the last one nothing tells that it was there; the worker sends it again.
            expected.truncate(if lost == 2 { 2 } else { 3 });
        }
        assert_eq!(all_of(&log, ATTEMPT, 0).await, expected, "byte {at}");
        stop(log, owner).await;
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let other = entry.unwrap().path();
            if other != path {
                std::fs::remove_file(other).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn a_bit_that_flips_under_a_running_head_is_told_as_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let (log, owner) = start(&dir);
    for seq in 1..=3 {
        append(&log, ATTEMPT, seq..=seq).await;
    }
    let path = first_segment(&dir);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let gap = Gap {
        from: 2,
        to: 2,
        why: GapReason::Damaged,
    };
    assert_eq!(all_of(&log, ATTEMPT, 0).await, [Ok(1), Err(gap), Ok(3)]);
    stop(log, owner).await;
}

#[tokio::test]
async fn readers_follow_live_from_any_number_without_loss_or_duplicate() {
    let dir = tempfile::tempdir().unwrap();
    let (log, owner) = start(&dir);
    append(&log, ATTEMPT, 1..=10).await;
    let mut tasks = tokio::task::JoinSet::new();
    for after in [0, 3, 8, 10, 25, 59] {
        let mut reader = log.read(ATTEMPT, after).await.unwrap();
        tasks.spawn(async move {
            let mut seen = Vec::new();
            while seen.last() != Some(&Ok(60)) {
                seen.extend(read_all(&mut reader).await);
                if seen.last() != Some(&Ok(60)) {
                    reader.more().await.unwrap();
                }
            }
            assert_eq!(seen, numbers(after + 1..=60));
        });
    }
    for seq in 11..=60 {
        append(&log, ATTEMPT, seq..=seq).await;
    }
    let all = tokio::time::timeout(std::time::Duration::from_secs(20), tasks.join_all());
    all.await.expect("events come");
    stop(log, owner).await;
}
