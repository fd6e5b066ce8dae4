//! What waits at a worker goes back for what has a higher level.

use orchestra_types::{Priority, TaskId, TaskStatus};

use super::{
    bench::{Bench, attempt, starts, task},
    retract::{ahead, called_back, three_at_a},
};
use crate::{Input, ReportBody, RequestId, Step};

fn prioritise(bench: &mut Bench, task: TaskId, priority: Priority) -> Step {
    bench.give(Input::Prioritise {
        request: RequestId(1),
        task,
        priority,
    })
}

fn urgent() -> crate::NewTask {
    task().runner("shell").priority(Priority::High)
}

#[test]
fn an_urgent_task_calls_back_what_waits_and_begins_before_it() {
    let (mut bench, ids) = three_at_a();
    let step = bench.submit_step(vec![urgent()]);
    let both = [ids[1], ids[2]].map(|id| (1, attempt(id, 1)));
    assert_eq!(called_back(&step), both);
    let high = TaskId(4);
    let step = bench.report("a", 1, attempt(ids[1], 1), ReportBody::GivenBack);
    assert_eq!(starts(&step), [(attempt(high, 1), 1, "shell".to_owned())]);
    assert_eq!(called_back(&step), []);
    let step = bench.report("a", 1, attempt(ids[2], 1), ReportBody::GivenBack);
    let next = starts(&step).into_iter().map(|(attempt, ..)| attempt.task);
    assert_eq!(next.collect::<Vec<_>>(), [ids[1]], "behind the urgent one");
    let row = bench.core.task(ids[1]).unwrap().row;
    assert_eq!((row.failures, row.losses), (0, 0), "nobody is charged");
}

#[test]
fn an_urgent_task_for_which_there_is_a_place_to_wait_does_not_wait_behind_others() {
    let mut bench = Bench::new();
    let _ = bench.attach(&ahead("a"), 1, &[]);
    let ids = [(); 2].map(|()| bench.add(task().runner("shell")));
    let _ = bench.report("a", 1, attempt(ids[0], 1), ReportBody::Started);
    let step = bench.submit_step(vec![urgent()]);
    assert_eq!(
        starts(&step),
        [(attempt(TaskId(3), 1), 1, "shell".to_owned())]
    );
    assert_eq!(called_back(&step), [(1, attempt(ids[1], 1))]);
}

#[test]
fn a_task_of_the_same_level_calls_nothing_back() {
    let (mut bench, _) = three_at_a();
    let step = bench.submit_step(vec![task().runner("shell"); 3]);
    assert_eq!(called_back(&step), []);
}

#[test]
fn an_urgent_task_that_could_not_go_there_calls_nothing_back() {
    let (mut bench, _) = three_at_a();
    let mut labelled = urgent();
    labelled.spec.requires.insert("gpu".into(), "yes".into());
    let step = bench.submit_step(vec![labelled, task().priority(Priority::High)]);
    assert_eq!(called_back(&step), []);
}

#[test]
fn another_priority_moves_what_waits_at_a_worker() {
    let (mut bench, ids) = three_at_a();
    let step = prioritise(&mut bench, ids[2], Priority::High);
    assert_eq!(called_back(&step), [(1, attempt(ids[1], 1))]);
    let step = bench.report("a", 1, attempt(ids[1], 1), ReportBody::GivenBack);
    let again = starts(&step).into_iter().map(|(attempt, ..)| attempt);
    assert_eq!(again.collect::<Vec<_>>(), [attempt(ids[1], 2)], "behind it");
}

#[test]
fn another_priority_of_a_queued_task_calls_back_what_it_goes_before() {
    let (mut bench, ids) = three_at_a();
    let queued = bench.add(task().runner("shell"));
    let step = prioritise(&mut bench, queued, Priority::High);
    let both = [ids[1], ids[2]].map(|id| (1, attempt(id, 1)));
    assert_eq!(called_back(&step), both);
}

#[test]
fn many_urgent_tasks_call_back_what_waits_at_many_workers() {
    let mut bench = Bench::new();
    for (connection, id) in (1..).zip(["a", "b"]) {
        let _ = bench.attach(&ahead(id), connection, &[]);
    }
    for _ in 0..6 {
        let _ = bench.add(task().runner("shell"));
    }
    let mut called = std::collections::BTreeSet::new();
    let mut step = bench.submit_step(vec![urgent(); 6]);
    loop {
        called.extend(called_back(&step));
        let Some((connection, next)) = called.pop_first() else {
            break;
        };
        let worker = ["a", "b"][connection as usize - 1];
        step = bench.report(worker, connection, next, ReportBody::GivenBack);
    }
    let waiting = (7..=12).map(TaskId);
    let given = waiting.filter(|id| bench.status(*id) == TaskStatus::Assigned);
    assert_eq!(given.count(), 6);
}

