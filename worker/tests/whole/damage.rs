//! What a worker keeps of a project is damaged between two tasks.

use std::{
    fs,
    path::{Path, PathBuf},
};

use orchestra_proto::v1::{self, order};

use super::{
    LONG, begins_with, cleaned, code,
    harness::{FakeHead, Worker, shell},
    paths, repository,
};

/// The project's newest repository at the worker.
fn newest(worker: &Worker) -> PathBuf {
    let all = fs::read_dir(worker.file("cache/repositories")).unwrap();
    let paths = all.map(|entry| entry.unwrap().path());
    paths
        .max_by_key(|path| path.to_string_lossy().len())
        .unwrap()
}

fn pack(repository: &Path) -> PathBuf {
    let entries = fs::read_dir(repository.join("objects/pack")).unwrap();
    let mut paths = entries.map(|entry| entry.unwrap().path());
    paths
        .find(|path| path.extension().unwrap() == "pack")
        .unwrap()
}

/// The events of Orchestra's own that an attempt told of a phase.
fn told(head: &FakeHead, task: u64, of: &str) -> Vec<String> {
    let seen = head.seen();
    let events = seen.events.get(&(task, 1)).cloned().unwrap_or_default();
    let status = |event: v1::Event| match event.kind {
        Some(v1::event::Kind::Status(status)) if status.phase == of => Some(status.text),
        _ => None,
    };
    events.into_iter().filter_map(status).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_after_the_damage_succeeds_and_one_that_runs_is_not_touched() {
    let head = FakeHead::start().await;
    let worker = Worker::start(&head);
    let user = tempfile::tempdir().unwrap();
    let (commit, bundle) = repository(user.path());
    let place = begins_with(commit, head.store(bundle.clone()));
    let start = async |task, line: &str| {
        let start = shell(task, line, place.clone(), LONG);
        head.order(order::Body::Start(start)).await;
    };
    let line = "echo begun; while [ ! -e ../go ]; do sleep 0.01; done; git log --format=%s; printf x > new.txt";
    start(1, line).await;
    head.said(1, "begun").await;
    let first = newest(&worker);

    // What the running one borrows is not touched.
    fs::remove_file(first.join("HEAD")).unwrap();
    start(2, "cat file.txt").await;
    let outcome = head.finished(2).await;
    assert_eq!(code(&outcome), "", "{outcome:?}");
    assert_eq!(head.messages(2), ["one"]);
    let events = told(&head, 2, "cache_replaced");
    assert!(events[0].contains("is damaged"), "{events:?}");
    assert!(worker.log().contains("the cache of a project is damaged"));

    fs::write(worker.file("workspaces/task_001.1/go"), "").unwrap();
    let outcome = head.finished(1).await;
    assert_eq!(code(&outcome), "", "{outcome:?}");
    assert_eq!(paths(&head, &outcome), ["new.txt"]);
    assert!(head.messages(1).concat().contains("begin"));

    // The bundle that was fetched is damaged as well.
    let second = newest(&worker);
    assert_ne!(first, second);
    fs::remove_file(pack(&second)).unwrap();
    for entry in fs::read_dir(worker.file("cache/bundles")).unwrap() {
        fs::write(entry.unwrap().path(), &bundle[..bundle.len() / 2]).unwrap();
    }
    start(3, "cat file.txt").await;
    let outcome = head.finished(3).await;
    assert_eq!(code(&outcome), "", "{outcome:?}");
    assert_eq!(head.messages(3), ["one"]);
    assert!(worker.log().contains("a bundle is damaged"));
    assert!(first.exists(), "housekeeping removes it later");
    cleaned(&worker).await;
}
