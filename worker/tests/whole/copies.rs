//! A copy of a worker's directory, as a cloned machine has it.

use orchestra_proto::v1::{self, order, report};
use orchestra_types::Place;

use super::{
    LONG, cleaned, code, gone,
    harness::{FakeHead, Worker, is_alive, shell, wait_for},
    sleeper,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_the_head_refuses_says_so_and_ends_and_touches_no_agent() {
    let head = FakeHead::start().await;
    let mut worker = Worker::start(&head);
    let agent = sleeper(&head).await;
    let mut copy = worker.start_copy();

    let status = copy.ended().await;
    let log = copy.log();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("another worker uses this identity"), "{log}");
    assert!(!log.contains("agent found again"), "{log}");
    assert!(is_alive(agent), "the copy has ended the agent: {log}");
    assert_eq!(head.seen().hellos.len(), 1);

    worker.crash();
    worker.start_again();
    let hellos = || (head.seen().hellos.len() == 2).then_some(());
    wait_for("the first one's return", hellos, || worker.log()).await;
    assert!(is_alive(agent));
    worker.stop().await;
    gone(agent).await;
}

/// What a copy says of the attempt that it has not: it was given the worker's place while that was not heard.
fn usurp(head: &FakeHead) {
    let mut seen = head.seen();
    let seq = seen.reports.last().map_or(0, |report| report.seq) + 1;
    let failure = v1::Failure {
        code: "worker_lost".to_owned(),
        ..v1::Failure::default()
    };
    let outcome = v1::Outcome {
        failure: Some(failure),
        ..v1::Outcome::default()
    };
    seen.reports.push(v1::Report {
        seq,
        attempt: Some(v1::AttemptId { task: 1, number: 1 }),
        time_ms: 1,
        body: Some(report::Body::Finished(outcome)),
    });
}

/// The codes of the last reports of task 1, in the order of their numbers.
fn ends(head: &FakeHead) -> Vec<String> {
    let seen = head.seen();
    let ends = seen.reports.iter().filter_map(|report| match &report.body {
        Some(report::Body::Finished(outcome)) => Some(code(outcome).to_owned()),
        _ => None,
    });
    ends.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_copy_has_reported_in_the_place_of_a_worker_costs_none_of_its_work() {
    let mut head = FakeHead::start().await;
    let worker = Worker::start(&head);
    let line = "printf hours > work.txt; echo done; while [ ! -e go ]; do sleep 0.01; done";
    head.order(order::Body::Start(shell(1, line, Place::Empty, LONG)))
        .await;
    head.said(1, "done").await;
    let started = || {
        let seen = head.seen();
        let is_start = |r: &v1::Report| matches!(r.body, Some(report::Body::Started(_)));
        seen.reports.iter().any(is_start).then_some(())
    };
    wait_for("the report of its start", started, || head.picture()).await;
    head.go_away().await;
    head.seen().is_taken = true;
    head.come_back().await;

    // The agent ends, and its worker cannot say so.
    let workspace = "workspaces/task_001.1/task_001.1";
    std::fs::write(worker.file(&format!("{workspace}/go")), "").unwrap();
    let record = worker.file("attempts/task_001.1/attempt.json");
    let reported = || {
        let record = std::fs::read_to_string(&record).unwrap_or_default();
        record.contains("reported").then_some(())
    };
    wait_for("its last report is written down", reported, || worker.log()).await;
    usurp(&head);
    head.seen().is_taken = false;

    let both = || (ends(&head).len() == 2).then_some(());
    wait_for("its own last report", both, || worker.log()).await;
    assert_eq!(ends(&head), ["worker_lost", ""]);
    cleaned(&worker).await;
    let kept = worker.file("aside/task_001.1/workspace/task_001.1/work.txt");
    assert_eq!(std::fs::read_to_string(kept).unwrap(), "hours");
    let log = worker.log();
    assert!(log.contains("another process has spoken"), "{log}");
}
