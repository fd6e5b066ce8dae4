//! Submissions.

use orchestra_types::{TaskId, TaskStatus};

use super::bench::{Bench, runner, task};
use crate::{Change, Config, Input, Message, Reply, RequestId, SubmitRefused};

#[test]
fn a_submitted_task_is_made_durable_before_it_is_answered() {
    let mut bench = Bench::new();
    let tasks = vec![task()];
    let step = bench.give(Input::Submit {
        request: RequestId(1),
        key: "k".into(),
        tasks,
    });
    let kinds: Vec<&str> = step
        .changes
        .iter()
        .map(|change| match change {
            Change::Key(_) => "key",
            Change::ForgetTask { .. } | Change::ForgetKey { .. } | Change::ForgetWorker { .. } => {
                "forget"
            }
            Change::Spec { .. } => "spec",
            Change::Task(_) => "task",
            _ => "other",
        })
        .collect();
    assert_eq!(kinds, ["key", "spec", "task"]);
    let ids = vec![TaskId(1)];
    let reply = Reply::Submitted {
        ids,
        duplicate: false,
    };
    assert_eq!(
        step.messages,
        [
            Message::Changed { task: TaskId(1) },
            Message::Reply {
                request: RequestId(1),
                reply
            }
        ]
    );
}

#[test]
fn the_same_key_gives_the_same_tasks() {
    let mut bench = Bench::new();
    let first = bench.submit_as("once", vec![task(), task()]);
    assert_eq!(
        first,
        Reply::Submitted {
            ids: vec![TaskId(1), TaskId(2)],
            duplicate: false
        }
    );
    let again = bench.submit_as("once", vec![task(), task()]);
    assert_eq!(
        again,
        Reply::Submitted {
            ids: vec![TaskId(1), TaskId(2)],
            duplicate: true
        }
    );
    assert_eq!(bench.core.counts().open(), 2);
}

#[test]
fn a_cycle_is_refused_with_its_places_and_nothing_is_kept() {
    let mut bench = Bench::new();
    let tasks = vec![
        task().after_place(2),
        task(),
        task().after_place(1).after_place(0),
    ];
    let reply = bench.submit(tasks);
    assert_eq!(
        reply,
        Reply::SubmitRefused(SubmitRefused::Cycle {
            indices: vec![0, 2, 0]
        })
    );
    let itself = bench.submit(vec![task().after_place(0)]);
    assert_eq!(
        itself,
        Reply::SubmitRefused(SubmitRefused::Cycle {
            indices: vec![0, 0]
        })
    );
    assert_eq!(bench.core.counts().open(), 0);
}

#[test]
fn a_diamond_is_no_cycle() {
    let mut bench = Bench::new();
    let tasks = vec![
        task().after_place(1).after_place(2),
        task().after_place(3),
        task().after_place(3),
        task(),
    ];
    let Reply::Submitted { ids, .. } = bench.submit(tasks) else {
        panic!("refused")
    };
    let statuses: Vec<TaskStatus> = ids.iter().map(|id| bench.status(*id)).collect();
    use TaskStatus::{Blocked, Queued};
    assert_eq!(statuses, [Blocked, Blocked, Blocked, Queued]);
}

#[test]
fn what_a_task_comes_after_keeps_its_order_and_counts_once() {
    let mut bench = Bench::new();
    let [one, two] = [0; 2].map(|_| bench.add(task()));
    let third = task().after(two).after(one).after(two).after_place(0);
    let step = bench.give(Input::Submit {
        request: RequestId(1),
        key: "k".into(),
        tasks: vec![task(), third.after_place(0)],
    });
    let new = TaskId(two.0 + 1);
    let of_last = step.changes.iter().filter_map(|change| match change {
        Change::Spec { id, spec } if *id > new => Some(spec.after.as_slice()),
        Change::Task(row) if row.id > new => Some(&*row.after),
        _ => None,
    });
    let given: &[TaskId] = &[two, one, new];
    // Results are merged as the spec says; the row is the set.
    assert_eq!(of_last.collect::<Vec<_>>(), [given, &[one, two, new]]);
}

#[test]
fn what_does_not_exist_is_named() {
    let mut bench = Bench::new();
    let unknown = bench.submit(vec![task().after(TaskId(9))]);
    let refused = SubmitRefused::UnknownTask {
        index: 0,
        after: TaskId(9),
    };
    assert_eq!(unknown, Reply::SubmitRefused(refused));
    let place = bench.submit(vec![task().after_place(5)]);
    assert_eq!(
        place,
        Reply::SubmitRefused(SubmitRefused::UnknownIndex { index: 0, after: 5 })
    );
    assert_eq!(
        bench.submit(Vec::new()),
        Reply::SubmitRefused(SubmitRefused::Empty)
    );
}

#[test]
fn an_unknown_runner_is_refused_with_the_known_ones() {
    let mut bench = Bench::new();
    let reply = bench.submit(vec![task().runner("cluade")]);
    let Reply::SubmitRefused(SubmitRefused::UnknownRunner {
        runner: name,
        known,
        ..
    }) = reply
    else {
        panic!("accepted");
    };
    assert_eq!(name, runner("cluade"));
    assert!(known.contains(&runner("claude")));
}

#[test]
fn a_full_queue_refuses_and_keeps_what_it_has() {
    let mut bench = Bench::with(Config {
        queue_max: 2,
        ..Config::default()
    });
    bench.add(task());
    let reply = bench.submit(vec![task(), task()]);
    assert_eq!(
        reply,
        Reply::SubmitRefused(SubmitRefused::QueueFull { limit: 2 })
    );
    bench.add(task());
    assert_eq!(bench.core.counts().open(), 2);
}
