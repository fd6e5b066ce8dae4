//! All rows in the order of their keys, a part at a time: for copies, for checks, and to find what
//! nobody refers to.

use orchestra_core::Change;
use orchestra_types::{Digest, Place, TaskSpec};

use super::{
    Result, Store, decode, key, large,
    lost::{Lost, behind},
};

/// Some rows that follow each other.
#[derive(Debug, Default)]
pub struct Page {
    /// The rows.
    pub rows: Vec<Row>,
    /// Go on behind this key; none at the end.
    pub next: Option<Vec<u8>>,
    /// Rows behind these that cannot be read; only a check goes on behind them.
    pub lost: Option<Lost>,
}

/// A row as it is kept.
#[derive(Debug)]
pub struct Row {
    /// Its key.
    pub key: Vec<u8>,
    /// Its message, or why it cannot be read.
    pub message: Result<Vec<u8>>,
    /// The blob that the message lies in, when it is large.
    pub large: Option<Digest>,
}

/// Stored bytes that a row refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Their name.
    pub digest: Digest,
    /// How many, where the row says so.
    pub size: Option<u64>,
}

impl Store {
    /// Rows behind the key `after`, of about `bytes_max` bytes in all, at least one.
    pub fn page(&self, after: Option<&[u8]>, bytes_max: usize) -> Result<Page> {
        let mut page = Page::default();
        self.fill(&mut page, after, bytes_max)?;
        Ok(page)
    }

    /// What could be read before an error stays in the page.
    pub(super) fn fill(
        &self,
        page: &mut Page,
        after: Option<&[u8]>,
        bytes_max: usize,
    ) -> Result<()> {
        let from = after.map(behind).unwrap_or_default();
        let mut bytes = 0;
        for found in self.merged(&from) {
            if bytes >= bytes_max {
                page.next = page.rows.last().map(|row: &Row| row.key.clone());
                break;
            }
            let found = found?;
            let row = self.stored(&found.key, &found.value);
            bytes += row.key.len() + row.message.as_ref().map_or(0, Vec::len);
            page.rows.push(row);
        }
        Ok(())
    }

    /// One row; none when it is not there.
    pub fn one(&self, key: &[u8]) -> Result<Option<Row>> {
        let found = self.value(key)?;
        Ok(found.map(|value| self.stored(key, &value)))
    }

    fn stored(&self, key: &[u8], value: &[u8]) -> Row {
        let read = large::bytes(key, value, &self.blobs);
        let large = read.as_ref().ok().and_then(|(_, large)| *large);
        Row {
            key: key.to_vec(),
            message: read.map(|(message, _)| message),
            large,
        }
    }
}

impl Row {
    /// The row in words, for messages.
    #[must_use]
    pub fn name(&self) -> String {
        key::show(&self.key)
    }

    /// What the row says: writing this change makes the same row.
    pub fn change(&self) -> Result<Change> {
        let message = self.message.as_ref();
        let message = message.map_err(|error| large::damaged(&self.key, error.to_string()))?;
        change_of(&self.key, message)
    }
}

/// The change that makes a row. Its key must be the one that it says.
pub fn change_of(key: &[u8], message: &[u8]) -> Result<Change> {
    let change = decode::change(key, message)?;
    let fits = key::of_change(&change)
        .first()
        .is_some_and(|its| its == key);
    fits.then_some(change)
        .ok_or_else(|| large::damaged(key, "it says another key".to_owned()))
}

/// The stored bytes that a change refers to.
#[must_use]
pub fn references(change: &Change) -> Vec<Reference> {
    match change {
        Change::Spec { spec, .. } => of_spec(spec),
        Change::Schedule(row) => of_spec(&row.spec),
        Change::Outcome(row) => match &row.result {
            Ok(outcome) => {
                let artifacts = outcome.artifacts.iter();
                let known = |digest, size| Reference {
                    digest,
                    size: Some(size),
                };
                artifacts.map(|a| known(a.digest, a.size)).collect()
            }
            Err(_) => Vec::new(),
        },
        Change::Task(_)
        | Change::Attempt(_)
        | Change::Worker(_)
        | Change::Acked { .. }
        | Change::Account(_)
        | Change::Ledger(_)
        | Change::Project(_)
        | Change::Key(_)
        | Change::ForgetOutcome { .. }
        | Change::ForgetTask { .. }
        | Change::ForgetSchedule { .. }
        | Change::ScheduleIds { .. }
        | Change::ForgetKey { .. }
        | Change::ForgetWorker { .. } => Vec::new(),
    }
}

fn of_spec(spec: &TaskSpec) -> Vec<Reference> {
    let copied = spec.set_up.iter().flat_map(|set_up| &set_up.files);
    let contents = spec.context_files.iter().map(|file| file.content);
    let files = contents.chain(copied.map(|file| file.content));
    let files = files.map(|content| Reference {
        digest: content.digest,
        size: Some(content.size),
    });
    let bundles = match &spec.place {
        Place::Repository { bundles, .. } => bundles.as_slice(),
        Place::InPlace { .. } | Place::Empty => &[],
    };
    let bundles = bundles.iter().map(|digest| Reference {
        digest: *digest,
        size: None,
    });
    files.chain(bundles).collect()
}
