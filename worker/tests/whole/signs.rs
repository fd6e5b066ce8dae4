//! Signs of life of an attempt of whose agent nothing can be heard yet.

use std::fs;

use orchestra_proto::v1::{self, order};
use orchestra_types::{Digest, Place, SetUp};

use super::{
    LONG, cleaned, code,
    harness::{FakeHead, Worker, shell, wait_for},
    repository,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_set_up_command_is_heard_of_and_a_silent_agent_is_not() {
    let head = FakeHead::start().await;
    let mut worker = Worker::start(&head);
    let user = tempfile::tempdir().unwrap();
    let (commit, bundle) = repository(user.path());
    let place = Place::Repository {
        commit: commit.clone(),
        head: commit,
        branch: "main".to_owned(),
        bundles: vec![Digest(head.store(bundle))],
        ignore_rules: String::new(),
    };
    let gate = |name: &str| {
        let file = user.path().join(name);
        format!("while [ ! -e {} ]; do sleep 0.02; done", file.display())
    };
    let mut start = shell(1, &gate("end"), place.clone(), LONG);
    let spec = start.spec.as_mut().unwrap();
    spec.set_up = Some(v1::SetUp::from(SetUp {
        command: gate("ready"),
        timeout: LONG,
        files: Vec::new(),
    }));
    head.order(order::Body::Start(start)).await;
    let signs = |task: u64| head.seen().signs.get(&(task, 1)).copied();
    let more = async |than: u32| {
        let more = || signs(1).filter(|signs| *signs > than);
        wait_for("signs of life", more, || head.picture()).await
    };
    more(1).await;
    // The next worker process gives them, too.
    worker.crash();
    let before = signs(1).unwrap_or_default();
    worker.start_again();
    more(before).await;

    head.order(order::Body::Start(shell(2, &gate("end"), place, LONG)))
        .await;
    fs::write(user.path().join("ready"), "").unwrap();
    let started = |task: u64| {
        let seen = head.seen();
        let mut events = seen.events.get(&(task, 1)).into_iter().flatten();
        let is_start = |event: &v1::Event| match &event.kind {
            Some(v1::event::Kind::Status(status)) => status.phase == "started",
            _ => false,
        };
        events.any(is_start).then_some(())
    };
    for task in [1, 2] {
        wait_for("the agent's start", || started(task), || head.picture()).await;
    }
    fs::write(user.path().join("end"), "").unwrap();
    for task in [1, 2] {
        assert_eq!(code(&head.finished(task).await), "");
    }
    assert_eq!(signs(2), None, "it has no set-up command");
    cleaned(&worker).await;
}
