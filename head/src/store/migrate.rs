//! From format 1, which had no journal and no checksums, to format 2.
//!
//! Rows are rewritten in small batches; the database says that it has format 2 only when all rows
//! have it. A crash in between leaves rows of both formats in a database of format 1, and the next
//! opening goes on.

use std::collections::BTreeMap;

use orchestra_proto::store::v1 as stored;
use orchestra_types::TaskId;
use prost::Message;

use super::{Error, Result, database::Database, key, large};

/// More operations in one batch poison sled.
const BATCH_ROWS: usize = 128;

pub(super) fn from_format_1(database: &Database) -> Result<()> {
    tracing::info!("the store is brought from format 1 to format 2");
    remove_unfinished(database)?;
    let mut after = Vec::new();
    loop {
        let rows: Vec<_> = database
            .from(&after)
            .take(BATCH_ROWS)
            .collect::<Result<_>>()?;
        let Some((last, _)) = rows.last() else {
            return Ok(());
        };
        after = last.to_vec();
        after.push(0);
        let mut batch = sled::Batch::default();
        for (key, value) in rows
            .iter()
            .filter(|(key, _)| !key.starts_with(&[key::META]))
        {
            if let Some(value) = large::migrated(key, value)? {
                batch.insert(key.clone(), value);
            }
        }
        database.apply(batch)?;
    }
}

/// Format 1 wrote a large submission in parts, its key last. Tasks that no key covers are what a
/// crash left of one; nobody was told of them.
fn remove_unfinished(database: &Database) -> Result<()> {
    let mut submissions = BTreeMap::new();
    for found in database.from(&[key::KEYS]) {
        let (key, value) = found?;
        if !key.starts_with(&[key::KEYS]) {
            break;
        }
        let row: stored::KeyRow = read(&key, &value)?;
        submissions.insert(row.first, row.count);
    }
    let covered = |id: u64| {
        let before = submissions.range(..=id).next_back();
        before.is_some_and(|(first, count)| id - first < *count)
    };
    let mut unfinished = Vec::new();
    for found in database.from(&[key::TASKS]) {
        let (key, value) = found?;
        if !key.starts_with(&[key::TASKS]) {
            break;
        }
        let row: stored::TaskRow = read(&key, &value)?;
        if !covered(row.id) {
            unfinished.push(row.id);
        }
    }
    for id in unfinished {
        let mut batch = sled::Batch::default();
        for table in [key::TASKS, key::SPECS] {
            batch.remove(key::of_task(table, TaskId(id)));
        }
        database.apply(batch)?;
    }
    Ok(())
}

fn read<M: Message + Default>(key: &[u8], value: &[u8]) -> Result<M> {
    let new = large::migrated(key, value)?;
    let bytes = new.as_deref().unwrap_or(value);
    let body = bytes.get(6..).unwrap_or_default();
    M::decode(body).map_err(|error| Error::Row {
        row: key::show(key),
        why: error.to_string(),
    })
}
