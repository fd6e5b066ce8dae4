//! A wait for the first attempt that has an end, also at a worker.

use std::time::Duration;

use orchestra_types::{AttemptId, FailureCode, TaskId, TaskStatus};

use super::{
    bench::{Bench, attempt, starts, task, worker},
    retract::{ahead, called_back},
};
use crate::{Availability, ConnectionId, Held, Input, NewTask, ReportBody, RequestId, Step};

const S: Duration = Duration::from_secs(1);

fn waits(seconds: u32) -> NewTask {
    let mut new = task().runner("shell");
    new.spec.queue_timeout = Some(seconds * S);
    new
}

/// A task that runs at worker `a`, and one behind it that may wait for 4 s.
fn one_waits() -> (Bench, TaskId, TaskId) {
    let mut bench = Bench::new();
    let _ = bench.attach(&ahead("a"), 1, &[]);
    let long = bench.add(task().runner("shell"));
    let waits = bench.add(waits(4));
    let _ = bench.report("a", 1, attempt(long, 1), ReportBody::Started);
    assert_eq!(bench.status(waits), TaskStatus::Assigned);
    (bench, long, waits)
}

fn given_back(bench: &mut Bench, attempt: AttemptId) -> Step {
    bench.report("a", 1, attempt, ReportBody::GivenBack)
}

fn availability(bench: &mut Bench, availability: Availability) -> Step {
    bench.give(Input::Availability {
        request: RequestId(1),
        worker: "a".parse().unwrap(),
        availability,
    })
}

fn reason(bench: &Bench, id: TaskId) -> Option<(FailureCode, String)> {
    let reason = bench.core.task(id).unwrap().reason;
    reason.map(|reason| (reason.code, reason.message.clone()))
}

#[test]
fn what_waits_at_a_worker_for_too_long_is_called_back_and_ends_as_in_the_queue() {
    let (mut bench, _, id) = one_waits();
    assert_eq!(called_back(&bench.later(3 * S)), []);
    let first = attempt(id, 1);
    assert_eq!(called_back(&bench.later(S)), [(1, first)]);
    assert_eq!(called_back(&bench.later(S)), [], "once");
    assert_eq!(bench.status(id), TaskStatus::Assigned, "it may have begun");
    let step = given_back(&mut bench, first);
    assert_eq!(starts(&step), []);
    assert_eq!(bench.status(id), TaskStatus::Failed);
    let words = "no worker took it within 4 s".to_owned();
    assert_eq!(reason(&bench, id), Some((FailureCode::QueueTimeout, words)));
}

#[test]
fn what_began_in_the_same_moment_runs() {
    let (mut bench, _, id) = one_waits();
    assert_eq!(called_back(&bench.later(4 * S)).len(), 1);
    let _ = bench.report("a", 1, attempt(id, 1), ReportBody::Started);
    let _ = bench.later(3600 * S);
    assert_ne!(
        reason(&bench, id).map(|(code, _)| code),
        Some(FailureCode::QueueTimeout)
    );
}

#[test]
fn what_has_a_slot_is_not_called_back() {
    let mut bench = Bench::new();
    let _ = bench.attach(&ahead("a"), 1, &[]);
    let prepares = bench.add(waits(4));
    assert_eq!(called_back(&bench.later(10 * S)), []);
    assert_eq!(bench.status(prepares), TaskStatus::Assigned);
    let behind = bench.add(task().runner("shell"));
    assert_eq!(called_back(&bench.later(10 * S)), []);
    // The worker says that it was the other way round.
    let step = bench.report("a", 1, attempt(behind, 1), ReportBody::Started);
    assert_eq!(called_back(&step), [(1, attempt(prepares, 1))]);
}

#[test]
fn what_waits_behind_its_own_runner_is_called_back_whatever_another_one_prepares() {
    let mut bench = Bench::new();
    let mut info = worker("a", 2, &[("shell", 1), ("claude", 1)]);
    info.runners
        .iter_mut()
        .for_each(|runner| runner.prefetch = 2);
    let _ = bench.attach(&info, 1, &[]);
    let runs = bench.add(task().runner("shell"));
    let _ = bench.report("a", 1, attempt(runs, 1), ReportBody::Started);
    let late = bench.add(waits(4));
    let _ = bench.later(S);
    // The first of these has the slot, and takes long to prepare.
    let prepares = bench.add(task().runner("claude"));
    let _ = bench.add(task().runner("claude"));
    assert_eq!(bench.status(prepares), TaskStatus::Assigned);
    assert_eq!(called_back(&bench.later(3 * S)), [(1, attempt(late, 1))]);
}

