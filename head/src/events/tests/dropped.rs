//! What is dropped for its size, its age or its task, and what readers are told of it.

use super::*;

fn bytes_in(dir: &tempfile::TempDir) -> u64 {
    let files = std::fs::read_dir(root(dir)).unwrap();
    files.map(|f| f.unwrap().metadata().unwrap().len()).sum()
}

/// What a reader got is one gap from the first event on, and all events behind it.
fn gap_then_all(seen: &[Result<u64, Gap>], last: u64) -> Gap {
    let gap = seen[0].expect_err("the first events are gone");
    assert_eq!(gap.from, 1);
    let odd = seen[1..].iter().zip(gap.to + 1..);
    let odd: Vec<_> = odd.filter(|(got, seq)| **got != Ok(*seq)).take(3).collect();
    assert_eq!(odd, [], "behind {gap:?}");
    assert_eq!(seen.last(), Some(&Ok(last)));
    gap
}

#[tokio::test]
async fn what_is_too_much_is_dropped_and_every_reader_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        max_bytes: 40 << 20,
        ..Limits::default()
    };
    let (log, owner) = start_with(&dir, limits);
    append(&log, OTHER, 1..=3).await;
    let mut slow = log.read(ATTEMPT, 0).await.unwrap();
    append_many(&log, ATTEMPT, 1..=30_000).await;
    // What is dropped after the last acknowledgement is dropped before the next answer.
    drop(log.read(OTHER, 0).await.unwrap());
    assert!(bytes_in(&dir) < 60 << 20, "{}", bytes_in(&dir));
    let seen = read_all(&mut slow).await;
    let gap = gap_then_all(&seen, 30_000);
    assert_eq!(gap.why, GapReason::Total);
    let all_gone = Gap {
        from: 1,
        to: 3,
        why: GapReason::Total,
    };
    assert_eq!(all_of(&log, OTHER, 0).await, [Err(all_gone)]);
    drop(slow);
    stop(log, owner).await;
    let (log, owner) = start_with(&dir, limits);
    gap_then_all(&all_of(&log, ATTEMPT, 0).await, 30_000);
    assert_eq!(
        all_of(&log, OTHER, 1).await,
        [Err(Gap {
            from: 2,
            ..all_gone
        })]
    );
    assert_eq!(append(&log, OTHER, 4..=4).await, 4, "numbers go on");
    stop(log, owner).await;
}

#[tokio::test]
async fn an_attempt_with_too_much_loses_its_oldest_events_and_the_disk_gets_the_room_back() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        max_attempt_bytes: 8 << 20,
        ..Limits::default()
    };
    let (log, owner) = start_with(&dir, limits);
    append(&log, OTHER, 1..=9).await;
    append_many(&log, ATTEMPT, 1..=40_000).await;
    drop(log.read(OTHER, 0).await.unwrap());
    let seen = all_of(&log, ATTEMPT, 0).await;
    let gap = gap_then_all(&seen, 40_000);
    assert_eq!(gap.why, GapReason::Attempt);
    assert_eq!(all_of(&log, OTHER, 0).await, numbers(1..=9));
    stop(log, owner).await;
    assert!(bytes_in(&dir) < 50 << 20, "{}", bytes_in(&dir));
    let (log, owner) = start_with(&dir, limits);
    assert!(all_of(&log, ATTEMPT, 0).await == seen);
    assert_eq!(all_of(&log, OTHER, 0).await, numbers(1..=9));
    stop(log, owner).await;
}

#[tokio::test]
async fn events_around_the_record_of_dropped_ones_are_there() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        max_attempt_bytes: 1 << 20,
        ..Limits::default()
    };
    let (log, owner) = start_with(&dir, limits);
    let mut last = 0;
    for _ in 0..40 {
        for _ in 0..10 {
            append(&log, ATTEMPT, last + 1..=last + 5).await;
            last += 5;
        }
        // What is dropped after the last acknowledgement is dropped before the next answer.
        drop(log.read(OTHER, 0).await.unwrap());
        let seen = all_of(&log, ATTEMPT, 0).await;
        if seen[0].is_err() {
            gap_then_all(&seen, last);
        } else {
            assert_eq!(seen, numbers(1..=last));
        }
    }
    assert!(
        all_of(&log, ATTEMPT, 0).await[0].is_err(),
        "the limit is met"
    );
    stop(log, owner).await;
}

