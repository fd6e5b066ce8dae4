//! Attempts that wait at a worker, and who calls them back.

use orchestra_types::{AttemptId, TaskId, TaskStatus, runner::WorkerInfo};

use super::bench::{Bench, attempt, starts, task, worker};
use crate::{AgentState, Availability, Change, Input, Message, ReportBody, RequestId, Step};

/// A worker that runs one `shell` task and lets two more wait.
pub(super) fn ahead(id: &str) -> WorkerInfo {
    let mut info = worker(id, 1, &[("shell", 1)]);
    info.runners[0].prefetch = 2;
    info
}

pub(super) fn called_back(step: &Step) -> Vec<(u64, AttemptId)> {
    let retract = |message: &Message| match message {
        Message::Retract {
            connection,
            attempt,
        } => Some((connection.0, *attempt)),
        _ => None,
    };
    step.messages.iter().filter_map(retract).collect()
}

/// Three tasks at worker `a`, of which the first has begun.
pub(super) fn three_at_a() -> (Bench, [TaskId; 3]) {
    let mut bench = Bench::new();
    let _ = bench.attach(&ahead("a"), 1, &[]);
    let ids = [(); 3].map(|()| bench.add(task().runner("shell")));
    let step = bench.report("a", 1, attempt(ids[0], 1), ReportBody::Started);
    assert_eq!(called_back(&step), []);
    (bench, ids)
}

#[test]
fn what_only_waits_at_a_worker_is_not_busy() {
    let (mut bench, ids) = three_at_a();
    let states = |bench: &Bench| {
        let agents = bench.core.agents();
        agents.iter().map(|agent| agent.state).collect::<Vec<_>>()
    };
    let [first, second, third] = ids.map(|id| attempt(id, 1));
    let (busy, waiting) = (AgentState::Busy, AgentState::Waiting);
    assert_eq!(
        states(&bench),
        [busy(first), waiting(second), waiting(third)]
    );
    let told = |bench: &Bench| {
        let told = bench.core.workers().map(|w| (w.attempts.len(), w.waiting));
        told.collect::<Vec<_>>()
    };
    assert_eq!(told(&bench), [(3, 2)]);
    // What has begun is at work, however few slots there are.
    let _ = bench.report("a", 1, second, ReportBody::Started);
    assert_eq!(states(&bench), [busy(first), busy(second), waiting(third)]);
    assert_eq!(told(&bench), [(3, 1)]);
}

#[test]
fn a_worker_with_nothing_to_do_gets_what_waits_elsewhere() {
    let (mut bench, ids) = three_at_a();
    let step = bench.attach(&ahead("b"), 2, &[]);
    assert_eq!(
        called_back(&step),
        [(1, attempt(ids[2], 1))],
        "one slot, one attempt"
    );
    let step = bench.report("a", 1, attempt(ids[2], 1), ReportBody::GivenBack);
    assert_eq!(starts(&step), [(attempt(ids[2], 2), 2, "shell".to_owned())]);
    let row = bench.core.task(ids[2]).unwrap().row;
    assert_eq!((row.failures, row.losses), (0, 0), "nobody is charged");
    assert_eq!(called_back(&step), [], "both have work");
}

#[test]
fn what_is_given_back_says_what_becomes_of_its_task() {
    let words = |cancelled: bool| {
        let (mut bench, ids) = three_at_a();
        if cancelled {
            let _ = bench.give(Input::Cancel {
                request: RequestId(1),
                task: ids[2],
            });
        }
        let step = bench.report("a", 1, attempt(ids[2], 1), ReportBody::GivenBack);
        let why = |change: &Change| match change {
            Change::Outcome(row) => row.result.clone().err().map(|why| why.message),
            _ => None,
        };
        let said = step.changes.iter().find_map(why).unwrap();
        (said, bench.status(ids[2]))
    };
    let (said, status) = words(true);
    assert_eq!(status, TaskStatus::Cancelled);
    assert_eq!(said, "given back before it began: the task was cancelled");
    let (said, status) = words(false);
    assert_eq!(
        status,
        TaskStatus::Assigned,
        "to the same worker: it has room"
    );
    assert_eq!(said, "given back before it began: the task is queued again");
}

#[test]
fn what_has_begun_meanwhile_stays_where_it_is() {
    let (mut bench, ids) = three_at_a();
    let step = bench.attach(&ahead("b"), 2, &[]);
    assert_eq!(called_back(&step).len(), 1);
    let _ = bench.report("a", 1, attempt(ids[2], 1), ReportBody::Started);
    assert_eq!(bench.status(ids[2]), TaskStatus::Running);
    let _ = bench.finish("a", 1, attempt(ids[2], 1), None);
    let step = bench.close(attempt(ids[2], 1));
    assert_eq!(bench.status(ids[2]), TaskStatus::Succeeded);
    assert_eq!(starts(&step), []);
}

