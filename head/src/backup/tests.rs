mod restoring;

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use orchestra_config::StateDir;
use orchestra_core::{NewSchedule, NewTask, Reply};
use orchestra_types::{
    Artifact, ArtifactKind, AttemptId, ContextFile, Recurrence, ScheduleId, TaskId, TaskSpec,
};
use tokio::sync::mpsc;

use super::{FORMAT, Head, Input, Options, Source, Summary, restore, verify};
use crate::{
    blobs::Blobs,
    check::{Repair, Report, check},
    engine::{self, Engine},
    events::{Events, Limits, Piece},
    metrics::Metrics,
    progress::Progress,
    store::Store,
};

const PLAIN: Options = Options {
    force: false,
    skip_ids: 0,
};

/// How long a seal behind the last event is.
const SEAL_BYTES: u64 = 49;
const ATTEMPT: AttemptId = AttemptId {
    task: TaskId(1),
    number: 1,
};

struct World {
    dir: tempfile::TempDir,
    engine: Engine,
    blobs: Blobs,
    events: Events,
}

impl World {
    fn open(dir: tempfile::TempDir) -> Self {
        let head = StateDir::new(dir.path()).head();
        let blobs = Blobs::open(&head.join("blobs")).unwrap();
        let store = Store::open(&head.join("db"), blobs.clone()).unwrap();
        let metrics = Metrics::new(&opentelemetry::global::meter("test"), head.join("db"));
        let engine = engine::start(
            store,
            orchestra_core::Config::default(),
            mpsc::channel(4).0,
            mpsc::channel(4).0,
            Arc::new(metrics),
            tokio::runtime::Handle::current(),
        );
        let engine = engine.unwrap();
        let (events, _) = Events::start(&head.join("events"), Limits::default()).unwrap();
        Self {
            dir,
            engine,
            blobs,
            events,
        }
    }

    fn new() -> Self {
        Self::open(tempfile::tempdir().unwrap())
    }

    fn head(&self) -> PathBuf {
        StateDir::new(self.dir.path()).head()
    }

    async fn submit(&self, key: &str, tasks: Vec<NewTask>) -> Vec<TaskId> {
        match self.engine.handle.submit(key.to_owned(), tasks).await {
            Ok(Reply::Submitted { ids, .. }) => ids,
            other => panic!("{other:?}"),
        }
    }

    async fn schedule(&self, key: &str) -> Vec<ScheduleId> {
        let new = NewSchedule {
            spec: TaskSpec::new("again"),
            every: Recurrence::Every(Duration::from_secs(3600)),
            first: None,
        };
        match self.engine.handle.schedule(key.to_owned(), vec![new]).await {
            Ok(Reply::Scheduled { ids, .. }) => ids,
            other => panic!("{other:?}"),
        }
    }

    async fn back_up(&self, to: &Path) -> Summary {
        let source = Source {
            engine: self.engine.handle.clone(),
            runtime: tokio::runtime::Handle::current(),
            blobs: self.blobs.clone(),
            events: self.events.clone(),
            dir: self.head(),
            head: Head {
                format: FORMAT,
                version: "0".to_owned(),
                cluster: "c".to_owned(),
                created_at_ms: 1_700_000_000_000,
                keys: false,
            },
        };
        let _hold = self.events.hold().await.unwrap();
        let file = fs::File::create(to).unwrap();
        let made = tokio::task::spawn_blocking(move || source.copy_to(file));
        made.await.unwrap().unwrap()
    }

    /// An event of the first attempt.
    async fn say(&self, number: u64, event: &'static str) {
        let events = vec![event.as_bytes().into()];
        let pending = self.events.append(ATTEMPT, number, events).await.unwrap();
        assert_eq!(pending.durable().await.unwrap().up_to, number);
    }

    /// The events of the first attempt.
    async fn said(&self) -> Vec<bytes::Bytes> {
        let mut reader = self.events.read(ATTEMPT, 0).await.unwrap();
        let mut said = Vec::new();
        while let Some(piece) = reader.next().await.unwrap() {
            let Piece::Events { events, .. } = piece else {
                panic!("{piece:?}");
            };
            said.extend(events);
        }
        said
    }

    async fn description(&self, id: TaskId) -> Option<String> {
        let spec = self.engine.handle.read(move |view| view.store.spec(id));
        spec.await.unwrap().map(|spec| spec.description)
    }

    async fn end(mut self) {
        self.engine.handle.stop().await.unwrap();
        self.engine.ended().await.unwrap();
        self.engine.join().unwrap();
    }
}

fn task(description: &str) -> NewTask {
    NewTask {
        spec: Box::new(TaskSpec::new(description)),
        after_index: Vec::new(),
    }
}

fn restored(file: &Path, options: Options) -> (tempfile::TempDir, super::Restored) {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::new(dir.path());
    let done = restore(&state, &of(file), options, &Progress::unwatched()).unwrap();
    (dir, done)
}

