//! The whole worker: the real process, its real supervisor, real shells, a fake head on loopback.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "whole/ahead.rs"]
mod ahead;
#[path = "whole/clock.rs"]
mod clock;
#[path = "whole/copies.rs"]
mod copies;
#[path = "whole/damage.rs"]
mod damage;
#[path = "whole/ground.rs"]
mod ground;
mod harness;
#[path = "whole/joins.rs"]
mod joins;
#[path = "whole/salvage.rs"]
mod salvage;
#[path = "whole/signs.rs"]
mod signs;
#[path = "whole/taken.rs"]
mod taken;

use std::{path::Path, time::Duration};

use harness::{FakeHead, Worker, is_alive, shell, wait_for};
use orchestra_proto::v1::{self, order};
use orchestra_types::{Digest, Place};
use prost::Message;
use rustix::process::{Pid, Signal, kill_process};

const LONG: Duration = Duration::from_secs(600);

fn code(outcome: &v1::Outcome) -> &str {
    outcome
        .failure
        .as_ref()
        .map_or("", |failure| failure.code.as_str())
}

fn paths(head: &FakeHead, outcome: &v1::Outcome) -> Vec<String> {
    let bytes = head.artifact(outcome, "manifest").unwrap_or_default();
    let manifest = v1::Manifest::decode(bytes.as_slice()).unwrap();
    manifest
        .entries
        .into_iter()
        .map(|entry| entry.path)
        .collect()
}

fn cancel(task: u64) -> order::Body {
    order::Body::Cancel(v1::Cancel {
        attempt: Some(v1::AttemptId { task, number: 1 }),
        reason: "cancelled".to_owned(),
    })
}

/// The process number that a script printed as `pid N`.
fn printed_pid(head: &FakeHead, task: u64) -> u32 {
    let messages = head.messages(task);
    let pid = messages
        .iter()
        .find_map(|m| m.strip_prefix("pid "))
        .unwrap();
    pid.parse().unwrap()
}

/// Has task 1 run for long in an empty directory. The agent's pid.
async fn sleeper(head: &FakeHead) -> u32 {
    let line = "echo pid $$; exec sleep 600";
    head.order(order::Body::Start(shell(1, line, Place::Empty, LONG)))
        .await;
    head.said(1, "pid ").await;
    printed_pid(head, 1)
}

async fn gone(pid: u32) {
    let look = || (!is_alive(pid)).then_some(());
    wait_for("the end of the agent", look, || format!("{pid} lives")).await;
}

