//! Rows that cannot be read, and what is read all the same.

use std::{collections::BTreeSet, fs, path::Path};

use orchestra_core::{Change, KeyRow};
use orchestra_types::{TaskId, TaskSpec, Timestamp};
use tempfile::TempDir;

use super::{move_everything, open};
use crate::{
    blobs::Blobs,
    progress::Progress,
    store::{Error, Lost, Store, compact, key},
};

const ROWS: u64 = 3000;

fn commit(store: &mut Store, ids: impl Iterator<Item = u64>, text: &str) {
    let change = |id| Change::Spec {
        id: TaskId(id),
        spec: Box::new(TaskSpec::new(format!("{text} {id:06} {}", "x".repeat(500)))),
    };
    store.commit(&[ids.map(change).collect()]).unwrap();
}

/// A store with one row after the other in its database, of which the pages with these are damaged.
fn damaged(ids: &[u64]) -> TempDir {
    until_damaged(|dir| {
        ordered(dir);
        let mut ids = ids.iter();
        ids.all(|id| damage_page(&dir.join("db"), TaskId(*id), &format!("row {id:06}")))
    })
}

/// sled decides by its own clock in which segment a page comes to lie, and now and then that is the last one:
/// then another store is made.
pub(crate) fn until_damaged(mut make: impl FnMut(&Path) -> bool) -> TempDir {
    const STORES: usize = 8;
    for _ in 0..STORES {
        let dir = tempfile::tempdir().unwrap();
        if make(dir.path()) {
            return dir;
        }
    }
    panic!("of {STORES} stores none could be damaged so that it opens");
}

fn ordered(dir: &Path) {
    let mut store = open(dir);
    commit(&mut store, 1..=ROWS, "row");
    store.close().unwrap();
    let blobs = Blobs::open(&dir.join("blobs")).unwrap();
    compact(&dir.join("db"), blobs, &Progress::unwatched()).unwrap();
    // The last segment is looked at when the database is opened: others must be behind these.
    let mut store = open(dir);
    let key = |number| {
        Change::Key(KeyRow {
            key: format!("{number:06} {}", "x".repeat(600)),
            first: TaskId(number),
            count: 0,
            at: Timestamp(1),
        })
    };
    store.commit(&[(1..=ROWS).map(key).collect()]).unwrap();
    move_everything(&mut store);
    let gone = (1..=ROWS).map(|number| Change::ForgetKey {
        key: format!("{number:06} {}", "x".repeat(600)),
    });
    store.commit(&[gone.collect()]).unwrap();
    store.close().unwrap();
}

/// Damages the page of the specification that has this text, so that the store opens all the same; false
/// where that cannot be.
/// sled leaves former copies of a page behind: it is the one that counts that must be met.
pub(crate) fn damage_page(db: &Path, id: TaskId, text: &str) -> bool {
    let open = |db: &Path| {
        let blobs = Blobs::open(&db.with_file_name("blobs")).unwrap();
        Store::open(db, blobs)
    };
    // With a snapshot, no segment but the last one is looked at.
    drop(open(db).unwrap());
    let mut bytes = fs::read(db.join("db")).unwrap();
    let windows = bytes.windows(text.len()).enumerate();
    let places = windows.filter(|(_, window)| *window == text.as_bytes());
    let places: Vec<usize> = places.map(|(at, _)| at).collect();
    for at in places {
        bytes[at] ^= 0xff;
        let elsewhere = tempfile::tempdir().unwrap();
        let copy = elsewhere.path().join("db");
        copy_all(db, &copy);
        fs::write(copy.join("db"), &bytes).unwrap();
        if open(&copy).is_ok_and(|store| store.spec(id).is_err()) {
            fs::write(db.join("db"), &bytes).unwrap();
            return true;
        }
        bytes[at] ^= 0xff;
    }
    false
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, to) = {
            let entry = entry.unwrap();
            (entry.path(), to.join(entry.file_name()))
        };
        match path.is_dir() {
            true => copy_all(&path, &to),
            false => drop(fs::copy(path, to).unwrap()),
        }
    }
}

/// The ids that are read, and what is not.
fn read_all(store: &Store) -> (BTreeSet<u64>, Vec<Lost>) {
    let (mut ids, mut lost) = (BTreeSet::new(), Vec::new());
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = store.page_past_damage(after.as_deref(), 40_000).unwrap();
        for row in page.rows {
            row.message.unwrap();
            assert!(ids.insert(crate::store::task_of(&row.key).unwrap().0));
        }
        lost.extend(page.lost);
        after = page.next;
        if after.is_none() {
            return (ids, lost);
        }
    }
}

#[test]
fn a_check_goes_on_behind_pages_that_cannot_be_read() {
    let dir = damaged(&[700, 2100]);
    let mut store = open(dir.path());
    let error = store.page(None, usize::MAX).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    let (ids, lost) = read_all(&store);
    assert_eq!(lost.len(), 2, "{lost:?}");
    let gone: Vec<u64> = (1..=ROWS).filter(|id| !ids.contains(id)).collect();
    for id in &gone {
        assert!(lost.iter().any(|lost| lost.covers(&key::spec(TaskId(*id)))));
    }
    for (id, lost) in [700, 2100].iter().zip(&lost) {
        assert!(gone.contains(id), "{gone:?}");
        let (after, before) = (lost.after.as_ref().unwrap(), lost.before.as_ref().unwrap());
        let around = [after, before].map(|key| key::task_of(key).unwrap().0);
        // All of it, and nothing but it.
        assert!(ids.contains(&around[0]) && ids.contains(&around[1]));
        assert!((around[0] + 1..around[1]).all(|id| gone.contains(&id)));
    }
    assert!(gone.len() < ROWS as usize / 10, "{} rows", gone.len());
    // The journal's own rows are there, wherever they belong.
    commit(&mut store, [700, ROWS + 1].into_iter(), "new");
    let (ids, _) = read_all(&store);
    assert!(ids.contains(&700) && ids.contains(&(ROWS + 1)));
}

#[test]
fn a_last_page_that_cannot_be_read_ends_the_reading() {
    let dir = damaged(&[ROWS]);
    let mut store = open(dir.path());
    commit(&mut store, [ROWS + 1].into_iter(), "new");
    let (ids, lost) = read_all(&store);
    assert!(ids.contains(&1) && ids.contains(&(ROWS + 1)) && !ids.contains(&ROWS));
    assert_eq!(lost.len(), 1);
    assert_eq!(lost[0].before, None);
    assert!(
        lost[0].name().ends_with("and the end"),
        "{}",
        lost[0].name()
    );
}