fn of(file: &Path) -> Input {
    Input::File(file.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_file_that_is_damaged_is_told_and_costs_itself_alone() {
    let world = World::new();
    let mut tasks = vec![task("both")];
    let files = [b"whole", b"flips"].map(|bytes| world.blobs.put(bytes).unwrap());
    for digest in files {
        tasks[0].spec.context_files.push(ContextFile {
            name: digest.to_string(),
            content: Artifact {
                kind: ArtifactKind::Context,
                digest,
                size: 5,
            },
        });
    }
    world.submit("k", tasks).await;
    fs::write(world.blobs.path(&files[1]), b"flipt").unwrap();
    let file = world.dir.path().join("backup");
    let summary = world.back_up(&file).await;
    assert_eq!((summary.blobs, summary.missing, summary.damaged), (2, 0, 1));
    let (dir, done) = restored(&file, PLAIN);
    assert_eq!((done.tasks, done.missing), (1, 1));
    let again = World::open(dir);
    assert_eq!(again.blobs.read(&files[0], 100).unwrap(), b"whole");
    assert!(again.blobs.lacks(&files[1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_backed_up_comes_back_with_bytes_events_and_context() {
    let world = World::new();
    let digest = world.blobs.put(b"notes").unwrap();
    let unused = world.blobs.put(b"nobody refers to this").unwrap();
    let mut with_file = task(&"long ".repeat(30_000));
    with_file.spec.context_files.push(ContextFile {
        name: "notes".to_owned(),
        content: Artifact {
            kind: ArtifactKind::Context,
            digest,
            size: 5,
        },
    });
    world.submit("k", vec![with_file, task("short")]).await;
    world.say(1, "hello").await;
    let path = world.head().join("context/p/a.md");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, "a").unwrap();
    let written = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let of_context = fs::File::open(&path).unwrap();
    of_context.set_modified(written).unwrap();
    let file = world.dir.path().join("backup");
    let summary = world.back_up(&file).await;
    assert_eq!((summary.blobs, summary.missing, summary.files), (1, 0, 2));
    assert_eq!(
        verify(&fs::File::open(&file).unwrap(), &Progress::unwatched())
            .unwrap()
            .1,
        summary
    );

    let (dir, done) = restored(
        &file,
        Options {
            skip_ids: 10,
            ..PLAIN
        },
    );
    assert_eq!((done.tasks, done.next), (2, TaskId(13)));
    let read = |name: &str| fs::read_to_string(dir.path().join("head").join(name)).unwrap();
    assert_eq!(read("context/p/a.md"), "a");
    let restored = dir.path().join("head/context/p/a.md").metadata().unwrap();
    assert_eq!(
        restored.modified().unwrap(),
        written,
        "it is as old as it was"
    );
    let again = World::open(dir);
    assert_eq!(again.said().await, [b"hello".as_slice()]);
    assert_eq!(again.blobs.read(&digest, 100).unwrap(), b"notes");
    assert!(!again.blobs.path(&unused).exists());
    assert_eq!(
        again.description(TaskId(1)).await,
        world.description(TaskId(1)).await
    );
    assert_eq!(again.description(TaskId(2)).await.as_deref(), Some("short"));
    // An id that was given after the backup is not given again.
    assert_eq!(again.submit("k2", vec![task("new")]).await, [TaskId(13)]);
    assert_eq!(
        again.submit("k", vec![task("known")]).await,
        [TaskId(1), TaskId(2)]
    );
    again.end().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_id_of_a_deleted_schedule_is_not_given_again_after_a_restore() {
    let world = World::new();
    for key in ["a", "b"] {
        world.schedule(key).await;
    }
    for id in [1, 2] {
        let delete = orchestra_core::ScheduleChange::Delete;
        let handle = &world.engine.handle;
        let done = handle.change_schedule(ScheduleId(id), delete).await;
        assert!(matches!(done, Ok(Reply::ScheduleDone(_))), "{done:?}");
    }
    let file = world.dir.path().join("backup");
    let _ = world.back_up(&file).await;
    for (skip_ids, next) in [(0, 3), (10, 13)] {
        let options = Options { skip_ids, ..PLAIN };
        let (dir, _) = restored(&file, options);
        let again = World::open(dir);
        assert_eq!(again.schedule("c").await, [ScheduleId(next)]);
        again.end().await;
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_is_of_one_moment() {
    let world = World::new();
    for number in 0..300 {
        let tasks = (0..10).map(|_| task(&"x".repeat(400))).collect();
        world.submit(&format!("before-{number}"), tasks).await;
    }
    let handle = world.engine.handle.clone();
    let mut busy = tokio::task::JoinSet::new();
    busy.spawn(async move {
        // Each cancels what the one before it made: rows that were copied already change.
        for number in 0..400_u64 {
            let submitted = handle.submit(format!("busy-{number}"), vec![task("busy")]);
            submitted.await.unwrap();
            handle.cancel(TaskId(number + 1)).await.unwrap();
        }
    });
    let file = world.dir.path().join("backup");
    world.back_up(&file).await;
    busy.join_all().await;

    let (dir, done) = restored(&file, PLAIN);
    let again = World::open(dir);
    let states = again.engine.handle.read(|view| {
        let cancelled = |id: u64| {
            let task = view.core.task(TaskId(id));
            task.map(|task| task.status == orchestra_types::TaskStatus::Cancelled)
        };
        Ok((1..=3400).map(cancelled).collect::<Vec<_>>())
    });
    let states = states.await.unwrap();
    let submitted = states.iter().filter(|state| state.is_some()).count();
    assert_eq!(submitted as u64, done.tasks);
    assert!(
        states[..submitted].iter().all(Option::is_some),
        "no id is missing"
    );
    let cancelled = states.iter().filter(|state| **state == Some(true)).count();
    assert!(states[..cancelled].iter().all(|state| *state == Some(true)));
    // The cancel follows the submission that it stands behind, and no other.
    let busy = submitted - 3000;
    assert!(
        cancelled == busy || cancelled + 1 == busy,
        "{cancelled} {busy}"
    );
    again.end().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_come_meanwhile_are_left_out_to_the_byte() {
    let world = World::new();
    world.submit("k", vec![task("a")]).await;
    world.say(1, "one").await;
    world.say(2, "two").await;
    // A write that is not whole, in the place of the seal, and a segment that is begun.
    let events = world.head().join("events");
    let segment = fs::File::options()
        .write(true)
        .open(events.join("0000000001.seg"));
    let durable = segment.as_ref().unwrap().metadata().unwrap().len() - SEAL_BYTES;
    let half = [&200_u32.to_le_bytes()[..], &[7; 100]].concat();
    segment.unwrap().write_all_at(&half, durable).unwrap();
    fs::write(events.join("0000000001.idx"), "half an index").unwrap();
    fs::write(events.join("0000000002.seg"), b"ORCHEVS\x01").unwrap();
    let file = world.dir.path().join("backup");
    world.back_up(&file).await;

    let (dir, _) = restored(&file, PLAIN);
    let events = StateDir::new(dir.path()).head().join("events");
    let names = fs::read_dir(&events).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["0000000001.seg"]);
    assert_eq!(checked(&dir).findings, []);
    // Its last batch is known as durable: a bit that flips there is no torn end.
    let segment = events.join("0000000001.seg");
    let whole = fs::read(&segment).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() - usize::try_from(SEAL_BYTES).unwrap() - 1] ^= 1;
    fs::write(&segment, flipped).unwrap();
    let report = checked(&dir);
    assert!(
        report.findings[0].problem.contains("damaged at byte"),
        "{report:?}"
    );
    fs::write(&segment, whole).unwrap();
    let again = World::open(dir);
    assert_eq!(again.said().await, [b"one".as_slice(), b"two"]);
    again.say(3, "three").await;
    again.end().await;
    world.end().await;
}

fn checked(dir: &tempfile::TempDir) -> Report {
    let state = StateDir::new(dir.path());
    check(&state, Repair::No, &Progress::unwatched()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_goes_while_it_is_copied_is_not_restored() {
    let world = World::new();
    world.submit("k", vec![task("a"), task("b")]).await;
    let file = world.dir.path().join("backup");
    world.back_up(&file).await;
    // As if the specification of the second task had gone after it was copied.
    let mut part = Vec::new();
    let mut key = vec![b's'];
    key.extend(2_u64.to_be_bytes());
    super::format::put_row(&mut part, &key, None);
    let rows = super::format::rows_of(&part).unwrap();
    assert_eq!((rows[0].key, rows[0].message), (key.as_slice(), None));
    let changed = with_part(&file, &part);
    let (dir, _) = restored(&changed, PLAIN);
    let again = World::open(dir);
    assert_eq!(again.description(TaskId(1)).await.as_deref(), Some("a"));
    assert_eq!(again.description(TaskId(2)).await, None);
    again.end().await;
    world.end().await;
}

/// A copy of a backup with another part of rows at the end.
fn with_part(file: &Path, part: &[u8]) -> PathBuf {
    let path = file.with_extension("changed");
    let mut tar = tar::Builder::new(super::format::Hashed::new(fs::File::create(&path).unwrap()));
    let add = |tar: &mut tar::Builder<_>, name: &Path, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        tar.append_data(&mut header, name, bytes).unwrap();
    };
    let mut old = tar::Archive::new(fs::File::open(file).unwrap());
    for entry in old.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().into_owned();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
        if name == Path::new(super::format::END) {
            add(&mut tar, Path::new("rows/999999"), part);
            let mut summary: Summary = serde_json::from_slice(&bytes).unwrap();
            (summary.bytes, summary.sha256) = tar.get_ref().so_far();
            bytes = serde_json::to_vec(&summary).unwrap();
        }
        add(&mut tar, &name, &bytes);
    }
    tar.finish().unwrap();
    path
}
