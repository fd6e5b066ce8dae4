//! Crashes at random moments: the state afterwards is one that was committed, and no acknowledged
//! commit is missing from it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use orchestra_core::Change;
use orchestra_types::TaskId;
use proptest::prelude::*;

use super::{open, spec, try_open};
use crate::disk::Disk;
use crate::store::{
    Error, Idle, Store,
    journal::{Journal, Position},
    table::Table,
};

/// What the store should hold: the length of each description.
type Model = BTreeMap<u64, usize>;

#[derive(Clone, Debug)]
enum Op {
    /// Rows with descriptions of this length; none removes the row.
    Commit(Vec<(u64, Option<usize>)>),
    /// What the store does while nobody waits, so many times.
    Idle(usize),
    /// The process ends; a commit that it was writing reached the disk in this part of 256.
    Crash(Option<u8>),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let length = prop_oneof![4 => 1..2000_usize, 1 => 20_000..50_000_usize];
    let row = (0..40_u64, proptest::option::weighted(0.8, length));
    let op = prop_oneof![
        6 => prop::collection::vec(row, 1..12).prop_map(Op::Commit),
        3 => (1..6_usize).prop_map(Op::Idle),
        1 => proptest::option::of(any::<u8>()).prop_map(Op::Crash),
    ];
    prop::collection::vec(op, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn after_any_crash_there_is_all_that_was_acknowledged(ops in ops()) {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        let mut model = Model::new();
        for (op, next) in ops.iter().zip(ops.iter().skip(1).map(Some).chain([None])) {
            match op {
                Op::Commit(rows) => {
                    let crash = match next {
                        Some(Op::Crash(Some(part))) => Some(*part),
                        Some(_) | None => None,
                    };
                    let before = crash.map(|_| journal_bytes(dir.path()));
                    store.commit(&[changes(rows)]).unwrap();
                    if crash.is_none() {
                        store.keep_pace().unwrap();
                    }
                    let mut after = model.clone();
                    apply(&mut after, rows);
                    if let (Some(part), Some(before)) = (crash, before) {
                        drop(store);
                        tear(dir.path(), &before, part);
                        store = open(dir.path());
                        let found = held(&store);
                        prop_assert!(found == model || found == after);
                        after = found;
                    }
                    model = after;
                }
                Op::Idle(times) => {
                    for _ in 0..*times {
                        store.idle().unwrap();
                    }
                }
                Op::Crash(_) => {
                    drop(store);
                    store = open(dir.path());
                }
            }
            prop_assert_eq!(&held(&store), &model);
        }
        drop(store);
        prop_assert_eq!(&held(&open(dir.path())), &model);
    }
}

#[test]
fn a_bit_flipped_in_an_acknowledged_commit_is_named_wherever_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let mut model = Model::new();
    for id in 1..=3 {
        let rows = [(id, Some(10))];
        store.commit(&[changes(&rows)]).unwrap();
        apply(&mut model, &rows);
    }
    // As a head that is killed under load: it never rests.
    let end = store.journal.bytes() as usize;
    drop(store);
    let path = journal_files(dir.path()).remove(0);
    let dir = path.parent().unwrap();
    let bytes = fs::read(&path).unwrap();
    let rows = |table: &Table| {
        table
            .after(None)
            .map(|(key, at)| (key.clone(), at))
            .collect()
    };
    let read = || Journal::open(dir, Position::begin(), 0);
    let whole: Vec<_> = rows(&read().unwrap().1);
    assert_eq!(whole.len(), model.len());
    // The seal behind the last commit is no commit, and some bytes are padding: a flip there is
    // seen or harmless.
    for at in 0..end + 32 {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        fs::write(&path, &flipped).unwrap();
        match read() {
            Ok((_, table)) => assert_eq!(rows(&table), whole, "byte {at}"),
            Err(Error::Damaged { path: named, .. }) => assert_eq!(named, path),
            Err(error) => panic!("byte {at}: {error}"),
        }
    }
}

#[test]
fn a_missing_journal_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    store.commit(&[changes(&[(1, Some(1))])]).unwrap();
    drop(store);
    fs::remove_dir_all(dir.path().join("db/journal")).unwrap();
    fs::create_dir(dir.path().join("db/journal")).unwrap();
    let error = try_open(dir.path()).unwrap_err().to_string();
    assert!(
        error.contains(".journal` is damaged: it is missing"),
        "{error}"
    );
}

#[test]
fn a_database_that_was_taken_away_is_not_made_anew_beside_its_journal() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    store.commit(&[changes(&[(1, Some(1))])]).unwrap();
    drop(store);
    for entry in fs::read_dir(dir.path().join("db")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::remove_file(path).unwrap();
        }
    }
    // Nor where nothing else says that there was one.
    fs::remove_file(dir.path().join("db.made")).unwrap();
    let error = try_open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("the database beside it is new"), "{error}");
}