async fn cleaned(worker: &Worker) {
    let look = || worker.attempts().is_empty().then_some(());
    wait_for("the clean-up", look, || format!("{:?}", worker.attempts())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_run_followed_delivered_and_cleaned_up() {
    let head = FakeHead::start().await;
    let worker = Worker::start(&head);
    let line = "echo hello; echo oops >&2; printf made > made.txt; echo $ORCHESTRA_ATTEMPT";
    head.order(order::Body::Start(shell(1, line, Place::Empty, LONG)))
        .await;

    let outcome = head.finished(1).await;
    assert_eq!(code(&outcome), "", "{outcome:?}");
    assert_eq!(head.messages(1)[..1], ["hello"]);
    assert!(head.messages(1).contains(&"task_001.1".to_owned()));
    assert_eq!(paths(&head, &outcome), ["made.txt"]);
    assert_eq!(
        head.artifact(&outcome, "log").unwrap(),
        b"hello\ntask_001.1\n"
    );
    assert_eq!(head.artifact(&outcome, "stderr").unwrap(), b"oops\n");
    let bodies: Vec<_> = head
        .seen()
        .reports
        .iter()
        .map(|r| r.body.clone().unwrap())
        .collect();
    assert!(matches!(
        bodies[..],
        [v1::report::Body::Started(_), v1::report::Body::Finished(_)]
    ));
    cleaned(&worker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_is_asked_once_for_a_result_and_gets_only_what_it_lacks() {
    let head = FakeHead::start().await;
    let _worker = Worker::start(&head);
    // The same bytes as two parts of a result.
    let line = "echo same; echo same >&2; printf made > made.txt";
    head.order(order::Body::Start(shell(1, line, Place::Empty, LONG)))
        .await;
    let first = head.finished(1).await;
    let bytes = |kind| head.artifact(&first, kind).unwrap();
    assert_eq!(bytes("log"), bytes("stderr"));
    let mut sent = head.seen().uploads.clone();
    sent.sort();
    let stored: Vec<_> = head.seen().blobs.keys().cloned().collect();
    assert_eq!(sent, stored, "each once");
    assert_eq!(head.seen().asked, [stored.len()]);

    head.order(order::Body::Start(shell(2, line, Place::Empty, LONG)))
        .await;
    let second = head.finished(2).await;
    assert_eq!(first.artifacts, second.artifacts);
    assert_eq!(head.seen().uploads.len(), stored.len());
    assert_eq!(head.seen().asked, [stored.len(); 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_while_the_head_is_away() {
    let mut head = FakeHead::start().await;
    let worker = Worker::start(&head);
    let dir = tempfile::tempdir().unwrap();
    let line = format!(
        "echo 0; while [ ! -e {0}/go ]; do sleep 0.02; done; seq 1 500; touch {0}/done",
        dir.path().display()
    );
    head.order(order::Body::Start(shell(1, &line, Place::Empty, LONG)))
        .await;
    head.said(1, "0").await;

    head.go_away().await;
    std::fs::write(dir.path().join("go"), "").unwrap();
    let done = dir.path().join("done");
    wait_for(
        "the agent's end",
        || done.exists().then_some(()),
        || worker.log(),
    )
    .await;
    head.come_back().await;

    let outcome = head.finished(1).await;
    assert_eq!(code(&outcome), "", "{outcome:?}");
    let expected: Vec<_> = (0..=500).map(|n| n.to_string()).collect();
    assert_eq!(head.messages(1), expected);
    assert_eq!(head.seen().reports.len(), 2);
    cleaned(&worker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_task_leaves_no_process_and_keeps_what_it_made() {
    let head = FakeHead::start().await;
    let worker = Worker::start(&head);
    let line = "trap '' TERM; printf half > half.txt; echo pid $$; while :; do sleep 1000; done";
    head.order(order::Body::Start(shell(1, line, Place::Empty, LONG)))
        .await;
    head.said(1, "pid").await;

    head.order(cancel(1)).await;
    let outcome = head.finished(1).await;
    assert_eq!(code(&outcome), "cancelled");
    assert_eq!(paths(&head, &outcome), ["half.txt"]);
    gone(printed_pid(&head, 1)).await;
    cleaned(&worker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_takes_too_long_is_stopped() {
    let head = FakeHead::start().await;
    let worker = Worker::start(&head);
    let line = "echo pid $$; exec sleep 1000";
    let timeout = Duration::from_millis(1500);
    head.order(order::Body::Start(shell(1, line, Place::Empty, timeout)))
        .await;

    let outcome = head.finished(1).await;
    assert_eq!(code(&outcome), "timeout", "{outcome:?}");
    gone(printed_pid(&head, 1)).await;
    cleaned(&worker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_outlives_a_killed_worker_and_its_result_is_reported_once() {
    let head = FakeHead::start().await;
    let mut worker = Worker::start(&head);
    let dir = tempfile::tempdir().unwrap();
    let line = format!(
        "echo first; while [ ! -e {}/go ]; do sleep 0.02; done; echo second; printf x > made",
        dir.path().display()
    );
    head.order(order::Body::Start(shell(1, &line, Place::Empty, LONG)))
        .await;
    head.said(1, "first").await;

    worker.crash();
    std::fs::write(dir.path().join("go"), "").unwrap();
    worker.start_again();

    let outcome = head.finished(1).await;
    assert_eq!(code(&outcome), "", "{outcome:?}");
    assert_eq!(head.messages(1), ["first", "second"]);
    assert_eq!(paths(&head, &outcome), ["made"]);
    let held = head.seen().hellos.last().unwrap().held.clone();
    assert!(held.len() == 1 && held[0].started, "{held:?}");
    cleaned(&worker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_worker_leaves_no_process_and_its_partial_results_arrive_later() {
    let mut head = FakeHead::start().await;
    let mut worker = Worker::start(&head);
    let line = "printf half > half.txt; echo pid $$; sleep 1000";
    head.order(order::Body::Start(shell(1, line, Place::Empty, LONG)))
        .await;
    head.said(1, "pid").await;

    head.go_away().await;
    assert!(worker.stop().await.success());
    gone(printed_pid(&head, 1)).await;

    head.come_back().await;
    worker.start_again();
    let outcome = head.finished(1).await;
    assert_eq!(code(&outcome), "worker_lost");
    assert_eq!(paths(&head, &outcome), ["half.txt"]);
    cleaned(&worker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn work_in_place_changes_the_directory_itself() {
    let head = FakeHead::start().await;
    let worker = Worker::start(&head);
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("old.txt"), "old").unwrap();
    let place = Place::InPlace {
        dir: dir.path().to_owned(),
        machine: machine(&head).await,
    };
    let line = "printf new > new.txt; rm old.txt";
    head.order(order::Body::Start(shell(1, line, place, LONG)))
        .await;

    let outcome = head.finished(1).await;
    assert_eq!(paths(&head, &outcome), ["new.txt", "old.txt"]);
    assert!(dir.path().join("new.txt").exists());
    cleaned(&worker).await;
}

async fn machine(head: &FakeHead) -> orchestra_types::MachineId {
    let find = || head.seen().hellos.first().and_then(|h| h.worker.clone());
    let worker = wait_for("a worker", find, || head.picture()).await;
    worker.machine.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_to_a_repository_comes_back_as_manifest_patch_and_bundle() {
    let head = FakeHead::start().await;
    let worker = Worker::start(&head);
    let user = tempfile::tempdir().unwrap();
    let (commit, bundle) = repository(user.path());
    let place = begins_with(commit, head.store(bundle));
    let line = "git log --format=%s; printf two > file.txt";
    head.order(order::Body::Start(shell(7, line, place, LONG)))
        .await;

    let outcome = head.finished(7).await;
    assert_eq!(code(&outcome), "", "{outcome:?}");
    assert_eq!(head.messages(7), ["begin"]);
    assert_eq!(paths(&head, &outcome), ["file.txt"]);
    assert_eq!(outcome.branch, "orchestra/task_007");
    let patch = String::from_utf8(head.artifact(&outcome, "patch").unwrap()).unwrap();
    assert!(patch.contains("+two"), "{patch}");
    assert!(head.artifact(&outcome, "bundle").is_some());
    cleaned(&worker).await;
}

/// Where a task works that begins with this commit.
fn begins_with(commit: String, bundle: [u8; 32]) -> Place {
    Place::Repository {
        commit: commit.clone(),
        head: commit,
        branch: "main".to_owned(),
        bundles: vec![Digest(bundle)],
        ignore_rules: String::new(),
    }
}

/// A repository with one commit; the commit and a bundle of it.
fn repository(dir: &Path) -> (String, Vec<u8>) {
    let git = |args: &[&str]| {
        let done = std::process::Command::new("git")
            .args([
                "-c",
                "user.name=t",
                "-c",
                "user.email=t@t",
                "-c",
                "init.defaultBranch=main",
            ])
            .args(args)
            .current_dir(dir)
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    };
    git(&["init", "-q"]);
    std::fs::write(dir.join("file.txt"), "one").unwrap();
    git(&["add", "-A"]);
    git(&["commit", "-qm", "begin"]);
    git(&["bundle", "create", "-q", "the.bundle", "HEAD", "main"]);
    let bundle = dir.join("the.bundle");
    let bytes = std::fs::read(&bundle).unwrap();
    std::fs::remove_file(bundle).unwrap();
    (git(&["rev-parse", "HEAD"]), bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_is_not_there_is_a_failure_that_says_so() {
    let head = FakeHead::start().await;
    let worker = Worker::start(&head);
    let mut start = shell(1, "true", Place::Empty, LONG);
    start.runner = "claude".to_owned();
    head.order(order::Body::Start(start)).await;

    let outcome = head.finished(1).await;
    assert_eq!(code(&outcome), "spawn_failed");
    assert!(outcome.failure.unwrap().message.contains("not installed"));
    cleaned(&worker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_whose_record_cannot_be_read_is_put_aside_and_reported_once() {
    let head = FakeHead::start().await;
    let mut worker = Worker::start(&head);
    let agent = sleeper(&head).await;
    worker.crash();
    std::fs::write(worker.file("attempts/task_001.1/attempt.json"), "{").unwrap();
    worker.start_again();

    let outcome = head.finished(1).await;
    assert_eq!(code(&outcome), "internal", "{outcome:?}");
    let message = outcome.failure.unwrap().message;
    assert!(message.contains("aside/task_001.1"), "{message}");
    let kept = || worker.file("aside/task_001.1/order").exists().then_some(());
    wait_for("its files are kept", kept, || worker.log()).await;
    gone(agent).await;
    worker.crash();
    worker.start_again();
    let third = || head.seen().hellos.get(2).cloned();
    wait_for("the next worker", third, || head.picture()).await;
    let found_again = worker.file("attempts/task_001.1").exists();
    assert!(!found_again, "it was found again");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_put_aside_by_a_worker_that_was_killed_is_reported_by_the_next_one() {
    let head = FakeHead::start().await;
    let mut worker = Worker::start(&head);
    let agent = sleeper(&head).await;
    worker.crash();
    // As it is between the two: nothing of it runs, and its report is nowhere.
    let pid = Pid::from_raw(agent.try_into().unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    gone(agent).await;
    std::fs::create_dir_all(worker.file("aside")).unwrap();
    let unreported = worker.file("aside/task_001.1.unreported");
    std::fs::rename(worker.file("attempts/task_001.1"), &unreported).unwrap();
    worker.start_again();

    let outcome = head.finished(1).await;
    assert_eq!(code(&outcome), "result_failed", "{outcome:?}");
    let message = outcome.failure.unwrap().message;
    assert!(message.ends_with("aside/task_001.1`"), "{message}");
    let name = head.seen().hellos[0].worker.clone().unwrap().name;
    assert!(
        message.contains(&format!("on worker {name}, in `")),
        "{message}"
    );
    let kept = || worker.file("aside/task_001.1/order").exists().then_some(());
    wait_for("its files are kept", kept, || worker.log()).await;
    assert!(!unreported.exists());
    let held = head.seen().hellos[1].held.clone();
    let held: Vec<_> = held.iter().filter_map(|held| held.attempt).collect();
    assert_eq!(held, [v1::AttemptId { task: 1, number: 1 }]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_of_which_only_its_last_report_is_left_is_held_until_that_is_acknowledged() {
    let mut head = FakeHead::start().await;
    let mut worker = Worker::start(&head);
    sleeper(&head).await;
    worker.crash();
    head.go_away().await;
    std::fs::write(worker.file("attempts/task_001.1/attempt.json"), "{").unwrap();
    worker.start_again();
    let aside = || worker.file("aside/task_001.1").exists().then_some(());
    wait_for("its files are put aside", aside, || worker.log()).await;
    head.come_back().await;

    let held = || head.seen().hellos.get(1).map(|hello| hello.held.clone());
    let held = wait_for("the next worker", held, || head.picture()).await;
    let attempts: Vec<_> = held.iter().filter_map(|held| held.attempt).collect();
    assert_eq!(attempts, [v1::AttemptId { task: 1, number: 1 }]);
    assert_eq!(code(&head.finished(1).await), "internal");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_may_open_all_files_that_it_is_allowed_to_and_its_agents_what_its_shell_had() {
    let head = FakeHead::start().await;
    let worker = Worker::start(&head);
    let order = shell(1, "ulimit -Sn", Place::Empty, LONG);
    head.order(order::Body::Start(order)).await;
    assert_eq!(code(&head.finished(1).await), "");
    assert_eq!(head.messages(1), [harness::OPEN_FILES.to_string()]);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", worker.pid())).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let numbers: Vec<_> = line.unwrap().split_whitespace().skip(3).take(2).collect();
    assert_eq!(numbers[0], numbers[1], "{limits}");
}
