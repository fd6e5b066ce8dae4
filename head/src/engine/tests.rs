use std::{path::Path, sync::Arc, time::Duration};

use orchestra_core::{NewTask, Reply};
use orchestra_types::{TaskId, TaskSpec, TaskStatus};
use tokio::sync::mpsc;

use super::{AskError, Close, Engine, ReadError, View, start};
use crate::{
    blobs::Blobs,
    disk::Disk,
    metrics::Metrics,
    store::{self, Store},
};

/// More than the journal takes on a full disk.
const CANCELLED: u64 = 20_000;

fn engine(dir: &Path) -> (Engine, mpsc::Receiver<Close>) {
    engine_on(dir, None)
}

fn engine_on(dir: &Path, disk: Option<Disk>) -> (Engine, mpsc::Receiver<Close>) {
    let blobs = Blobs::open(&dir.join("blobs")).unwrap();
    let mut store = Store::open(&dir.join("db"), blobs).unwrap();
    if let Some(disk) = disk {
        store = store.on(disk);
    }
    let meter = opentelemetry::global::meter("test");
    let metrics = Arc::new(Metrics::new(&meter, dir.join("db")));
    let (sender, closes) = mpsc::channel(4);
    let (forgotten, _) = mpsc::channel(4);
    let config = orchestra_core::Config::default();
    let runtime = tokio::runtime::Handle::current();
    let engine = start(store, config, sender, forgotten, metrics, runtime).unwrap();
    (engine, closes)
}

fn task(description: &str) -> NewTask {
    NewTask {
        spec: Box::new(TaskSpec {
            timeout: Duration::from_secs(60),
            ..TaskSpec::new(description)
        }),
        after_index: Vec::new(),
    }
}

async fn stop(mut engine: Engine) {
    engine.handle.stop().await.unwrap();
    engine.ended().await.unwrap();
    engine.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledged_submission_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (first, _closes) = engine(dir.path());
    let reply = first.handle.submit("k".to_owned(), vec![task("a")]).await;
    let ids = vec![TaskId(1)];
    let (again, duplicate) = (ids.clone(), true);
    assert_eq!(
        reply,
        Ok(Reply::Submitted {
            ids,
            duplicate: false
        })
    );
    stop(first).await;

    let (second, _closes) = engine(dir.path());
    let read = second.handle.read(|view| {
        let status = view.core.task(TaskId(1)).map(|task| task.status);
        Ok((status, view.store.spec(TaskId(1))?))
    });
    let (status, spec) = read.await.unwrap();
    assert_eq!(status, Some(TaskStatus::Queued));
    assert_eq!(spec.map(|spec| spec.description).as_deref(), Some("a"));
    let reply = second.handle.submit("k".to_owned(), vec![task("a")]).await;
    let ids = again;
    assert_eq!(reply, Ok(Reply::Submitted { ids, duplicate }));
    stop(second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_fails_costs_only_who_asked() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, _closes) = engine(dir.path());
    let read = engine.handle.read(|_| {
        Err::<(), _>(store::Error::Damaged {
            path: "db".into(),
            why: "read corrupted data".to_owned(),
        })
    });
    let error = read.await.unwrap_err();
    assert!(
        matches!(&error, ReadError::Store(why) if why.is_damage()),
        "{error}"
    );
    let reply = engine.handle.submit("k".to_owned(), vec![task("a")]).await;
    assert!(matches!(reply, Ok(Reply::Submitted { .. })), "{reply:?}");
    stop(engine).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_share_commits_and_each_gets_its_own_answer() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, _closes) = engine(dir.path());
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..64 {
        let handle = engine.handle.clone();
        clients.spawn(async move {
            let name = format!("client {client}");
            let reply = handle.submit(name.clone(), vec![task(&name)]).await;
            let Ok(Reply::Submitted { ids, .. }) = reply else {
                panic!("{reply:?}");
            };
            let id = ids[0];
            let spec = handle.read(move |view| view.store.spec(id)).await.unwrap();
            assert_eq!(spec.unwrap().description, name);
            id
        });
    }
    let mut ids = clients.join_all().await;
    ids.sort_unstable();
    assert_eq!(ids, (1..=64).map(TaskId).collect::<Vec<_>>());
    stop(engine).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_hear_of_a_change_only_when_it_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, _closes) = engine(dir.path());
    let mut changes = engine.handle.changes();
    let submitted = engine.handle.submit("k".to_owned(), vec![task("a")]);
    submitted.await.unwrap();
    let id = changes.recv().await.unwrap();
    let found = engine
        .handle
        .read(move |view| Ok(view.core.task(id).is_some()));
    assert!(found.await.unwrap());
    stop(engine).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_engine_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (mut engine, _closes) = engine(dir.path());
    engine.handle.stop().await.unwrap();
    engine.ended().await.unwrap();
    // The head asks again while it winds down, whatever ended the engine.
    engine.ended().await.unwrap();
    let refused = engine.handle.cancel(TaskId(1)).await.unwrap_err();
    assert!(refused.to_string().contains("stopping"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_disk_is_full_changes_are_refused_and_reads_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::watch(dir.path(), Some(0));
    let (engine, _closes) = engine_on(dir.path(), Some(disk.clone()));
    let handle = &engine.handle;
    handle
        .submit("a".to_owned(), vec![task("a")])
        .await
        .unwrap();
    disk.set_reserve(u64::MAX / 4);
    let refused = handle.submit("b".to_owned(), vec![task("b")]).await;
    assert!(matches!(refused, Err(AskError::Full(_))), "{refused:?}");
    let refused = handle.retry(TaskId(1)).await;
    assert!(matches!(refused, Err(AskError::Full(_))), "{refused:?}");
    let read = handle.read(|view| view.store.spec(TaskId(1))).await;
    assert!(read.unwrap().is_some());
    disk.set_reserve(0);
    handle
        .submit("b".to_owned(), vec![task("b")])
        .await
        .unwrap();
    stop(engine).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_tasks_can_be_cancelled_and_that_lasts() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::watch(dir.path(), Some(0));
    let (running, closes) = engine_on(dir.path(), Some(disk.clone()));
    let handle = &running.handle;
    let tasks = (0..CANCELLED + 1).map(|_| task("a")).collect();
    handle.submit("a".to_owned(), tasks).await.unwrap();
    disk.set_reserve(u64::MAX / 4);
    let mut taken = 0;
    let refused = loop {
        match handle.cancel(TaskId(taken + 1)).await {
            Ok(Reply::Done(_)) => taken += 1,
            other => break other,
        }
        assert!(taken <= CANCELLED, "the core's own room is taken");
    };
    assert!(matches!(refused, Err(AskError::Full(_))), "{refused:?}");
    assert!(taken > 100, "{taken}");
    stop(running).await;
    drop(closes);
    let (again, _closes) = engine(dir.path());
    let is_cancelled = move |view: &View<'_>| {
        let status = |id| view.core.task(TaskId(id)).unwrap().status;
        Ok((1..=taken).all(|id| status(id) == TaskStatus::Cancelled)
            && status(taken + 1) == TaskStatus::Queued)
    };
    assert!(again.handle.read(is_cancelled).await.unwrap());
    stop(again).await;
}
