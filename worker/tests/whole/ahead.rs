//! Orders that are given before there is a slot for them.

use std::time::Duration;

use orchestra_proto::v1::{self, order};
use orchestra_types::Place;

use super::{
    LONG, cancel, cleaned, code,
    harness::{FakeHead, Worker, shell, wait_for},
};

fn start(task: u64, line: &str) -> order::Body {
    order::Body::Start(shell(task, line, Place::Empty, LONG))
}

fn retract(task: u64) -> order::Body {
    order::Body::Retract(v1::Retract {
        attempt: Some(v1::AttemptId { task, number: 1 }),
    })
}

/// With one slot: the first of three orders has it, the second is called back, and the third begins after the first.
/// A worker that `is_restarted` meanwhile is given again what it has not begun.
async fn one_after_another(
    head: &FakeHead,
    worker: &mut Worker,
    [first, second, third]: [u64; 3],
    is_restarted: bool,
) {
    let line = "echo first; while [ ! -e go ]; do sleep 0.01; done";
    head.order(start(first, line)).await;
    head.said(first, "first").await;
    for task in [second, third] {
        head.order(start(task, "echo later")).await;
    }
    if is_restarted {
        worker.crash();
        let before = head.seen().hellos.len();
        worker.start_again();
        let back = || (head.seen().hellos.len() > before).then_some(());
        wait_for("the worker's return", back, || head.picture()).await;
        for task in [second, third] {
            head.order(start(task, "echo later")).await;
        }
    }
    // The first has begun and goes on; the second waits.
    head.order(retract(first)).await;
    head.order(retract(second)).await;
    let given_back = || {
        let seen = head.seen();
        let mut reports = seen.reports.iter();
        reports.find_map(|r| match &r.body {
            Some(v1::report::Body::GivenBack(_)) => r.attempt.map(|attempt| attempt.task),
            _ => None,
        })
    };
    let given_back = wait_for("an attempt given back", given_back, || head.picture()).await;
    assert_eq!(given_back, second);
    let said = head.messages(third);
    assert_eq!(said, Vec::<String>::new(), "it waits for the slot");

    head.order(cancel(first)).await;
    assert_eq!(code(&head.finished(first).await), "cancelled");
    assert_eq!(code(&head.finished(third).await), "");
    assert_eq!(head.messages(third), ["later"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_given_ahead_waits_for_its_slot_or_is_given_back() {
    let head = FakeHead::start().await;
    let config = "worker: {slots: 1}\nrunners:\n  shell: {prefetch: 2}\n";
    let mut worker = Worker::start_with(&head, config);
    one_after_another(&head, &mut worker, [1, 2, 3], true).await;
    cleaned(&worker).await;
}

/// What the worker grants `shell` now.
fn granted(head: &FakeHead) -> Option<u32> {
    let seen = head.seen();
    let mut runners = seen.worker.iter().flat_map(|worker| &worker.runners);
    runners
        .find(|runner| runner.name == "shell")
        .map(|runner| runner.prefetch)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_far_from_its_head_has_orders_wait_when_its_attempts_are_short() {
    let head = FakeHead::start().await;
    head.seen().distance = Duration::from_millis(300);
    let mut worker = Worker::start_with(&head, "worker: {slots: 1}\n");
    let short = 1..=8;
    for task in short {
        assert_eq!(granted(&head).unwrap_or(0), 0, "{task} are too few");
        head.order(start(task, "true")).await;
        assert_eq!(code(&head.finished(task).await), "");
    }
    let grants = || granted(&head).filter(|prefetch| *prefetch > 0);
    wait_for("a prefetch", grants, || head.picture()).await;
    // What is granted is not known any more after a restart, and what has no slot waits all the same.
    one_after_another(&head, &mut worker, [9, 10, 11], true).await;
    cleaned(&worker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_granted_where_the_configuration_says_so() {
    let head = FakeHead::start().await;
    head.seen().distance = Duration::from_millis(300);
    let config = "worker: {slots: 1}\nrunners:\n  shell: {prefetch: 0}\n";
    let worker = Worker::start_with(&head, config);
    for task in 1..=10 {
        head.order(start(task, "true")).await;
        assert_eq!(code(&head.finished(task).await), "");
    }
    cleaned(&worker).await;
    // It would have been told before the reports of the ninth.
    assert_eq!(granted(&head).unwrap_or(0), 0);
}
