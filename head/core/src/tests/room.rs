//! What tasks may take of the memory: what is too much is refused with its name, and room comes
//! back when tasks are forgotten.

use std::time::Duration;

use orchestra_types::{Priority, TaskId};

use super::bench::{Bench, attempt, task, worker};
use crate::{Config, Input, NewTask, Reply, RequestId, Room, SubmitRefused};

fn bench(room: Room) -> Bench {
    Bench::with(Config {
        room,
        ..Config::default()
    })
}

fn labelled(n: usize) -> NewTask {
    let mut new = task();
    new.spec.labels = [("n".to_owned(), format!("{n:0>99}"))].into();
    new
}

fn requiring(n: usize) -> NewTask {
    let mut new = task();
    new.spec.requires = [("n".to_owned(), n.to_string())].into();
    new
}

fn accepted(reply: &Reply) -> bool {
    matches!(reply, Reply::Submitted { .. })
}

#[test]
fn labels_that_would_take_too_much_memory_are_refused_by_name() {
    let room = Room {
        text_bytes: 1000,
        ..Room::default()
    };
    let mut bench = bench(room);
    let reply = bench.submit((0..20).map(labelled).collect());
    let refused = SubmitRefused::TooMuchText { limit: 1000 };
    assert_eq!(reply, Reply::SubmitRefused(refused));
    assert!(accepted(&bench.submit((0..5).map(labelled).collect())));
    assert!(!accepted(&bench.submit((5..10).map(labelled).collect())));
    // What tasks have in common counts once.
    assert!(accepted(&bench.submit(vec![labelled(1); 500])));
}

#[test]
fn too_many_dependencies_are_refused_and_forgotten_tasks_make_room() {
    let room = Room {
        edges: 3,
        ..Room::default()
    };
    let mut bench = bench(room);
    let _ = bench.attach(&worker("w", 1, &[("claude", 1)]), 1, &[]);
    let one = bench.add(task());
    let fan = |count| vec![task().after(TaskId(1)); count];
    let reply = bench.submit(fan(4));
    let refused = SubmitRefused::TooManyEdges { limit: 3 };
    assert_eq!(reply, Reply::SubmitRefused(refused.clone()));
    assert!(accepted(&bench.submit(fan(3))));
    assert_eq!(bench.submit(fan(1)), Reply::SubmitRefused(refused));
    for id in (1..=4).map(TaskId) {
        let _ = bench.finish("w", 1, attempt(id, 1), None);
        let _ = bench.close(attempt(id, 1));
    }
    assert!(bench.core.task(one).is_some());
    let _ = bench.away(Duration::from_secs(31 * 24 * 3600));
    let _ = bench.later(Duration::from_secs(1));
    assert!(bench.core.task(one).is_none(), "it is forgotten");
    assert!(accepted(&bench.submit(vec![task(), task().after_place(0)])));
}

#[test]
fn too_many_different_requirements_are_refused_by_name() {
    let room = Room {
        kinds: 10,
        ..Room::default()
    };
    let mut bench = bench(room);
    assert!(accepted(&bench.submit((0..10).map(requiring).collect())));
    let reply = bench.submit(vec![requiring(10)]);
    let refused = SubmitRefused::TooManyKinds { limit: 10 };
    assert_eq!(reply, Reply::SubmitRefused(refused));
    assert!(accepted(&bench.submit(vec![requiring(3); 50])));
}

#[test]
fn another_priority_takes_no_more_room() {
    let mut bench = bench(Room::default());
    let id = bench.add(labelled(1));
    let before = bench.core.facts.text_bytes();
    for priority in [Priority::High, Priority::Low, Priority::Normal] {
        // The rows that were written hold the former ones.
        bench.kept.clear();
        let _ = bench.give(Input::Prioritise {
            request: RequestId(1),
            task: id,
            priority,
        });
        assert_eq!(bench.core.facts.text_bytes(), before);
    }
}

#[test]
fn a_hundred_thousand_tasks_after_one_are_freed_by_its_end() {
    let mut bench = Bench::new();
    let _ = bench.attach(&worker("w", 1, &[("claude", 1)]), 1, &[]);
    let one = bench.add(task());
    assert!(accepted(&bench.submit(vec![task().after(one); 99_999])));
    let _ = bench.finish("w", 1, attempt(one, 1), None);
    let step = bench.core.handle(
        bench.now,
        Input::Closed {
            attempt: attempt(one, 1),
            apply: orchestra_types::ApplyResult::NotRequested,
        },
    );
    assert!(step.changes.len() > 99_999);
    assert_eq!(
        bench
            .core
            .counts()
            .with_status(orchestra_types::TaskStatus::Blocked),
        0
    );
}

#[test]
fn recurring_tasks_whose_texts_would_take_too_much_are_refused() {
    let room = Room {
        schedule_bytes: 1000,
        ..Room::default()
    };
    let mut bench = bench(room);
    let mut schedule = |count: usize| {
        let mut spec = *task().spec;
        spec.description = "d".repeat(300);
        let new = crate::NewSchedule {
            spec,
            every: orchestra_types::Recurrence::Every(Duration::from_secs(60)),
            first: None,
        };
        let step = bench.give(Input::Schedule {
            request: RequestId(1),
            key: format!("key-{count}"),
            schedules: vec![new; count],
        });
        super::bench::reply(&step)
    };
    let refused = SubmitRefused::TooMuchText { limit: 1000 };
    assert_eq!(schedule(4), Reply::SubmitRefused(refused));
    assert!(matches!(schedule(3), Reply::Scheduled { .. }));
}
