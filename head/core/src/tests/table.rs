//! The table of all tasks.

use std::collections::BTreeMap;

use orchestra_types::{TaskId, TaskStatus, Timestamp};
use proptest::prelude::*;

use super::bench;
use crate::{
    State, TaskFacts, TaskRow,
    queue::Place,
    table::TaskTable,
    task::{Task, Waits},
};

fn task(id: u64) -> Task {
    Task {
        row: TaskRow {
            id: TaskId(id),
            created_at: Timestamp(0),
            facts: TaskFacts::of(&bench::task().spec).into(),
            after: Box::default(),
            state: State::Blocked,
            attempts: 0,
            failures: 0,
            losses: 0,
            limited: 0,
            given_up: 0,
            last: None,
            started_at: None,
            cancel_requested: false,
            reason: None,
            apply: None,
        },
        waits_for: Waits::default(),
        place: Place::default(),
    }
}

fn ids<'a>(tasks: impl Iterator<Item = &'a Task>) -> Vec<u64> {
    tasks.map(|t| t.row.id.0).collect()
}

#[test]
fn a_task_takes_little_memory() {
    let bytes = size_of::<Task>();
    assert!(
        bytes <= 184,
        "{bytes} B: put what few tasks have behind a box"
    );
}

#[test]
fn a_range_passes_over_pages_without_a_wanted_status() {
    let mut table = TaskTable::default();
    for id in 1..=640 {
        table.insert(TaskId(id), task(id));
        let status = if id == 300 {
            TaskStatus::Failed
        } else {
            TaskStatus::Queued
        };
        table.count(TaskId(id), status);
    }
    let found = ids(table.range(TaskId(0).., &[TaskStatus::Failed]));
    assert_eq!(found, (256..320).collect::<Vec<u64>>());
    table.uncount(TaskId(300), TaskStatus::Failed);
    assert_eq!(ids(table.range(TaskId(0).., &[TaskStatus::Failed])), []);
}

proptest! {
    #[test]
    fn it_is_an_ordered_map(
        steps in prop::collection::vec((1_u64..2000, 0..3_u8), 1..300),
        from in 0_u64..2100,
        to in 0_u64..2100,
    ) {
        let mut table = TaskTable::default();
        let mut model = BTreeMap::new();
        for (id, step) in steps {
            if step == 0 {
                let removed = table.remove(&TaskId(id)).is_some();
                prop_assert_eq!(removed, model.remove(&id).is_some());
            } else {
                table.insert(TaskId(id), task(id));
                model.insert(id, ());
            }
            prop_assert_eq!(table.contains_key(&TaskId(id)), model.contains_key(&id));
        }
        let all: Vec<u64> = model.keys().copied().collect();
        prop_assert_eq!(ids(table.values()), all.clone());
        let mut backwards = ids(table.values().rev());
        backwards.reverse();
        prop_assert_eq!(backwards, all.clone());
        let inside = |id: &u64| (from..to).contains(id);
        let part: Vec<u64> = all.into_iter().filter(inside).collect();
        prop_assert_eq!(ids(table.range(TaskId(from)..TaskId(to), &[])), part);
    }
}