#[tokio::test]
async fn while_it_is_held_no_file_goes_and_afterwards_the_limits_are_kept_again() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        max_bytes: 20 << 20,
        ..Limits::default()
    };
    let (log, owner) = start_with(&dir, limits);
    let hold = log.hold().await.unwrap();
    append_many(&log, ATTEMPT, 1..=15_000).await;
    assert_eq!(all_of(&log, ATTEMPT, 0).await, numbers(1..=15_000));
    drop(hold);
    log.keep_limits().await.unwrap();
    let gap = gap_then_all(&all_of(&log, ATTEMPT, 0).await, 15_000);
    assert_eq!(gap.why, GapReason::Total);
    stop(log, owner).await;
}

#[tokio::test]
async fn what_is_too_old_is_dropped_when_it_is_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let (log, owner) = start(&dir);
    append(&log, ATTEMPT, 1..=5).await;
    stop(log, owner).await;
    let limits = Limits {
        max_age: std::time::Duration::ZERO,
        ..Limits::default()
    };
    while is_of_this_moment(&dir) {}
    let (log, owner) = start_with(&dir, limits);
    let gap = Gap {
        from: 1,
        to: 5,
        why: GapReason::Age,
    };
    // The owner looks when it begins, which a reader does not wait for.
    assert_eq!(append(&log, ATTEMPT, 6..=6).await, 6);
    assert_eq!(all_of(&log, ATTEMPT, 0).await, [Err(gap), Ok(6)]);
    stop(log, owner).await;
}

#[tokio::test]
async fn a_clock_that_is_weeks_ahead_at_a_start_drops_nothing_for_its_age() {
    let dir = tempfile::tempdir().unwrap();
    let (log, owner) = start(&dir);
    assert_eq!(log.doubt(), None);
    append(&log, ATTEMPT, 1..=5).await;
    stop(log, owner).await;
    let ahead = |limits| {
        let clock = Clock::starting_ahead(std::time::Duration::from_secs(40 * 24 * 3600));
        Events::start_by(&root(&dir), limits, clock).unwrap()
    };
    let (log, owner) = ahead(Limits::default());
    assert_eq!(
        log.doubt().map(|doubt| doubt.ahead.as_secs() / (24 * 3600)),
        Some(40)
    );
    log.keep_limits().await.unwrap();
    assert_eq!(all_of(&log, ATTEMPT, 0).await, numbers(1..=5));
    stop(log, owner).await;
    let (log, owner) = ahead(Limits {
        max_bytes: 1,
        ..Limits::default()
    });
    append_many(&log, OTHER, 1..=12_000).await;
    let dropped = all_of(&log, ATTEMPT, 0).await;
    assert!(
        matches!(
            dropped[..],
            [Err(Gap {
                why: GapReason::Total,
                ..
            })]
        ),
        "how much there may be holds all the same: {dropped:?}"
    );
    stop(log, owner).await;
}

/// Whether the last write was in this very millisecond: then nothing is old.
fn is_of_this_moment(dir: &tempfile::TempDir) -> bool {
    let written = std::fs::metadata(first_segment(dir)).unwrap().modified();
    written.unwrap().elapsed().unwrap_or_default() < std::time::Duration::from_millis(5)
}

#[tokio::test]
async fn a_forgotten_task_gives_its_room_back_and_others_keep_theirs() {
    let dir = tempfile::tempdir().unwrap();
    let (log, owner) = start(&dir);
    let stays = AttemptId {
        task: TaskId(8),
        number: 1,
    };
    for first in (1..=12_000).step_by(500) {
        append(&log, ATTEMPT, first..=first + 499).await;
        append(&log, stays, first / 500 + 1..=first / 500 + 1).await;
    }
    let before = bytes_in(&dir);
    log.forget(OTHER).await.unwrap();
    assert_eq!(all_of(&log, ATTEMPT, 0).await, []);
    assert_eq!(log.stored().unwrap(), [stays]);
    assert_eq!(all_of(&log, stays, 0).await, numbers(1..=24));
    stop(log, owner).await;
    assert!(bytes_in(&dir) < before / 2, "{before} {}", bytes_in(&dir));
    let (log, owner) = start(&dir);
    assert_eq!(all_of(&log, stays, 0).await, numbers(1..=24));
    stop(log, owner).await;
}