#[test]
fn a_database_that_met_a_full_disk_is_opened_again_and_misses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::watch(dir.path(), Some(0));
    let mut store = open(dir.path()).on(disk.clone());
    let mut model = Model::new();
    let rows: Vec<_> = (0..300).map(|id| (id, Some(5))).collect();
    store.commit(&[changes(&rows)]).unwrap();
    apply(&mut model, &rows);
    store.freeze();
    store.move_slice().unwrap();
    // In the middle of a checkpoint the database finds no room.
    let found = std::io::Error::from(std::io::ErrorKind::StorageFull);
    let error = Error::Database(sled::Error::Io(found));
    assert!(!store.unless_full(Err(error)).unwrap());
    assert_eq!(held(&store), model);
    disk.set_reserve(u64::MAX / 4);
    assert!(disk.look().is_err());
    store.database.close(disk.found_full());
    assert!(matches!(store.spec(TaskId(999)), Err(Error::Full(_))));
    let rows = [(1, Some(6)), (2, None)];
    store.commit(&[changes(&rows)]).unwrap();
    apply(&mut model, &rows);
    assert_eq!(store.idle().unwrap(), Idle::Nothing);
    disk.set_reserve(0);
    while store.idle().unwrap() != Idle::Nothing {}
    assert_eq!(held(&store), model);
    super::move_everything(&mut store);
    drop(store);
    assert_eq!(held(&open(dir.path())), model);
}

#[test]
fn rows_come_in_pages_wherever_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let some = |ids: std::ops::Range<u64>| -> Vec<_> { ids.map(|id| (id, Some(5))).collect() };
    store.commit(&[changes(&some(0..200))]).unwrap();
    super::move_everything(&mut store);
    store
        .commit(&[changes(&[(7, None), (8, Some(6))])])
        .unwrap();
    store.freeze();
    store
        .commit(&[changes(&[(8, Some(7)), (9, None), (300, Some(1))])])
        .unwrap();
    let mut ids = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = store.page(after.as_deref(), 1000).unwrap();
        ids.extend(page.rows.iter().map(|row| row.key[8]));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let expected: Vec<u64> = (0..200)
        .filter(|id| ![7, 9].contains(id))
        .chain([300])
        .collect();
    let expected: Vec<u8> = expected.into_iter().map(|id| id as u8).collect();
    assert_eq!(ids, expected);
    assert_eq!(held(&store).get(&8), Some(&7));
}

fn changes(rows: &[(u64, Option<usize>)]) -> Vec<Change> {
    let change = |(id, length): &(u64, Option<usize>)| match length {
        Some(length) => Change::Spec {
            id: TaskId(*id),
            spec: Box::new(spec(&"x".repeat(*length))),
        },
        None => Change::ForgetTask {
            id: TaskId(*id),
            attempts: 0,
        },
    };
    rows.iter().map(change).collect()
}

fn apply(model: &mut Model, rows: &[(u64, Option<usize>)]) {
    for (id, length) in rows {
        match length {
            Some(length) => model.insert(*id, *length),
            None => model.remove(id),
        };
    }
}

fn held(store: &Store) -> Model {
    let rows = store.page(None, usize::MAX).unwrap().rows;
    let length = |row: &crate::store::Row| {
        let id = u64::from_be_bytes(row.key[1..9].try_into().unwrap());
        let spec = store.spec(TaskId(id)).unwrap().unwrap();
        (id, spec.description.len())
    };
    rows.iter().map(length).collect()
}

fn journal_files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.join("db/journal")).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn journal_bytes(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let read = |path: PathBuf| fs::read(&path).ok().map(|bytes| (path, bytes));
    journal_files(dir).into_iter().filter_map(read).collect()
}

/// Undoes a part of the last commit: of the bytes that it changed, only some reached the disk. A
/// segment was synced before the next one was begun, so only the last one can be torn.
fn tear(dir: &Path, before: &BTreeMap<PathBuf, Vec<u8>>, part: u8) {
    const HEADER: usize = 64;
    let torn = journal_bytes(dir)
        .into_iter()
        .rev()
        .find_map(|(path, new)| {
            let old = before
                .get(&path)
                .filter(|old| old[..HEADER] == new[..HEADER]);
            let old = old.cloned().unwrap_or_else(|| vec![0; new.len()]);
            let changed: Vec<usize> = (HEADER..new.len())
                .filter(|at| new[*at] != old[*at])
                .collect();
            (!changed.is_empty()).then_some((path, new, old, changed))
        });
    let Some((path, mut new, old, changed)) = torn else {
        return;
    };
    let kept = changed.len() * usize::from(part) / 256;
    for at in &changed[kept..] {
        new[*at] = old[*at];
    }
    fs::write(path, new).unwrap();
}