/// Workers `a` and `b` with two tasks each, of which the first ones have begun.
fn two_at_each() -> (Bench, [TaskId; 4]) {
    let mut bench = Bench::new();
    for (connection, id) in (1..).zip(["a", "b"]) {
        let mut info = ahead(id);
        info.runners[0].prefetch = 1;
        let _ = bench.attach(&info, connection, &[]);
    }
    let ids = [(); 4].map(|()| bench.add(task().runner("shell")));
    let _ = bench.report("a", 1, attempt(ids[0], 1), ReportBody::Started);
    let _ = bench.report("b", 2, attempt(ids[1], 1), ReportBody::Started);
    (bench, ids)
}

#[test]
fn what_has_begun_meanwhile_is_called_back_from_another_worker_instead() {
    let (mut bench, ids) = two_at_each();
    let step = bench.submit_step(vec![urgent()]);
    assert_eq!(called_back(&step), [(1, attempt(ids[2], 1))]);
    let step = bench.report("a", 1, attempt(ids[2], 1), ReportBody::Started);
    assert_eq!(called_back(&step), [(2, attempt(ids[3], 1))]);
    let step = bench.report("b", 2, attempt(ids[3], 1), ReportBody::GivenBack);
    assert_eq!(
        starts(&step),
        [(attempt(TaskId(5), 1), 2, "shell".to_owned())]
    );
}

#[test]
fn what_waits_at_a_worker_goes_where_it_may_fall_back_when_its_account_is_parked() {
    let mut bench = Bench::new();
    let mut a = super::bench::worker("a", 1, &[("claude", 1)]);
    a.runners[0].prefetch = 1;
    let _ = bench.attach(&a, 1, &[]);
    let ids = [(); 2].map(|()| {
        let mut new = task().runner("claude");
        new.spec.fallback = vec!["codex".parse().unwrap()];
        bench.add(new)
    });
    let _ = bench.report("a", 1, attempt(ids[0], 1), ReportBody::Started);
    let _ = bench.attach(&super::bench::worker("b", 1, &[("codex", 1)]), 2, &[]);
    let limited = orchestra_types::Limited {
        resets_at: Some(bench.now.plus(std::time::Duration::from_secs(600))),
        message: String::new(),
    };
    let step = bench.give(Input::Metered {
        connection: crate::ConnectionId(1),
        worker: "a".parse().unwrap(),
        attempt: attempt(ids[0], 1),
        meter: Box::new(crate::Meter {
            limited: Some(limited),
            ..crate::Meter::default()
        }),
    });
    assert_eq!(called_back(&step), [(1, attempt(ids[1], 1))]);
}

#[test]
fn what_goes_back_for_a_higher_level_takes_no_room_from_what_waits_elsewhere() {
    let mut bench = Bench::new();
    let (mut a, mut b) = (ahead("a"), ahead("b"));
    (a.slots, a.runners[0].slots) = (2, 2);
    b.runners[0].prefetch = 1;
    let _ = bench.attach(&a, 1, &[]);
    let _ = bench.attach(&b, 2, &[]);
    let ids = [(); 6].map(|()| bench.add(task().runner("shell")));
    let [first, second, third, fourth, fifth, sixth] = ids.map(|id| attempt(id, 1));
    let _ = bench.report("a", 1, first, ReportBody::Started);
    let _ = bench.report("b", 2, second, ReportBody::Started);
    let _ = bench.report("a", 1, third, ReportBody::Started);
    let step = bench.submit_step(vec![urgent()]);
    assert_eq!(called_back(&step), [(1, fourth), (1, sixth)]);
    // One has begun before it heard of that, and ends; what is urgent ends too.
    let _ = bench.finish("a", 1, first, None);
    let _ = bench.finish("a", 1, third, None);
    let _ = bench.finish("a", 1, fourth, None);
    let step = bench.finish("a", 1, attempt(TaskId(7), 1), None);
    assert_eq!(called_back(&step), [(2, fifth)], "a slot is free at a");
}