#[test]
fn a_call_back_makes_no_wait_longer() {
    let (mut bench, _, id) = one_waits();
    let _ = bench.later(2 * S);
    let step = availability(&mut bench, Availability::Cordoned);
    assert_eq!(called_back(&step), [(1, attempt(id, 1))]);
    let _ = given_back(&mut bench, attempt(id, 1));
    assert_eq!(bench.status(id), TaskStatus::Queued);
    let step = availability(&mut bench, Availability::Open);
    assert_eq!(starts(&step).len(), 1, "it waits at the worker once more");
    assert_eq!(called_back(&bench.later(S)), []);
    assert_eq!(called_back(&bench.later(S)), [(1, attempt(id, 2))]);
    let _ = given_back(&mut bench, attempt(id, 2));
    assert_eq!(bench.status(id), TaskStatus::Failed);
}

#[test]
fn what_was_called_back_ends_in_the_queue_when_its_time_is_over_there() {
    let (mut bench, _, id) = one_waits();
    let _ = availability(&mut bench, Availability::Cordoned);
    let _ = bench.later(3 * S);
    let _ = given_back(&mut bench, attempt(id, 1));
    let _ = bench.later(S - Duration::from_millis(1));
    assert_eq!(bench.status(id), TaskStatus::Queued);
    let _ = bench.later(Duration::from_millis(1));
    let (code, words) = reason(&bench, id).unwrap();
    assert_eq!(code, FailureCode::QueueTimeout);
    assert!(words.contains("a is cordoned"), "{words}");
}

#[test]
fn a_worker_that_comes_back_is_asked_again_for_what_has_waited_too_long() {
    let (mut bench, long, id) = one_waits();
    let _ = bench.detach("a", 1);
    assert_eq!(called_back(&bench.later(5 * S)), [], "nobody is there");
    let held = [(long, true), (id, false)].map(|(id, started)| Held {
        attempt: attempt(id, 1),
        started,
        running: None,
    });
    let step = bench.attach(&ahead("a"), 2, &held);
    assert_eq!(called_back(&step), [(2, attempt(id, 1))]);
    // That call was lost with its stream.
    let step = bench.attach(&ahead("a"), 3, &held);
    assert_eq!(called_back(&step), [(3, attempt(id, 1))]);
}

#[test]
fn a_wait_at_a_worker_goes_on_over_a_restart() {
    let (mut bench, long, id) = one_waits();
    let _ = bench.later(2 * S);
    let _ = bench.restart();
    let held = [(long, true), (id, false)].map(|(id, started)| Held {
        attempt: attempt(id, 1),
        started,
        running: None,
    });
    let _ = bench.attach(&ahead("a"), 1, &held);
    // What has waited while the head was down has the time in which workers come back.
    assert_eq!(called_back(&bench.later(44 * S)), []);
    let _ = bench.give(Input::Heartbeat {
        connection: ConnectionId(1),
        worker: "a".parse().unwrap(),
    });
    assert_eq!(called_back(&bench.later(S)), [(1, attempt(id, 1))]);
    let _ = given_back(&mut bench, attempt(id, 1));
    assert_eq!(bench.status(id), TaskStatus::Failed);
}

#[test]
fn a_head_that_was_away_leaves_what_waits_at_a_worker_its_time() {
    let (mut bench, _, id) = one_waits();
    let step = bench.away(60 * S);
    assert_eq!(called_back(&step), []);
    // It is given back for another reason, and has all the same time in the queue.
    let _ = availability(&mut bench, Availability::Cordoned);
    let _ = given_back(&mut bench, attempt(id, 1));
    assert_eq!(bench.status(id), TaskStatus::Queued);
}

#[test]
fn a_second_try_waits_for_ever_at_a_worker_too() {
    let mut bench = Bench::new();
    let _ = bench.attach(&ahead("a"), 1, &[]);
    let id = bench.add(waits(4).retries(1));
    let _ = bench.report("a", 1, attempt(id, 1), ReportBody::Started);
    let long = bench.add(task().runner("shell"));
    let _ = bench.finish("a", 1, attempt(id, 1), Some(FailureCode::AgentFailed));
    let _ = bench.close(attempt(id, 1));
    let _ = bench.report("a", 1, attempt(long, 1), ReportBody::Started);
    let due = bench.core.next_deadline().unwrap();
    let step = bench.later(due.since(bench.now));
    assert_eq!(starts(&step).len(), 1);
    assert_eq!(called_back(&bench.later(20 * S)), []);
    assert_eq!(bench.status(id), TaskStatus::Assigned);
}

#[test]
fn a_person_who_tries_again_gives_all_the_time_once_more() {
    let (mut bench, _, id) = one_waits();
    let _ = bench.later(4 * S);
    let _ = given_back(&mut bench, attempt(id, 1));
    assert_eq!(bench.status(id), TaskStatus::Failed);
    let retry = Input::Retry {
        request: RequestId(1),
        task: id,
    };
    assert_eq!(starts(&bench.give(retry)).len(), 1);
    assert_eq!(called_back(&bench.later(3 * S)), []);
    assert_eq!(called_back(&bench.later(S)), [(1, attempt(id, 2))]);
}
