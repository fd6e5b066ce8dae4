//! A store of format 1 opens, and is brought to format 2 once.

use std::{fs, path::Path};

use orchestra_core::{Change, State};
use orchestra_types::{TaskId, Timestamp};

use super::{attempt_id, every_state, failure, open, put_directly, spec, submission};
use crate::store::{Store, key, large};

const FIXTURE: &str = include_str!("fixtures/format1.txt");

#[test]
fn a_store_of_format_1_opens_with_everything_in_it() {
    let dir = tempfile::tempdir().unwrap();
    unpack(dir.path());
    assert_holds_everything(&open(dir.path()));
    // The second opening finds format 2.
    let mut store = open(dir.path());
    assert_holds_everything(&store);
    let id = TaskId(99);
    let spec = Box::new(spec("new"));
    store.commit(&[vec![Change::Spec { id, spec }]]).unwrap();
    drop(store);
    let store = open(dir.path());
    assert!(store.spec(id).unwrap().is_some());
    assert_holds_everything(&store);
}

#[test]
fn a_migration_that_was_cut_off_goes_on_at_the_next_opening() {
    let dir = tempfile::tempdir().unwrap();
    unpack(dir.path());
    let store = open(dir.path());
    // As a crash leaves it: some rows have the new format, the database still says 1.
    let old = spec_of_format_1(&store, TaskId(2));
    put_directly(&store, &key::spec(TaskId(2)), &old);
    put_directly(&store, key::FORMAT, &[1]);
    drop(store);
    assert_holds_everything(&open(dir.path()));
}

#[test]
fn a_half_submitted_task_of_format_1_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    unpack(dir.path());
    let store = open(dir.path());
    let row = store.value(&key::task(TaskId(1))).unwrap().unwrap();
    // Nine tasks have a key; the bytes of this one name task 1, hence a spare copy of its key too.
    put_directly(
        &store,
        &key::submission("key-1"),
        &without_checksum(&empty_key(&store)),
    );
    put_directly(&store, &key::task(TaskId(1)), &without_checksum(&row));
    put_directly(&store, key::FORMAT, &[1]);
    drop(store);
    assert_eq!(open(dir.path()).load().unwrap().tasks.len(), 0);
}

fn empty_key(store: &Store) -> Vec<u8> {
    let mut frame = crate::store::journal::Frame::new();
    let row = orchestra_proto::store::v1::KeyRow {
        key: "key-1".to_owned(),
        first: 1000,
        count: 0,
        at_ms: 1,
    };
    large::put(&mut frame, &key::submission("key-1"), &row, &store.blobs).unwrap();
    frame.value(0).to_vec()
}

fn spec_of_format_1(store: &Store, id: TaskId) -> Vec<u8> {
    without_checksum(&store.value(&key::spec(id)).unwrap().unwrap())
}

fn without_checksum(value: &[u8]) -> Vec<u8> {
    [&[1, value[1]], &value[6..]].concat()
}

/// Looks at what format 1 could say; later versions know more of a row.
fn assert_holds_everything(store: &Store) {
    let rows = store.load().unwrap();
    let mut states = every_state();
    states.push(State::Blocked);
    for (row, (id, state)) in rows.tasks.iter().zip((1..).zip(&states)) {
        assert_eq!((row.id, &row.state), (TaskId(id), state));
        assert_eq!((row.attempts, row.failures, row.losses), (2, 1, 1));
        assert!(row.cancel_requested && row.reason.as_deref() == Some(&failure()));
    }
    assert_eq!(rows.tasks.len(), states.len());
    let (worker, acked) = &rows.workers[0];
    assert_eq!(
        (worker.info.id.as_str(), worker.epoch, *acked),
        ("w1", 3, 42)
    );
    assert_eq!(rows.keys, [submission(1, 8)]);
    for id in 1..=7 {
        let found = store.spec(TaskId(id)).unwrap().unwrap();
        assert_eq!(found.description, format!("do {id}"));
        assert_eq!(found.submitter, "me@here");
    }
    let large = store.spec(TaskId(8)).unwrap().unwrap();
    assert_eq!(large.description, "x".repeat(70 * 1024));
    assert_eq!(store.attempts(TaskId(1)).unwrap().len(), 2);
    let lost = store.outcome(attempt_id(1)).unwrap().unwrap();
    assert_eq!((lost.at, lost.result), (Timestamp(8), Err(failure())));
    let done = store.outcome(attempt_id(2)).unwrap().unwrap();
    assert_eq!(done.result.unwrap().text, "done");
}

fn unpack(dir: &Path) {
    let mut path = dir.to_owned();
    let mut bytes = Vec::new();
    let lines = FIXTURE.lines().filter(|line| !line.starts_with('#'));
    for line in lines.chain(["file end"]) {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["file", name] => {
                if path != dir {
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    fs::write(&path, std::mem::take(&mut bytes)).unwrap();
                }
                path = dir.join(name);
            }
            ["fill", count, byte] => {
                let count: usize = count.parse().unwrap();
                bytes.extend(vec![u8::from_str_radix(byte, 16).unwrap(); count]);
            }
            ["data", hex] => bytes.extend(
                hex.as_bytes()
                    .chunks(2)
                    .map(|pair| std::str::from_utf8(pair).unwrap())
                    .map(|pair| u8::from_str_radix(pair, 16).unwrap()),
            ),
            _ => panic!("{line}"),
        }
    }
}
