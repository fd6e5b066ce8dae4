//! A store that is gone, where there was one.

use std::{fs, path::Path};

use orchestra_core::Change;
use orchestra_types::TaskId;

use super::{open, spec, try_open};

fn made(dir: &Path) {
    let mut store = open(dir);
    let change = Change::Spec {
        id: TaskId(1),
        spec: Box::new(spec("what is to be done")),
    };
    store.commit(&[vec![change]]).unwrap();
    store.close().unwrap();
}

fn refused(dir: &Path) {
    let error = try_open(dir).unwrap_err().to_string();
    assert!(error.contains("/db` is gone"), "{error}");
    assert!(error.contains("ctl restore"), "{error}");
}

#[test]
fn no_store_is_begun_in_the_place_of_one_that_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path());
    let (db, away) = (dir.path().join("db"), dir.path().join("away"));
    fs::rename(&db, &away).unwrap();
    refused(dir.path());
    assert!(!db.exists(), "the refusal has made something");
    // Its files alone.
    fs::create_dir(&db).unwrap();
    refused(dir.path());
    // A database without rows.
    fs::write(db.join("db"), "").unwrap();
    let error = try_open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("it has no rows, and"), "{error}");
    fs::remove_dir_all(&db).unwrap();
    // It can be put back, and a new cluster can be begun.
    fs::rename(&away, &db).unwrap();
    assert!(open(dir.path()).spec(TaskId(1)).unwrap().is_some());
    fs::rename(&db, &away).unwrap();
    fs::remove_file(dir.path().join("db.made")).unwrap();
    assert!(open(dir.path()).spec(TaskId(1)).unwrap().is_none());
}

#[test]
fn a_store_of_an_earlier_version_is_known_from_its_first_opening_on() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path());
    fs::remove_file(dir.path().join("db.made")).unwrap();
    drop(open(dir.path()));
    fs::remove_dir_all(dir.path().join("db")).unwrap();
    refused(dir.path());
}

#[test]
fn a_store_that_may_not_be_looked_at_is_not_one_that_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path());
    // As a directory of another user for one who is not root, this cannot be looked into.
    let db = dir.path().join("db");
    fs::rename(&db, dir.path().join("away")).unwrap();
    fs::write(&db, "").unwrap();
    let error = try_open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("failed to look for"), "{error}");
    assert!(!error.contains("gone"), "{error}");
}
