//! Whatever an agent does to its workspace, and whatever ends it: what is left comes back, or is kept.

use std::{collections::BTreeMap, path::Path};

use orchestra_proto::v1::{self, order};
use orchestra_types::{Digest, Place};

use super::{
    LONG, cleaned, code,
    harness::{FakeHead, Worker, shell},
    paths, repository,
};

/// A repository with one file, as a place that the head has.
fn place(head: &FakeHead, dir: &Path) -> Place {
    let (commit, bundle) = repository(dir);
    Place::Repository {
        commit: commit.clone(),
        head: commit,
        branch: "main".to_owned(),
        bundles: vec![Digest(head.store(bundle))],
        ignore_rules: String::new(),
    }
}

/// What becomes of a task that runs this in a repository with one file.
async fn run(head: &FakeHead, task: u64, line: &str) -> v1::Outcome {
    let user = tempfile::tempdir().unwrap();
    let place = place(head, user.path());
    head.order(order::Body::Start(shell(task, line, place, LONG)))
        .await;
    head.finished(task).await
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_left_of_a_workspace_comes_back() {
    let head = FakeHead::start().await;
    let worker = Worker::start(&head);
    let lines = [
        "rm -rf .git; printf x > kept.txt",
        "rm -rf .git; echo 'gitdir: /etc' > .git; printf x > kept.txt",
        "truncate -s 10G huge; printf x > kept.txt",
        "printf x > kept.txt; chmod -R a-w .",
        "mkdir d; cd d; printf x > ../kept.txt; rmdir ../d",
        "mkfifo pipe .git/pipe; printf x > kept.txt",
    ];
    for (task, line) in (1..).zip(lines) {
        let outcome = run(&head, task, line).await;
        assert_eq!(code(&outcome), "", "{line}: {outcome:?}");
        assert_eq!(paths(&head, &outcome), ["kept.txt"], "{line}");
        assert!(head.artifact(&outcome, "bundle").is_some(), "{line}");
    }
    cleaned(&worker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_that_the_agent_removed_is_a_failure_that_says_so_and_its_output_is_there() {
    let head = FakeHead::start().await;
    let worker = Worker::start(&head);
    let outcome = run(&head, 1, "echo all of it; rm -rf \"$PWD\"").await;
    assert_eq!(code(&outcome), "result_failed", "{outcome:?}");
    let message = outcome.failure.clone().unwrap().message;
    assert!(message.contains("workspaces/task_001.1"), "{message}");
    let log = head.artifact(&outcome, "log").unwrap();
    assert_eq!(log, b"all of it\n");
    cleaned(&worker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_head_from_a_backup_does_not_know_is_put_aside() {
    let mut head = FakeHead::start().await;
    let mut worker = Worker::start(&head);
    for task in 1..=2 {
        let user = tempfile::tempdir().unwrap();
        let place = place(&head, user.path());
        let line = "printf hours > work.txt; echo done; sleep 600";
        head.order(order::Body::Start(shell(task, line, place, LONG)))
            .await;
        head.said(task, "done").await;
    }
    head.go_away().await;
    head.seen().knows_nothing = true;
    head.come_back().await;
    for task in 1..=2 {
        let kept = worker.file(&format!(
            "aside/task_00{task}.1/workspace/task_00{task}.1/work.txt"
        ));
        let kept = || std::fs::read_to_string(&kept).ok();
        let text = super::wait_for("it is put aside", kept, || worker.log()).await;
        assert_eq!(text, "hours");
    }
    assert!(
        worker
            .log()
            .contains("the head may not have what this attempt has done")
    );
    cleaned(&worker).await;
    // Only their last reports may be left, of which there is nothing to keep.
    let attached = |log: &str| log.matches("attached to the head").count();
    let before = attached(&worker.log());
    worker.crash();
    worker.start_again();
    let again = || (attached(&worker.log()) > before).then_some(());
    super::wait_for("it is back", again, || worker.log()).await;
    cleaned(&worker).await;
    assert!(!worker.log().contains("is not kept"), "{}", worker.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_puts_beside_its_workspace_is_its_own_and_goes_with_it() {
    let head = FakeHead::start().await;
    let worker = Worker::start(&head);
    let line = "test \"$(ls ..)\" = \"$(basename \"$PWD\")\" || exit 1; \
                echo x > ../stray; git worktree add -q ../fix -b fix";
    for task in 1..=2 {
        let outcome = run(&head, task, line).await;
        assert_eq!(code(&outcome), "", "{outcome:?}");
        cleaned(&worker).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_in_the_place_of_a_workspace_is_never_followed() {
    let head = FakeHead::start().await;
    let worker = Worker::start(&head);
    let foreign = tempfile::tempdir().unwrap();
    std::fs::write(foreign.path().join("key"), "foreign").unwrap();
    let link = |up: &str| {
        let to = foreign.path().display();
        format!("printf work > kept.txt; cd {up}; mv task_00* x; ln -s {to} task_00$N.1")
    };
    // The agent's own directory, and the one around it.
    for (task, line) in [(1, link("..")), (2, link("../.."))] {
        let line = format!("N={task}; {line}");
        let outcome = run(&head, task, &line).await;
        assert_eq!(code(&outcome), "result_failed", "{outcome:?}");
        let message = outcome.failure.clone().unwrap().message;
        assert!(message.contains("is a link now"), "{message}");
        assert_eq!(head.artifact(&outcome, "bundle"), None);
        assert_eq!(paths(&head, &outcome), [""; 0]);
    }
    let kept = worker.file("aside/task_001.1/workspace/x/kept.txt");
    let kept = || std::fs::read_to_string(&kept).ok();
    let text = super::wait_for("it is put aside", kept, || worker.log()).await;
    assert_eq!(text, "work");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_that_the_agent_moved_is_put_aside_and_named() {
    let head = FakeHead::start().await;
    let worker = Worker::start(&head);
    let outcome = run(&head, 1, "echo work > kept.txt; mv \"$PWD\" ../moved").await;
    assert_eq!(code(&outcome), "result_failed", "{outcome:?}");
    let message = outcome.failure.unwrap().message;
    let area = worker.file("aside/task_001.1/workspace");
    let told = format!("in `{}`", area.display());
    assert!(
        message.contains("is gone") && message.ends_with(&told),
        "{message}"
    );
    let kept = || std::fs::read_to_string(area.join("moved/kept.txt")).ok();
    super::wait_for("it is put aside", kept, || worker.log()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_for_a_result_is_put_aside() {
    let head = FakeHead::start().await;
    let worker = Worker::start(&head);
    let user = tempfile::tempdir().unwrap();
    let line = "echo x > small; truncate -s 300M big.bin";
    let start = shell(1, line, place(&head, user.path()), LONG);
    head.order(order::Body::Start(start)).await;
    let outcome = head.finished(1).await;
    assert_eq!(code(&outcome), "", "{outcome:?}");
    assert_eq!(paths(&head, &outcome), ["small"]);
    let kept = worker.file("aside/task_001.1/workspace/task_001.1/big.bin");
    let kept = || kept.metadata().ok();
    super::wait_for("it is put aside", kept, || worker.log()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_that_was_moved_is_not_looked_for_after_a_restart_either() {
    let head = FakeHead::start().await;
    let mut worker = Worker::start(&head);
    let user = tempfile::tempdir().unwrap();
    let place = place(&head, user.path());
    let go = user.path().join("go");
    let line = format!(
        "echo w > r; cd ..; mv task_001.1 x; echo moved; while [ ! -e {} ]; do sleep 0.02; done",
        go.display()
    );
    head.order(order::Body::Start(shell(1, &line, place, LONG)))
        .await;
    head.said(1, "moved").await;
    worker.crash();
    std::fs::write(go, "").unwrap();
    worker.start_again();
    let outcome = head.finished(1).await;
    assert_eq!(code(&outcome), "result_failed", "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_that_cannot_be_collected_is_kept_and_named() {
    let head = FakeHead::start().await;
    let worker = Worker::start(&head);
    let line =
        "printf work > kept.txt; cd ../../../attempts/task_001.1/git; rm -r refs; rm -f HEAD";
    let outcome = run(&head, 1, line).await;
    assert_eq!(code(&outcome), "result_failed", "{outcome:?}");
    let message = outcome.failure.clone().unwrap().message;
    assert!(
        message.contains("aside/task_001.1/workspace/task_001.1"),
        "{message}"
    );
    cleaned(&worker).await;
    let kept = worker.file("aside/task_001.1/workspace/task_001.1/kept.txt");
    assert_eq!(std::fs::read_to_string(kept).unwrap(), "work");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_was_cut_goes_on_where_it_stopped() {
    let head = FakeHead::start().await;
    let _worker = Worker::start(&head);
    let user = tempfile::tempdir().unwrap();
    let noise: BTreeMap<u32, u32> = (0..20_000_u32)
        .map(|n| (n, n.wrapping_mul(0x9E37_79B9)))
        .collect();
    std::fs::write(user.path().join("noise.txt"), format!("{noise:?}")).unwrap();
    let place = place(&head, user.path());
    head.seen().cuts = 2;
    head.order(order::Body::Start(shell(1, "rm noise.txt", place, LONG)))
        .await;
    let outcome = head.finished(1).await;
    assert_eq!(code(&outcome), "", "{outcome:?}");
    assert_eq!(paths(&head, &outcome), ["noise.txt"]);
    let downloads = head.seen().downloads.clone();
    assert!(
        matches!(downloads[..], [0, half, most] if 0 < half && half < most),
        "{downloads:?}"
    );
}