#[test]
fn a_call_that_was_lost_with_its_stream_is_made_again() {
    let (mut bench, ids) = three_at_a();
    let _ = bench.attach(&ahead("b"), 2, &[]);
    let held = ids.map(|id| crate::Held {
        attempt: attempt(id, 1),
        started: id == ids[0],
        running: None,
    });
    // The worker that is idle stayed, and need not do anything for it.
    let step = bench.attach(&ahead("a"), 3, &held);
    assert_eq!(called_back(&step), [(3, attempt(ids[2], 1))]);
}

#[test]
fn a_drained_worker_gives_back_what_it_has_not_begun() {
    let (mut bench, ids) = three_at_a();
    let step = bench.give(Input::Availability {
        request: RequestId(1),
        worker: "a".parse().unwrap(),
        availability: Availability::Draining,
    });
    let waiting = [(1, attempt(ids[2], 1)), (1, attempt(ids[1], 1))];
    assert_eq!(called_back(&step), waiting);
    let _ = bench.report("a", 1, attempt(ids[2], 1), ReportBody::GivenBack);
    assert_eq!(bench.status(ids[2]), TaskStatus::Queued);
    assert_eq!(bench.status(ids[0]), TaskStatus::Running);
}

#[test]
fn what_waits_at_a_worker_does_not_begin_after_the_head_begins_to_stop() {
    let (mut bench, ids) = three_at_a();
    let (second, third) = (attempt(ids[1], 1), attempt(ids[2], 1));
    let step = bench.give(Input::StopAssigning);
    assert_eq!(called_back(&step), [(1, third), (1, second)]);
    // The calls went with the old stream.
    let held = ids.map(|id| crate::Held {
        attempt: attempt(id, 1),
        started: id == ids[0],
        running: None,
    });
    let step = bench.attach(&ahead("a"), 2, &held);
    assert_eq!(called_back(&step), [(2, third), (2, second)]);
    let step = bench.report("a", 2, third, ReportBody::GivenBack);
    assert_eq!(starts(&step), []);
    assert_eq!(bench.status(ids[2]), TaskStatus::Queued);
}

/// What is called back, in this order, when the worker of three comes back, holds these of them and is drained.
fn called_back_by_order(held: &[usize]) -> (Vec<TaskId>, Vec<TaskId>) {
    let (mut bench, ids) = three_at_a();
    let held: Vec<_> = held
        .iter()
        .map(|n| crate::Held {
            attempt: attempt(ids[*n], 1),
            started: *n == 0,
            running: None,
        })
        .collect();
    let again = starts(&bench.attach(&ahead("a"), 2, &held));
    let step = bench.give(Input::Availability {
        request: RequestId(1),
        worker: "a".parse().unwrap(),
        availability: Availability::Draining,
    });
    let called = called_back(&step).into_iter();
    let again = again.into_iter().map(|(id, ..)| id.task).collect();
    (again, called.map(|(_, id)| id.task).collect())
}

#[test]
fn a_worker_says_in_which_order_it_begins_what_it_has() {
    let ids = three_at_a().1;
    assert_eq!(
        called_back_by_order(&[0, 1, 2]),
        (vec![], vec![ids[2], ids[1]])
    );
    assert_eq!(
        called_back_by_order(&[0, 2, 1]),
        (vec![], vec![ids[1], ids[2]])
    );
}

#[test]
fn what_is_ordered_again_begins_last() {
    let ids = three_at_a().1;
    let [_, second, third] = ids;
    assert_eq!(
        called_back_by_order(&[0, 2]),
        (vec![second], vec![second, third])
    );
    assert_eq!(
        called_back_by_order(&[0]),
        (vec![second, third], vec![third, second])
    );
}

#[test]
fn when_what_was_called_back_has_begun_something_else_is() {
    let (mut bench, ids) = three_at_a();
    let _ = bench.attach(&ahead("b"), 2, &[]);
    let step = bench.report("a", 1, attempt(ids[2], 1), ReportBody::Started);
    assert_eq!(called_back(&step), [(1, attempt(ids[1], 1))]);
}

#[test]
fn another_priority_leaves_a_held_attempt_as_it_is() {
    let (mut bench, ids) = three_at_a();
    let step = bench.attach(&ahead("b"), 2, &[]);
    assert_eq!(called_back(&step).len(), 1);
    let step = bench.give(Input::Prioritise {
        request: RequestId(1),
        task: ids[2],
        priority: orchestra_types::Priority::High,
    });
    assert_eq!(called_back(&step), [], "it is not called back twice");
    let counts = bench.core.counts();
    let high = counts.open_with_priority(orchestra_types::Priority::High);
    assert_eq!((high, counts.open()), (1, 3));
}
