//! A worker whose directories were removed while it runs.

use std::fs;

use orchestra_proto::v1::{self, order};
use orchestra_types::Place;

use super::{
    LONG,
    harness::{FakeHead, Worker, is_alive, shell},
    sleeper,
};

/// The process above another one.
fn parent(pid: u32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = stat.rsplit(')').next().unwrap();
    fields.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// What the head was told of ends.
fn ends(head: &FakeHead) -> usize {
    let seen = head.seen();
    let bodies = seen
        .reports
        .iter()
        .filter_map(|report| report.body.as_ref());
    bodies
        .filter(|body| matches!(body, v1::report::Body::Finished(_)))
        .count()
}

/// What is done to a worker that runs an agent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Nothing,
    AnOrder,
    AnotherDirectory,
}

async fn ends_with(dirs: &[&str], then: Then, advice: &str) {
    let head = FakeHead::start().await;
    let mut worker = Worker::start(&head);
    let agent = sleeper(&head).await;
    let supervisor = parent(agent);
    for dir in dirs {
        fs::remove_dir_all(worker.file(dir)).unwrap();
    }
    match then {
        Then::Nothing => {}
        Then::AnOrder => {
            let line = shell(2, "true", Place::Empty, LONG);
            head.order(order::Body::Start(line)).await;
        }
        Then::AnotherDirectory => fs::create_dir(worker.file(dirs[0])).unwrap(),
    }

    let status = worker.ended().await;
    let log = worker.log();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("is not there any more"), "{log}");
    assert!(log.contains("cannot be reported"), "{log}");
    assert!(log.contains(advice), "{log}");
    assert!(!is_alive(agent), "the agent runs on");
    assert!(!is_alive(supervisor), "its supervisor runs on");
    assert_eq!(ends(&head), 0, "{}", head.picture());
    if then == Then::AnotherDirectory {
        let left = fs::read_dir(worker.file(dirs[0])).unwrap().count();
        assert_eq!(left, 0, "something was put into what is there now");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_directory_is_gone_ends_its_agents_and_itself_and_fails_no_task() {
    ends_with(&[""], Then::Nothing, "join again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_directory_is_another_one_ends_and_leaves_that_alone() {
    ends_with(&[""], Then::AnotherDirectory, "join again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_attempts_are_gone_ends_and_fails_no_task() {
    ends_with(
        &["attempts", "workspaces"],
        Then::AnOrder,
        "start the worker again",
    )
    .await;
}
