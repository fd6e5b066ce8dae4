use std::{
    fs::File,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use orchestra_core::{Change, NewTask};
use orchestra_proto::{batch::encode, v1};
use orchestra_types::{
    Artifact, ArtifactKind, AttemptId, ContextFile, Digest, ProjectRef, TaskId, TaskSpec, Timestamp,
};
use tokio::sync::mpsc;

use super::{Keeper, Mode, OutputLimits};
use crate::{
    blobs::Blobs,
    context,
    engine::{self, Clock, Engine},
    events::{Events, Limits, Owner},
    metrics::Metrics,
    store::Store,
};

const DAY: Duration = Duration::from_secs(24 * 3600);

struct World {
    dir: tempfile::TempDir,
    keeper: Keeper,
    engine: Engine,
    events: Owner,
}

impl World {
    fn new() -> Self {
        Self::begin(tempfile::tempdir().unwrap(), Clock::start())
    }

    fn begin(dir: tempfile::TempDir, clock: Clock) -> Self {
        let blobs = Blobs::open(&dir.path().join("blobs")).unwrap();
        let store = Store::open(&dir.path().join("db"), blobs.clone()).unwrap();
        let metrics = Metrics::new(&opentelemetry::global::meter("test"), dir.path().join("db"));
        let metrics = Arc::new(metrics);
        let (events, owner) = Events::start(&dir.path().join("events"), Limits::default()).unwrap();
        let engine = engine::start_by(
            clock,
            store,
            orchestra_core::Config::default(),
            mpsc::channel(4).0,
            mpsc::channel(4).0,
            Arc::clone(&metrics),
            tokio::runtime::Handle::current(),
        );
        let engine = engine.unwrap();
        let context = context::Store::new(
            &dir.path().join("context"),
            &orchestra_config::ContextConfig::default(),
            "here".parse().unwrap(),
        );
        let keeper = Keeper {
            engine: engine.handle.clone(),
            events,
            blobs,
            uploads_for: DAY,
            context: Arc::new(context),
            outputs: OutputLimits {
                kept_for: 90 * DAY,
                max: 2,
            },
            metrics,
            gate: Arc::default(),
        };
        Self {
            dir,
            keeper,
            engine,
            events: owner,
        }
    }

    /// Stores a text that was last asked for two days ago.
    fn old(&self, text: &str) -> Digest {
        let digest = self.keeper.blobs.put(text.as_bytes()).unwrap();
        age(&self.keeper.blobs.path(&digest));
        digest
    }

    async fn end(self) {
        drop(self.stop().await);
    }

    async fn stop(mut self) -> tempfile::TempDir {
        self.engine.handle.stop().await.unwrap();
        self.engine.ended().await.unwrap();
        drop(self.keeper);
        self.events.ended().await.unwrap();
        self.engine.join().unwrap();
        self.dir
    }
}

fn age(path: &Path) {
    let file = File::open(path).unwrap();
    file.set_modified(SystemTime::now() - 2 * DAY).unwrap();
}

fn task(file: Digest) -> NewTask {
    let content = Artifact {
        kind: ArtifactKind::Context,
        digest: file,
        size: 4,
    };
    NewTask {
        spec: Box::new(TaskSpec {
            context_files: vec![ContextFile {
                name: "notes".to_owned(),
                content,
            }],
            ..TaskSpec::new("x".repeat(100 * 1024))
        }),
        after_index: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_go_when_no_row_refers_to_them_and_nobody_asked_for_them_lately() {
    let world = World::new();
    let (used, unused, asked) = (world.old("used"), world.old("unused"), world.old("asked"));
    let young = world.keeper.blobs.put(b"young").unwrap();
    let submitted = world.engine.handle.submit("k".to_owned(), vec![task(used)]);
    submitted.await.unwrap();
    // The row itself is large, and lies among the stored bytes too.
    for fan in world.keeper.blobs.stored().unwrap() {
        fan.unwrap().iter().for_each(|stored| {
            if stored.size > 1000 {
                age(&world.keeper.blobs.path(&stored.digest));
            }
        });
    }
    assert!(world.keeper.blobs.has(&asked), "a submission is on its way");

    let swept = world.keeper.sweep(Mode::Remove).await.unwrap();
    assert_eq!((swept.files, swept.bytes), (1, 6));
    let kept = |digest| world.keeper.blobs.path(&digest).exists();
    assert!(kept(used) && kept(asked) && kept(young));
    assert!(!kept(unused));
    let spec = world.engine.handle.read(|view| view.store.spec(TaskId(1)));
    assert!(
        spec.await.unwrap().is_some(),
        "the large row is still there"
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_cannot_be_read_keeps_everything() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new();
    let large = task(world.old("used"));
    let submitted = world.engine.handle.submit("k".to_owned(), vec![large]);
    submitted.await.unwrap();
    let unused = world.old("unused");
    for fan in world.keeper.blobs.stored().unwrap() {
        for stored in fan.unwrap().iter().filter(|stored| stored.size > 1000) {
            let path = world.keeper.blobs.path(&stored.digest);
            std::fs::rename(path, dir.path().join("away")).unwrap();
        }
    }
    let error = world.keeper.sweep(Mode::Remove).await.unwrap_err();
    assert!(
        format!("{error:#}").contains("keeps everything"),
        "{error:#}"
    );
    assert!(world.keeper.blobs.path(&unused).exists());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_tasks_that_are_gone_go() {
    let world = World::new();
    let file = world.old("used");
    let submitted = world.engine.handle.submit("k".to_owned(), vec![task(file)]);
    submitted.await.unwrap();
    let events = &world.keeper.events;
    let event = v1::Event {
        seq: 1,
        ..Default::default()
    };
    for (task, number) in [(1, 1), (7, 1), (7, 3)] {
        let id = AttemptId {
            task: TaskId(task),
            number,
        };
        let pending = events
            .append(id, 1, encode(std::slice::from_ref(&event)))
            .await;
        pending.unwrap().durable().await.unwrap();
    }
    assert_eq!(world.keeper.sweep(Mode::Remove).await.unwrap().events, 1);
    let left = events.stored().unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].task, TaskId(1));
    world.end().await;
}

/// Makes an output in the context of a project.
fn record(keeper: &Keeper, project: &ProjectRef, number: u64) {
    let task = context::ClosingTask {
        id: TaskId(number),
        attempt: 1,
        spec: TaskSpec {
            project: Some(project.clone()),
            ..TaskSpec::new("x")
        },
        status: orchestra_types::TaskStatus::Succeeded,
        failure: None,
        runner: String::new(),
        worker: String::new(),
        started_at: None,
        finished_at: Timestamp(0),
        files: Vec::new(),
        text: "done".to_owned(),
    };
    keeper.context.record(&task).unwrap();
}

/// The outputs of these tasks in the context of a project.
fn outputs(keeper: &Keeper, dir: &Path, tasks: &[u64]) -> Vec<std::path::PathBuf> {
    let project = ProjectRef {
        id: "p".parse().unwrap(),
        name: "p".to_owned(),
        dir: dir.join("elsewhere"),
        machine: "there".parse().unwrap(),
    };
    let path = |number: &u64| {
        record(keeper, &project, *number);
        dir.join(format!(
            "context/p/agent_outputs/task_{number:03}_output.md"
        ))
    };
    tasks.iter().map(path).collect()
}

fn there(paths: &[std::path::PathBuf]) -> Vec<bool> {
    paths.iter().map(|path| path.exists()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_of_forgotten_tasks_go_when_they_are_too_many_or_too_old() {
    let world = World::new();
    let file = world.old("used");
    let submitted = world.engine.handle.submit("k".to_owned(), vec![task(file)]);
    submitted.await.unwrap();
    let paths = outputs(&world.keeper, world.dir.path(), &[1, 7, 8, 9]);
    let would = world.keeper.sweep(Mode::Look).await.unwrap();
    assert_eq!(
        would.outputs, 1,
        "two are kept, and the task of one is known"
    );
    let size = paths[1].metadata().unwrap().len();
    assert_eq!(would.output_bytes, size);
    assert_eq!(there(&paths), [true; 4], "a look removed something");
    let swept = world.keeper.sweep(Mode::Remove).await.unwrap();
    assert_eq!((swept.outputs, swept.output_bytes), (1, size));
    assert_eq!(there(&paths), [true, false, true, true]);

    for path in [&paths[0], &paths[2]] {
        let file = File::open(path).unwrap();
        file.set_modified(SystemTime::now() - 91 * DAY).unwrap();
    }
    let swept = world.keeper.sweep_outputs(Mode::Remove).await.unwrap();
    assert_eq!(swept.outputs, 1);
    assert_eq!(there(&paths), [true, false, false, true]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_outputs_are_due_all_their_copies_go() {
    let mut world = World::new();
    let dir = world.dir.path().join("project");
    std::fs::create_dir(&dir).unwrap();
    let machine = "here".parse().unwrap();
    let [_, id] = orchestra_repo::projects_of(&dir, None, &machine).unwrap();
    let config = orchestra_config::ContextConfig::default();
    let context = context::Store::new(&world.dir.path().join("context"), &config, machine.clone());
    world.keeper.context = Arc::new(context.noting_at_most(2));
    let project = ProjectRef {
        id,
        name: "project".to_owned(),
        dir: dir.clone(),
        machine,
    };
    (1..=9).for_each(|number| record(&world.keeper, &project, number));
    let would = world.keeper.sweep_outputs(Mode::Look).await.unwrap();
    assert_eq!(would.outputs, 7);
    let swept = world.keeper.sweep_outputs(Mode::Remove).await.unwrap();
    assert_eq!(swept, would);
    let copies = dir.join("context/agent_outputs").read_dir().unwrap();
    assert_eq!(copies.count(), 2, "the newest stay");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_output_goes_for_its_age_while_the_clock_is_not_believed() {
    let world = World::new();
    let file = world.old("used");
    let engine = &world.engine.handle;
    let submitted = engine.submit("k".to_owned(), vec![task(file)]);
    submitted.await.unwrap();
    let paths = outputs(&world.keeper, world.dir.path(), &[7, 8, 9]);
    let dir = world.stop().await;
    let world = World::begin(dir, Clock::starting_ahead(100 * DAY));
    assert!(world.engine.doubt.is_some());
    let swept = world.keeper.sweep_outputs(Mode::Remove).await.unwrap();
    assert_eq!(swept.outputs, 1);
    assert_eq!(
        there(&paths),
        [false, true, true],
        "how many there may be holds"
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_weeks_ahead_at_a_start_forgets_no_finished_task() {
    let world = World::new();
    let file = world.old("used");
    let engine = &world.engine.handle;
    engine
        .submit("k".to_owned(), vec![task(file)])
        .await
        .unwrap();
    engine.cancel(TaskId(1)).await.unwrap();
    assert_eq!(world.engine.doubt, None);
    let dir = world.stop().await;

    let world = World::begin(dir, Clock::starting_ahead(40 * DAY));
    let doubt = world.engine.doubt.expect("it is 40 days ahead");
    assert_eq!(doubt.ahead.as_secs() / DAY.as_secs(), 40);
    let engine = &world.engine.handle;
    // What is due is forgotten with each input.
    engine
        .submit("l".to_owned(), vec![task(file)])
        .await
        .unwrap();
    let known = engine.read(|view| Ok(view.core.task(TaskId(1)).is_some()));
    assert!(known.await.unwrap(), "its time seems to be over");
    world.end().await;
}

#[test]
fn every_row_says_the_change_that_makes_it() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(&dir.path().join("blobs")).unwrap();
    let mut store = Store::open(&dir.path().join("db"), blobs).unwrap();
    let spec = task(Digest([7; 32])).spec;
    let changes = vec![
        Change::Spec {
            id: TaskId(3),
            spec,
        },
        Change::Acked {
            worker: "w".parse().unwrap(),
            up_to: 9,
        },
    ];
    store.commit(std::slice::from_ref(&changes)).unwrap();
    let page = store.page(None, usize::MAX).unwrap();
    let mut read: Vec<Change> = page.rows.iter().map(|row| row.change().unwrap()).collect();
    read.reverse();
    assert_eq!(read, changes);
    assert_eq!(page.next, None);
    let first = store.page(None, 1).unwrap();
    assert_eq!(first.rows.len(), 1);
    let second = store.page(first.next.as_deref(), 1).unwrap();
    assert_eq!(second.rows[0].key, page.rows[1].key);
}
