//! A store that is never idle: bursts do not wait for the database, and the journal stays bounded.

use orchestra_core::Change;
use orchestra_types::TaskId;

use super::{open, spec};
use crate::store::{
    Store,
    checkpoint::{PACE_AT_BYTES, WAIT_AT_BYTES},
};

/// Rows of one commit, of 4 KiB each.
const ROWS: u64 = 16;

fn commit(store: &mut Store, number: u64) {
    let row = |id| Change::Spec {
        id: TaskId(id),
        spec: Box::new(spec(&"x".repeat(4096))),
    };
    let rows = (number * ROWS..(number + 1) * ROWS).map(row).collect();
    store.commit(&[rows]).unwrap();
    store.keep_pace().unwrap();
}

/// Rows that are in the database: it has none of those that are still to be moved.
fn in_the_database(store: &Store) -> usize {
    let rows = store.database.from(b"s");
    rows.take_while(|row| row.as_ref().unwrap().0[0] == b's')
        .count()
}

#[test]
fn a_burst_does_not_wait_and_what_goes_on_and_on_is_moved_as_it_comes() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let mut number = 0;
    while store.journal.bytes() < PACE_AT_BYTES {
        assert_eq!(in_the_database(&store), 0, "a commit moved rows");
        commit(&mut store, number);
        number += 1;
    }
    let mut most = 0;
    for number in number..number + 2 * WAIT_AT_BYTES / (ROWS * 4096) {
        commit(&mut store, number);
        most = most.max(store.journal.bytes());
    }
    assert!(in_the_database(&store) > 0);
    assert!(most < WAIT_AT_BYTES, "{most} bytes");
}

#[test]
fn what_is_owed_grows_with_the_journal() {
    use crate::store::checkpoint::{PACE_BYTES, owed};
    assert_eq!(owed(1000, 0), 0);
    assert_eq!(owed(1000, PACE_AT_BYTES), 0);
    assert_eq!(owed(1000, PACE_AT_BYTES + PACE_BYTES / 2), 500);
    assert_eq!(owed(1000, PACE_AT_BYTES + PACE_BYTES), 1000);
    assert_eq!(owed(1, PACE_AT_BYTES + 1), 1, "a little is owed by each");
}
