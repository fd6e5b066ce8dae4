//! Segments that are gone without having been dropped.

use std::{fs, path::PathBuf};

use orchestra_types::Timestamp;

use super::*;

/// Before any loss that is noted here.
const BEFORE: Timestamp = Timestamp(1);
/// After it.
const AFTER: Timestamp = Timestamp(u64::MAX);

fn segment(dir: &tempfile::TempDir, number: u64) -> PathBuf {
    let generation = 0;
    Name { number, generation }.segment(&root(dir))
}

fn lost(dir: &tempfile::TempDir, log: Option<&Events>) -> Vec<PathBuf> {
    let reached = log.map(Events::reached);
    super::super::check(&root(dir), reached, &Progress::unwatched())
        .unwrap()
        .lost
}

/// Three segments, of which one attempt is in all and one in the first two.
async fn three(dir: &tempfile::TempDir) {
    let (log, owner) = start(dir);
    for first in (1..=14_000).step_by(500) {
        append(&log, ATTEMPT, first..=first + 499).await;
        if first < 7000 {
            append(&log, OTHER, first / 500 + 1..=first / 500 + 1).await;
        }
    }
    stop(log, owner).await;
    assert!(segment(dir, 3).exists() && !segment(dir, 4).exists());
    assert_eq!(lost(dir, None), [] as [PathBuf; 0]);
}

async fn end(log: &Events, attempt: AttemptId, began: Timestamp) -> (usize, Option<Gap>) {
    let mut reader = log.read(attempt, 0).await.unwrap();
    let read = read_all(&mut reader).await;
    (read.len(), reader.lost_end(began))
}

#[tokio::test]
async fn a_segment_that_is_gone_from_the_middle_is_seen_and_told() {
    let dir = tempfile::tempdir().unwrap();
    three(&dir).await;
    let gone = segment(&dir, 2);
    let away = dir.path().join("away");
    fs::rename(&gone, &away).unwrap();
    assert_eq!(lost(&dir, None), std::slice::from_ref(&gone));
    // Not at one start only: who asks later is told as well.
    for _ in 0..2 {
        let (log, owner) = start(&dir);
        assert_eq!(lost(&dir, Some(&log)), std::slice::from_ref(&gone));
        let read = all_of(&log, ATTEMPT, 0).await;
        let gaps: Vec<_> = read.iter().filter_map(|one| one.err()).collect();
        assert!(
            matches!(
                gaps[..],
                [Gap {
                    why: GapReason::Damaged,
                    from: 2..,
                    ..
                }]
            ),
            "{gaps:?}"
        );
        assert_eq!(read.last(), Some(&Ok(14_000)));
        let (known, gap) = end(&log, OTHER, BEFORE).await;
        assert_eq!(gap.map(|gap| gap.from), Some(known as u64 + 1));
        assert_eq!(end(&log, OTHER, AFTER).await, (known, None));
        assert_eq!(end(&log, ATTEMPT, BEFORE).await.1, None);
        stop(log, owner).await;
    }
    fs::rename(&away, &gone).unwrap();
    assert_eq!(lost(&dir, None), [] as [PathBuf; 0]);
    let (log, owner) = start(&dir);
    assert_eq!(all_of(&log, ATTEMPT, 0).await, numbers(1..=14_000));
    assert_eq!(end(&log, OTHER, BEFORE).await, (14, None));
    stop(log, owner).await;
}

#[tokio::test]
async fn all_segments_gone_are_seen_and_their_numbers_not_given_again() {
    let dir = tempfile::tempdir().unwrap();
    three(&dir).await;
    fs::remove_dir_all(root(&dir)).unwrap();
    assert_eq!(lost(&dir, None).len(), 3);
    let (log, owner) = start(&dir);
    assert!(segment(&dir, 4).exists());
    assert_eq!(lost(&dir, Some(&log)).len(), 3);
    let gap = Gap {
        from: 1,
        to: 1,
        why: GapReason::Damaged,
    };
    assert_eq!(end(&log, ATTEMPT, BEFORE).await, (0, Some(gap)));
    assert_eq!(end(&log, ATTEMPT, AFTER).await, (0, None));
    stop(log, owner).await;
}

