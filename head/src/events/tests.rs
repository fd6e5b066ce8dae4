mod dropped;
mod lost;

use std::{fs::OpenOptions, io::Write};

use bytes::Bytes;
use orchestra_types::{AttemptId, TaskId};

use super::{
    Events, Gap, GapReason, Limits, Owner, Piece, Reader,
    frame::FRAME_BYTES_MIN,
    listed,
    segment::{self, Durable, Name},
};

use crate::{engine::Clock, progress::Progress};

/// Bytes of a seal.
const SEAL: usize = FRAME_BYTES_MIN as usize;

const ATTEMPT: AttemptId = AttemptId {
    task: TaskId(7),
    number: 1,
};
const OTHER: AttemptId = AttemptId {
    task: TaskId(7),
    number: 2,
};

/// What lies beside it stays in the temporary directory.
fn root(dir: &tempfile::TempDir) -> std::path::PathBuf {
    dir.path().join("events")
}

fn start(dir: &tempfile::TempDir) -> (Events, Owner) {
    start_with(dir, Limits::default())
}

fn start_with(dir: &tempfile::TempDir, limits: Limits) -> (Events, Owner) {
    Events::start(&root(dir), limits).unwrap()
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
    pending.durable().await.unwrap().up_to
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
    Name { number, generation }.segment(&root(dir))
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
    let mut acknowledged = std::fs::read(&path).unwrap();
    // What comes next takes the place of the seal.
    acknowledged.truncate(acknowledged.len() - SEAL);
    append(&log, ATTEMPT, 6..=6).await;
    append(&log, OTHER, 1..=1).await;
    let longer = std::fs::read(&path).unwrap();
    stop(log, owner).await;
    let tail = &longer[acknowledged.len()..];
    for torn in [1, 7, 8, 9, 200, 3000, (tail.len() - SEAL) / 2 - 1] {
        std::fs::write(&path, &acknowledged).unwrap();
        // As of a head that was killed before it could note a clean end.
        std::fs::remove_file(listed::path(&root(&dir))).unwrap();
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
    let frame = (whole.len() - 8 - SEAL) / 3;
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
        for entry in std::fs::read_dir(root(&dir)).unwrap() {
            let other = entry.unwrap().path();
            if other != path {
                std::fs::remove_file(other).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn what_a_killed_head_left_is_known_as_durable_after_the_next_clean_end() {
    let dir = tempfile::tempdir().unwrap();
    let (log, owner) = start(&dir);
    append(&log, ATTEMPT, 1..=1).await;
    let path = first_segment(&dir);
    let mut killed = std::fs::read(&path).unwrap();
    stop(log, owner).await;
    // Between the write and its seal.
    killed.truncate(killed.len() - SEAL);
    std::fs::write(&path, &killed).unwrap();
    let (log, owner) = start(&dir);
    stop(log, owner).await;
    let mut flipped = std::fs::read(&path).unwrap();
    flipped[killed.len() - 1] ^= 0x10;
    std::fs::write(&path, flipped).unwrap();
    let scan = segment::scan(&path, Durable::Told).unwrap();
    assert_eq!(scan.damaged, [8]);
}

#[tokio::test]
async fn a_flipped_bit_in_the_last_events_of_a_killed_head_is_damage_and_no_torn_end() {
    let dir = tempfile::tempdir().unwrap();
    let (log, owner) = start(&dir);
    for seq in 1..=2 {
        append(&log, ATTEMPT, seq..=seq).await;
    }
    // What a kill leaves once the last events are acknowledged.
    let killed = std::fs::read(first_segment(&dir)).unwrap();
    stop(log, owner).await;
    let frame = (killed.len() - 8 - SEAL) / 2;
    for at in (8 + frame..killed.len() - SEAL).step_by(61) {
        let mut flipped = killed.clone();
        flipped[at] ^= 0x10;
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(root(&dir)).unwrap();
        std::fs::write(first_segment(&dir), flipped).unwrap();
        let checked = super::check(&root(&dir), None, &Progress::unwatched()).unwrap();
        let place = (first_segment(&dir), 8 + frame as u64);
        assert_eq!((checked.damaged, checked.torn), (vec![place], vec![]));
        let (log, owner) = start(&dir);
        assert_eq!(all_of(&log, ATTEMPT, 0).await, numbers(1..=1), "byte {at}");
        // A worker that still has it sends it again.
        assert_eq!(append(&log, ATTEMPT, 2..=2).await, 2);
        assert_eq!(all_of(&log, ATTEMPT, 0).await, numbers(1..=2));
        stop(log, owner).await;
    }
}

#[tokio::test]
async fn the_end_of_a_full_segment_is_never_taken_for_torn() {
    let dir = tempfile::tempdir().unwrap();
    let (log, owner) = start(&dir);
    append_many(&log, ATTEMPT, 1..=8_000).await;
    stop(log, owner).await;
    let path = first_segment(&dir);
    let mut bytes = std::fs::read(&path).unwrap();
    let length = bytes.len();
    bytes[length - SEAL - 1] ^= 1;
    bytes[length - 1] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    std::fs::remove_file(path.with_extension("idx")).unwrap();
    let checked = super::check(&root(&dir), None, &Progress::unwatched()).unwrap();
    assert_eq!((checked.damaged.len(), checked.torn), (1, vec![]));
    let (log, owner) = start(&dir);
    let seen = all_of(&log, ATTEMPT, 0).await;
    let gaps: Vec<_> = seen.iter().filter_map(|piece| piece.err()).collect();
    assert!(
        matches!(
            gaps[..],
            [Gap {
                why: GapReason::Damaged,
                ..
            }]
        ),
        "{gaps:?}"
    );
    stop(log, owner).await;
}

#[tokio::test]
async fn what_is_being_written_is_no_damage_to_who_checks_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let (log, owner) = start(&dir);
    append(&log, ATTEMPT, 1..=1).await;
    let reached = log.reached();
    let mut file = OpenOptions::new()
        .append(true)
        .open(first_segment(&dir))
        .unwrap();
    file.write_all(&[7; 20]).unwrap();
    let checked = super::check(&root(&dir), Some(reached), &Progress::unwatched()).unwrap();
    assert_eq!((checked.damaged, checked.torn), (vec![], vec![]));
    let mut bytes = std::fs::read(first_segment(&dir)).unwrap();
    bytes[100] ^= 1;
    std::fs::write(first_segment(&dir), bytes).unwrap();
    let checked = super::check(&root(&dir), Some(reached), &Progress::unwatched()).unwrap();
    assert_eq!(checked.damaged, [(first_segment(&dir), 8)]);
    stop(log, owner).await;
}

#[tokio::test]
async fn starting_again_and_again_lets_a_segment_be_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (log, owner) = start(&dir);
    append(&log, ATTEMPT, 1..=1).await;
    stop(log, owner).await;
    let once = std::fs::read(first_segment(&dir)).unwrap();
    for _ in 0..3 {
        let (log, owner) = start(&dir);
        stop(log, owner).await;
    }
    assert_eq!(std::fs::read(first_segment(&dir)).unwrap(), once);
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

/// Appends so many events of 3 kB, 500 at a time.
async fn append_many(log: &Events, attempt: AttemptId, seqs: std::ops::RangeInclusive<u64>) {
    for first in seqs.clone().step_by(500) {
        append(log, attempt, first..=(first + 499).min(*seqs.end())).await;
    }
}

#[tokio::test]
async fn it_ends_when_it_is_told_to_though_somebody_holds_on_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let (log, mut owner) = start(&dir);
    let before = log.append(ATTEMPT, 1, (1..=3).map(body).collect()).await;
    owner.stop().await;
    owner.ended().await.unwrap();
    let before = before.unwrap().durable().await.unwrap();
    assert_eq!(before.up_to, 3, "what was said before the stop is durable");
    let late = log.append(ATTEMPT, 4, vec![body(4)]).await;
    let late = match late {
        Ok(pending) => pending.durable().await.map(drop),
        Err(error) => Err(error),
    };
    assert!(matches!(late, Err(super::Error::Stopped)), "{late:?}");
    // Another stop finds nobody.
    owner.stop().await;
    drop(log);
    let (log, owner) = start(&dir);
    assert_eq!(all_of(&log, ATTEMPT, 0).await, numbers(1..=3));
    stop(log, owner).await;
}
