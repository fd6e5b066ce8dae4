use std::{
    fs,
    path::{Path, PathBuf},
};

use orchestra_config::StateDir;
use orchestra_core::{Config, Core, Input, NewTask, RequestId};
use orchestra_types::{
    Artifact, ArtifactKind, AttemptId, ContextFile, Digest, TaskId, TaskSpec, Timestamp,
};

use super::{Level, Repair, Report, check};
use crate::{
    blobs::Blobs,
    events::{Events, Limits},
    progress::Progress,
    store::{
        Idle, Store,
        tests::lost::{damage_page, until_damaged},
    },
};

/// How many bits are flipped, one at a time, unless the environment says another number.
const FLIPS: usize = 60;

/// A head's state with tasks, files and events.
fn state(dir: &Path) -> StateDir {
    let state = StateDir::new(dir);
    let blobs = Blobs::open(&state.head().join("blobs")).unwrap();
    let mut store = Store::open(&state.head().join("db"), blobs.clone()).unwrap();
    let mut core = Core::new(Config::default());
    for number in 0..30_u64 {
        let file = blobs.put(format!("file {number:02}").as_bytes()).unwrap();
        let mut tasks = vec![
            task("x ".repeat(10_000), Some(file)),
            task("y".to_owned(), None),
        ];
        if number == 0 {
            tasks.push(task("large ".repeat(20_000), None));
        }
        let submit = Input::Submit {
            request: RequestId(number),
            key: format!("key-{number}"),
            tasks,
        };
        let step = core.handle(Timestamp(number + 1), submit);
        store.commit(&[step.changes]).unwrap();
        store.keep_pace().unwrap();
        // The first ones lie in the database, the last ones in the journal only.
        while number == 27 && store.idle().unwrap() != Idle::Nothing {}
    }
    drop(store);
    events(&state.head().join("events"));
    state
}

fn task(description: String, file: Option<Digest>) -> NewTask {
    let mut spec = TaskSpec::new(description);
    spec.context_files.extend(file.map(|digest| ContextFile {
        name: "notes".to_owned(),
        content: Artifact {
            kind: ArtifactKind::Context,
            digest,
            size: 7,
        },
    }));
    NewTask {
        spec: Box::new(spec),
        after_index: Vec::new(),
    }
}

fn events(root: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (events, mut owner) = Events::start(root, Limits::default()).unwrap();
        for number in 1..=20 {
            let id = AttemptId {
                task: TaskId(number),
                number: 1,
            };
            let event = orchestra_proto::v1::Event {
                seq: 1,
                raw: "what the agent said".repeat(20),
                ..Default::default()
            };
            let bytes = prost::Message::encode_to_vec(&event).into();
            let pending = events.append(id, 1, vec![bytes]).await.unwrap();
            pending.durable().await.unwrap();
        }
        drop(events);
        owner.ended().await.unwrap();
    });
}

fn damage(report: &Report) -> Vec<String> {
    let findings = report.findings.iter();
    let damage = findings.filter(|finding| finding.level == Level::Damage);
    damage
        .map(|f| format!("{} {}", f.what, f.problem))
        .collect()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.push(path);
        }
    }
    all.sort();
    all
}

fn copy(from: &Path, to: &Path) {
    for path in files(from) {
        let target = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(&path, target).unwrap();
    }
}

/// Everything that can be read of a state: rows, files, events.
fn content(state: &StateDir) -> Vec<(Vec<u8>, Vec<u8>)> {
    let head = state.head();
    let blobs = Blobs::open(&head.join("blobs")).unwrap();
    let store = Store::open(&head.join("db"), blobs.clone()).unwrap();
    let page = store.page(None, usize::MAX).unwrap();
    let rows = page.rows.into_iter();
    let mut all: Vec<_> = rows.map(|row| (row.key, row.message.unwrap())).collect();
    for fan in blobs.stored().unwrap() {
        for stored in fan.unwrap() {
            let path = blobs.path(&stored.digest);
            all.push((stored.digest.0.to_vec(), fs::read(path).unwrap()));
        }
    }
    let checked = crate::events::check(&head.join("events"), None, &Progress::unwatched()).unwrap();
    all.push((b"events".to_vec(), checked.bytes.to_be_bytes().to_vec()));
    all.sort();
    all
}

