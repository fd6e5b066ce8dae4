//! The wall clock is set while a worker is away.

use std::{fs, time::Duration};

use orchestra_proto::v1::order;
use orchestra_types::Place;

use super::{
    LONG, cleaned, code,
    harness::{FakeHead, Worker, shell, wait_for},
};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Says in the record of the one attempt that it began so much earlier by the wall clock, as it would look
/// after that was set forward.
fn set_clock_forward(worker: &Worker, by: Duration) {
    let record = worker.attempts()[0].join("attempt.json");
    let text = fs::read_to_string(&record).unwrap();
    let line = text.lines().last().unwrap();
    let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["phase"], "started");
    let at = line["at"].as_u64().unwrap() - u64::try_from(by.as_millis()).unwrap();
    line["at"] = at.into();
    fs::write(&record, format!("{text}{line}\n")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wall_clock_that_was_set_ends_no_agent_when_its_worker_comes_back() {
    let head = FakeHead::start().await;
    let mut worker = Worker::start(&head);
    let dir = tempfile::tempdir().unwrap();
    let go = dir.path().join("go");
    let line = format!(
        "echo begun; while [ ! -e {} ]; do sleep 0.01; done; echo ended",
        go.display()
    );
    let start = shell(1, &line, Place::Empty, LONG);
    head.order(order::Body::Start(start)).await;
    head.said(1, "begun").await;
    worker.crash();
    set_clock_forward(&worker, DAY);
    let before = head.seen().hellos.len();
    worker.start_again();
    let back = || (head.seen().hellos.len() > before).then_some(());
    wait_for("the worker's return", back, || head.picture()).await;
    fs::write(&go, "").unwrap();
    let outcome = head.finished(1).await;
    assert_eq!(code(&outcome), "");
    assert_eq!(head.messages(1), ["begun", "ended"]);
    cleaned(&worker).await;
}