#[tokio::test]
async fn what_is_dropped_is_not_lost_and_what_was_lost_goes_with_what_came_after_it() {
    let dir = tempfile::tempdir().unwrap();
    three(&dir).await;
    let (log, owner) = start(&dir);
    log.forget(OTHER).await.unwrap();
    let next = AttemptId {
        task: TaskId(9),
        number: 1,
    };
    append(&log, next, 1..=1).await;
    stop(log, owner).await;
    assert!(!segment(&dir, 1).exists() && !segment(&dir, 2).exists());
    assert_eq!(lost(&dir, None), [] as [PathBuf; 0]);
    fs::remove_file(segment(&dir, 3)).unwrap();
    let limits = Limits {
        max_bytes: 1,
        ..Limits::default()
    };
    let (log, owner) = start_with(&dir, limits);
    assert_eq!(lost(&dir, Some(&log)), [segment(&dir, 3)]);
    for first in (1..=12_000).step_by(500) {
        append(&log, next, first..=first + 499).await;
    }
    stop(log, owner).await;
    assert_eq!(lost(&dir, None), [] as [PathBuf; 0]);
}

#[tokio::test]
async fn an_end_that_was_durable_and_is_gone_is_damage_and_no_torn_end() {
    let looked = |dir: &tempfile::TempDir, log: Option<&Events>| {
        let reached = log.map(Events::reached);
        let checked = super::super::check(&root(dir), reached, &Progress::unwatched()).unwrap();
        (checked.damaged, checked.torn)
    };
    let dir = tempfile::tempdir().unwrap();
    let (log, owner) = start(&dir);
    for seq in 1..=3 {
        append(&log, ATTEMPT, seq..=seq).await;
    }
    stop(log, owner).await;
    let path = segment(&dir, 1);
    let whole = fs::read(&path).unwrap();
    let list = fs::read(listed::path(&root(&dir))).unwrap();
    let frame = (whole.len() - 8 - SEAL) / 3;
    let rest = 8 + 2 * frame;
    // Between two frames too, where nothing that is left tells of the next one.
    for left in [rest, rest + 1, rest + 100, rest + frame - 1] {
        fs::remove_dir_all(root(&dir)).unwrap();
        fs::create_dir(root(&dir)).unwrap();
        fs::write(listed::path(&root(&dir)), &list).unwrap();
        fs::write(&path, &whole[..left]).unwrap();
        let damage = (vec![(path.clone(), rest as u64)], vec![]);
        assert_eq!(looked(&dir, None), damage, "{left} bytes are left");
        // Not before one start only.
        for _ in 0..2 {
            let (log, owner) = start(&dir);
            assert_eq!(looked(&dir, Some(&log)), damage, "{left} bytes are left");
            assert_eq!(fs::read(&path).unwrap().len(), left, "nothing is cut off");
            let gap = Gap {
                from: 3,
                to: 3,
                why: GapReason::Damaged,
            };
            assert_eq!(end(&log, ATTEMPT, BEFORE).await, (2, Some(gap)));
            assert_eq!(end(&log, ATTEMPT, AFTER).await, (2, None));
            stop(log, owner).await;
        }
        // It is put back, from the disk that it was saved to.
        fs::write(&path, &whole).unwrap();
        assert_eq!(looked(&dir, None), (vec![], vec![]));
        let (log, owner) = start(&dir);
        assert_eq!(end(&log, ATTEMPT, BEFORE).await, (3, None));
        stop(log, owner).await;
    }
}

#[tokio::test]
async fn a_seal_alone_that_is_gone_is_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let (log, owner) = start(&dir);
    append(&log, ATTEMPT, 1..=3).await;
    stop(log, owner).await;
    let path = segment(&dir, 1);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - SEAL]).unwrap();
    let checked = super::super::check(&root(&dir), None, &Progress::unwatched()).unwrap();
    assert_eq!((checked.damaged, checked.torn), (vec![], vec![]));
    let (log, owner) = start(&dir);
    assert_eq!(all_of(&log, ATTEMPT, 0).await, numbers(1..=3));
    stop(log, owner).await;
    assert!(!segment(&dir, 2).exists());
}

#[tokio::test]
async fn an_end_that_is_gone_is_told_to_who_has_events_of_it_alone_behind_the_last_that_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let (log, owner) = start(&dir);
    for (seq, first) in (1..).zip((1..=8_000).step_by(500)) {
        append(&log, ATTEMPT, first..=first + 499).await;
        append(&log, OTHER, seq..=seq).await;
    }
    stop(log, owner).await;
    assert!(segment(&dir, 2).exists() && !segment(&dir, 3).exists());
    let path = segment(&dir, 2);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..8]).unwrap();
    let (log, owner) = start(&dir);
    let (known, gap) = end(&log, OTHER, BEFORE).await;
    assert!(known > 0, "some are in the first segment");
    assert_eq!(gap.map(|gap| gap.from), Some(known as u64 + 1));
    assert_eq!(end(&log, OTHER, AFTER).await, (known, None));
    stop(log, owner).await;
}