#[test]
fn a_state_that_is_whole_has_no_findings() {
    let dir = tempfile::tempdir().unwrap();
    let report = check(&state(dir.path()), Repair::No, &Progress::unwatched()).unwrap();
    assert_eq!(report.findings, []);
    assert_eq!((report.tasks, report.blobs, report.segments), (61, 31, 1));
}

#[test]
fn what_is_missing_or_left_over_is_named_and_only_leftovers_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let state = state(dir.path());
    let blobs = Blobs::open(&state.head().join("blobs")).unwrap();
    let gone = blobs.put(b"file 07").unwrap();
    fs::remove_file(blobs.path(&gone)).unwrap();
    let mut store = Store::open(&state.head().join("db"), blobs).unwrap();
    let spec = crate::store::spec_key(TaskId(9));
    let task = store.page(None, usize::MAX).unwrap().rows;
    let task = task
        .iter()
        .find(|row| row.key.starts_with(b"t") && row.key.ends_with(&[2]));
    let task = task.unwrap().key.clone();
    store.discard(&[spec, task]).unwrap();
    drop(store);

    let report = check(&state, Repair::No, &Progress::unwatched()).unwrap();
    let found = damage(&report);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found
            .iter()
            .any(|text| text.contains("task_009 lacks its specification"))
    );
    assert!(
        found
            .iter()
            .any(|text| text.contains("is not there; row s:"))
    );
    let leftovers = report
        .findings
        .iter()
        .filter(|f| f.level == Level::Leftover);
    assert_eq!(
        leftovers.map(|f| f.what.as_str()).collect::<Vec<_>>(),
        ["task_002"]
    );

    check(&state, Repair::Leftovers, &Progress::unwatched()).unwrap();
    let report = check(&state, Repair::No, &Progress::unwatched()).unwrap();
    assert!(report.findings.iter().all(|f| f.level == Level::Damage));
    assert_eq!(damage(&report), found, "damage is not repaired");
}

/// Makes the store of a head of which one page among many cannot be read, if that can be.
fn with_a_damaged_page(state: &Path) -> bool {
    let state = StateDir::new(state);
    let db = state.head().join("db");
    let blobs = Blobs::open(&state.head().join("blobs")).unwrap();
    let open = || Store::open(&db, blobs.clone()).unwrap();
    let text = |number| format!("many rows {number:05} {}", "x".repeat(600));
    let mut core = Core::new(Config::default());
    let mut submit = |number: u64, tasks| {
        let submit = Input::Submit {
            request: RequestId(number),
            key: format!("key {number}"),
            tasks,
        };
        core.handle(Timestamp(number), submit).changes
    };
    let many = (1..=2000).map(|number| task(text(number), None)).collect();
    open().commit(&[submit(1, many)]).unwrap();
    crate::store::compact(&db, blobs.clone(), &Progress::unwatched()).unwrap();
    // The last segment is looked at when the database is opened: others must be behind these.
    let mut store = open();
    let large = (1..=300).map(|_| task("y".repeat(10_000), None)).collect();
    store.commit(&[submit(2, large)]).unwrap();
    while store.idle().unwrap() != Idle::Nothing {}
    drop(store);
    damage_page(&db, TaskId(1000), &text(1000))
}

#[test]
fn a_page_that_cannot_be_read_is_counted_and_makes_nothing_a_leftover() {
    let dir = until_damaged(with_a_damaged_page);
    let state = StateDir::new(dir.path());
    let db = state.head().join("db");
    let blobs = Blobs::open(&state.head().join("blobs")).unwrap();
    let open = || Store::open(&db, blobs.clone()).unwrap();

    let report = check(&state, Repair::Leftovers, &Progress::unwatched()).unwrap();
    let found = damage(&report);
    assert!(found[0].starts_with("rows between row s:"), "{found:?}");
    let lacking = found.iter().filter(|text| text.contains("lacks its spec"));
    let lacking = lacking.count();
    assert!(lacking > 0 && lacking < 200, "{lacking}");
    let counted = format!("cannot be read, {lacking} at least: ");
    assert!(found[0].contains(&counted), "{}", found[0]);
    assert!(!found[0].contains("ctl check"), "{}", found[0]);
    assert_eq!((report.tasks, found.len()), (2300, lacking + 1));

    // Of tasks that cannot be read much is left, and it must stay.
    let page = open().page_past_damage(None, usize::MAX).unwrap();
    let mut index = super::Index::default();
    let specs = page.rows.iter().filter(|row| row.key.starts_with(b"s"));
    specs.for_each(|row| index.add(row));
    index.lose(page.lost.unwrap());
    let mut report = Report::default();
    index.judge(&Default::default(), &mut report);
    assert!(report.findings.iter().all(|f| f.level == Level::Damage));
}

