use std::{collections::BTreeMap, fs, path::Path};

use orchestra_core::Change;
use orchestra_types::{TaskId, TaskSpec};

use super::super::{Store, compact::compact};
use crate::{blobs::Blobs, progress::Progress};

fn open(dir: &Path) -> Store {
    Store::open(&dir.join("db"), blobs(dir)).unwrap()
}

fn blobs(dir: &Path) -> Blobs {
    Blobs::open(&dir.join("blobs")).unwrap()
}

fn put(store: &mut Store, ids: std::ops::Range<u64>, length: usize) {
    for id in ids {
        let spec = Change::Spec {
            id: TaskId(id),
            spec: Box::new(TaskSpec::new("x".repeat(length))),
        };
        store.commit(&[vec![spec]]).unwrap();
    }
}

fn forget(store: &mut Store, ids: std::ops::Range<u64>) {
    for id in ids {
        let gone = Change::ForgetTask {
            id: TaskId(id),
            attempts: 0,
        };
        store.commit(&[vec![gone]]).unwrap();
    }
}

fn held(store: &Store) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let rows = store.page(None, usize::MAX).unwrap().rows.into_iter();
    rows.map(|row| (row.key, row.message.unwrap())).collect()
}

#[test]
fn a_store_of_which_much_is_gone_becomes_small_and_keeps_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    put(&mut store, 0..1000, 20_000);
    super::move_everything(&mut store);
    forget(&mut store, 0..990);
    // Some of it is in the journal only.
    put(&mut store, 2000..2010, 100);
    // And one row is large.
    put(&mut store, 3000..3001, 100_000);
    let before = held(&store);
    drop(store);
    let path = dir.path().join("db");
    let done = compact(&path, blobs(dir.path()), &Progress::unwatched()).unwrap();
    assert_eq!(done.rows, 21);
    // How much of the old rows the database gave back by itself before is up to its own threads.
    assert!(done.after < done.before / 4, "{done:?}");
    assert!(done.after < 3 * done.live, "{done:?}");
    // Both have a journal beside the database.
    assert!(done.disk_before > done.disk_after, "{done:?}");
    assert!(done.disk_after > done.after, "{done:?}");
    assert!(!dir.path().join("db.compacting").exists());
    let mut store = open(dir.path());
    assert_eq!(held(&store), before);
    put(&mut store, 4000..4001, 10);
    drop(store);
    assert_eq!(held(&open(dir.path())).len(), 22);
}

#[test]
fn a_compaction_that_is_given_up_or_finds_damage_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    put(&mut store, 0..300, 1000);
    let before = held(&store);
    drop(store);
    let path = dir.path().join("db");
    let (progress, reached) = Progress::watched();
    drop(reached);
    let given_up = compact(&path, blobs(dir.path()), &progress).unwrap_err();
    assert_eq!(given_up.to_string(), "nobody waits for it any more");
    assert!(!dir.path().join("db.compacting").exists());
    assert_eq!(held(&open(dir.path())), before);

    let store = open(dir.path());
    let key = crate::store::key::spec(TaskId(7));
    let mut value = store.database.get(&key).unwrap().unwrap().to_vec();
    *value.last_mut().unwrap() ^= 1;
    let mut batch = sled::Batch::default();
    batch.insert(key.clone(), value);
    store.database.apply(batch).unwrap();
    drop(store);
    let damaged = compact(&path, blobs(dir.path()), &Progress::unwatched());
    let damaged = damaged.unwrap_err().to_string();
    assert!(damaged.contains("is damaged"), "{damaged}");
    assert!(!dir.path().join("db.compacting").exists());
    assert_eq!(
        open(dir.path()).page(None, usize::MAX).unwrap().rows.len(),
        300
    );
}

#[test]
fn what_a_compaction_left_that_was_cut_off_is_removed_at_the_next_opening() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    put(&mut store, 0..3, 10);
    let before = held(&store);
    drop(store);
    let left = dir.path().join("db.compacting");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("db"), "half").unwrap();
    assert_eq!(held(&open(dir.path())), before);
    assert!(!left.exists());
}
