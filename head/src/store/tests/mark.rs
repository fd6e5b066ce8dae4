//! A journal whose end is lost, and one that was only torn by a crash.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use orchestra_core::Change;
use orchestra_types::TaskId;

use super::{open, spec, try_open};
use crate::{
    blobs::Blobs,
    progress::Progress,
    store::{Idle, Store, compact, journal::SEGMENT_BYTES},
};

fn commit(store: &mut Store, id: u64) {
    let change = Change::Spec {
        id: TaskId(id),
        spec: Box::new(spec("what is to be done")),
    };
    store.commit(&[vec![change]]).unwrap();
}

fn has(store: &Store, id: u64) -> bool {
    store.spec(TaskId(id)).unwrap().is_some()
}

fn segment(dir: &Path) -> PathBuf {
    dir.join("db/journal/0000000000000001.journal")
}

fn mark(dir: &Path) -> PathBuf {
    dir.join("db/mark")
}

/// Overwrites the segment with zeros from `at` on.
fn zero(dir: &Path, at: u64) {
    let file = OpenOptions::new().write(true).open(segment(dir)).unwrap();
    let zeros = vec![0; (SEGMENT_BYTES - at) as usize];
    file.write_all_at(&zeros, at).unwrap();
}

fn length(path: &Path) -> u64 {
    File::open(path).unwrap().metadata().unwrap().len()
}

#[test]
fn a_segment_that_was_cut_short_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    commit(&mut store, 1);
    drop(store);
    // Neither may depend on the mark.
    let _ = fs::remove_file(mark(dir.path()));
    for bytes in [SEGMENT_BYTES - 1, 1000, 0] {
        let file = OpenOptions::new().write(true).open(segment(dir.path()));
        file.unwrap().set_len(bytes).unwrap();
        let error = try_open(dir.path()).unwrap_err().to_string();
        let wanted = format!("0001.journal` is damaged: it has {bytes} bytes");
        assert!(error.contains(&wanted), "{error}");
        assert_eq!(length(&segment(dir.path())), bytes);
    }
}

#[test]
fn an_end_that_was_lost_after_a_stop_in_order_is_named_and_what_is_left_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let mut ends = Vec::new();
    for id in 1..=5 {
        commit(&mut store, id);
        ends.push(store.journal.bytes());
    }
    store.close().unwrap();
    // In the middle of a commit, so that it looks torn, and between two.
    for at in [ends[3] + 16, ends[1]] {
        zero(dir.path(), at);
        let left = fs::read(segment(dir.path())).unwrap();
        let error = try_open(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains("/journal` is damaged: it ends at"),
            "{error}"
        );
        assert!(error.contains("commit 5 was durable"), "{error}");
        assert_eq!(fs::read(segment(dir.path())).unwrap(), left);
    }
    // Whoever wants what is left has it without the mark.
    fs::remove_file(mark(dir.path())).unwrap();
    let store = open(dir.path());
    assert!(has(&store, 2) && !has(&store, 3));
}

#[test]
fn a_commit_torn_by_a_crash_is_no_damage_to_a_store_with_a_mark() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    commit(&mut store, 1);
    commit(&mut store, 2);
    let end = store.journal.bytes();
    while store.idle().unwrap() != Idle::Nothing {}
    commit(&mut store, 3);
    drop(store);
    assert!(mark(dir.path()).exists());
    zero(dir.path(), end + 16);
    let mut store = open(dir.path());
    assert!(has(&store, 2) && !has(&store, 3));
    // Numbers are given anew, and the mark follows.
    commit(&mut store, 4);
    store.close().unwrap();
    zero(dir.path(), end);
    try_open(dir.path()).unwrap_err();
}

#[test]
fn a_store_without_a_mark_or_with_a_damaged_one_opens_and_gets_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    commit(&mut store, 1);
    store.close().unwrap();
    let whole = fs::read(mark(dir.path())).unwrap();
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x10;
        fs::write(mark(dir.path()), flipped).unwrap();
        open(dir.path()).close().unwrap();
        assert_eq!(fs::read(mark(dir.path())).unwrap(), whole);
    }
    fs::remove_file(mark(dir.path())).unwrap();
    open(dir.path()).close().unwrap();
    assert_eq!(fs::read(mark(dir.path())).unwrap(), whole);
}

#[test]
fn a_store_that_is_written_anew_does_not_keep_the_mark_of_the_former_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    for id in 1..=5 {
        commit(&mut store, id);
    }
    store.close().unwrap();
    let blobs = Blobs::open(&dir.path().join("blobs")).unwrap();
    compact(&dir.path().join("db"), blobs, &Progress::unwatched()).unwrap();
    assert!(!mark(dir.path()).exists());
    let mut store = open(dir.path());
    commit(&mut store, 6);
    store.close().unwrap();
    assert!(has(&open(dir.path()), 6));
}