#[test]
fn a_journal_or_a_store_that_is_gone_is_no_empty_head() {
    let dir = tempfile::tempdir().unwrap();
    let state = state(dir.path());
    let db = state.head().join("db");
    let found = || damage(&check(&state, Repair::No, &Progress::unwatched()).unwrap()).remove(0);
    let last = files(&db.join("journal")).pop().unwrap();
    let whole = fs::read(&last).unwrap();
    fs::write(&last, &whole[..1000]).unwrap();
    assert!(
        found().contains("is damaged: it has 1000 bytes"),
        "{}",
        found()
    );
    fs::write(&last, whole).unwrap();
    fs::rename(&db, dir.path().join("away")).unwrap();
    assert!(found().contains("is gone, and this cluster is not new"));
    assert!(!found().contains("ctl restore"), "the advice says it");
}

#[test]
fn any_damage_to_the_mark_of_the_journals_end_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let state = state(dir.path());
    let db = state.head().join("db");
    let blobs = Blobs::open(&state.head().join("blobs")).unwrap();
    Store::open(&db, blobs).unwrap().close().unwrap();
    let found = || damage(&check(&state, Repair::No, &Progress::unwatched()).unwrap());
    assert_eq!(found(), [""; 0]);
    let mark = db.join("mark");
    let whole = fs::read(&mark).unwrap();
    let flipped = (0..whole.len()).map(|at| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        bytes
    });
    for bytes in flipped.chain([Vec::new(), whole[..19].to_vec()]) {
        fs::write(&mark, &bytes).unwrap();
        let problem = "does not say any more how far the journal is durable";
        assert_eq!(found(), [format!("{} {problem}", mark.display())]);
        assert_eq!(fs::read(&mark).unwrap(), bytes, "a check changes nothing");
    }
    // A store of an earlier version has none.
    fs::remove_file(&mark).unwrap();
    assert_eq!(found(), [""; 0]);
}

#[test]
fn a_flipped_bit_is_named_or_lies_where_nothing_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let whole = state(&dir.path().join("whole"));
    let before = content(&whole);
    let kept = files(whole.path());
    // Always the same places, spread over all bytes that are not zero.
    let places: Vec<(usize, usize)> = kept
        .iter()
        .enumerate()
        .flat_map(|(file, path)| {
            let bytes = fs::read(path).unwrap();
            let some = bytes.iter().enumerate().filter(|(_, byte)| **byte != 0);
            some.map(|(at, _)| (file, at)).collect::<Vec<_>>()
        })
        .collect();
    let flips = std::env::var("ORCHESTRA_TEST_FLIPS");
    let flips = flips.map_or(FLIPS, |text| text.parse().unwrap());
    let mut named = 0;
    for number in 0..flips {
        let (file, at) = places[number * (places.len() / flips)];
        let flipped = StateDir::new(dir.path().join("flipped"));
        copy(whole.path(), flipped.path());
        let path = flipped
            .path()
            .join(kept[file].strip_prefix(whole.path()).unwrap());
        let mut bytes = fs::read(&path).unwrap();
        bytes[at] ^= 1 << (number % 8);
        fs::write(&path, bytes).unwrap();

        let report = check(&flipped, Repair::No, &Progress::unwatched()).unwrap();
        if damage(&report).is_empty() {
            assert!(
                content(&flipped) == before,
                "byte {at} of {} changed what is read, and nothing says so",
                path.display()
            );
        } else {
            named += 1;
        }
        fs::remove_dir_all(flipped.path()).unwrap();
    }
    assert!(
        named > flips / 4,
        "only {named} of {flips} flips were found"
    );
}
