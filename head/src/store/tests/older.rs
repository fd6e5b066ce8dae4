//! Rows as an older head wrote them: without what came later.

use orchestra_core::{Change, State, TaskRow};
use orchestra_proto::store::v1 as stored;
use prost::Message;

use super::{open, task};
use crate::store::Row;

/// The row of a task as it is stored.
fn stored_row(row: &TaskRow) -> Row {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let change = Change::Task(Box::new(row.clone()));
    store.commit(&[vec![change]]).unwrap();
    let mut rows = store.page(None, 1024 * 1024).unwrap().rows;
    assert_eq!(rows.len(), 1);
    rows.remove(0)
}

fn read(row: &Row) -> TaskRow {
    match row.change().unwrap() {
        Change::Task(row) => *row,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_task_without_the_beginning_of_its_wait_has_none() {
    let mut task = task(1, State::Blocked);
    let mut row = stored_row(&task);
    assert_eq!(read(&row), task);
    let mut wire = stored::TaskRow::decode(&**row.message.as_ref().unwrap()).unwrap();
    assert!(wire.waits_since_ms.take().is_some());
    row.message = Ok(wire.encode_to_vec());
    task.last.as_mut().unwrap().waits_since = None;
    assert_eq!(read(&row), task);
}
