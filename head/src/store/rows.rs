//! Rows as they are stored: the newest value of each, whether the journal or the database has it.

use super::{Result, Store};

/// A row, as its bytes; nobody has looked at them yet.
#[derive(Debug)]
pub(super) struct Stored {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
}

impl Store {
    /// The newest value of a row.
    pub(super) fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let moving = || self.moving.as_ref()?.table.get(key);
        match self.recent.get(key).or_else(moving) {
            Some(Some(place)) => self.journal.read(place).map(Some),
            Some(None) => Ok(None),
            None => Ok(self.database.get(key)?.map(|value| value.to_vec())),
        }
    }

    /// The rows from `from` on. A row that the journal has hides the database's.
    pub(super) fn merged(&self, from: &[u8]) -> impl Iterator<Item = Result<Stored>> {
        let mut recent = self.recent.from(from).peekable();
        let moving = self.moving.as_ref().map(|checkpoint| &checkpoint.table);
        let mut moving = moving.map(|table| table.from(from).peekable());
        let mut old = self.database.from(from).peekable();
        std::iter::from_fn(move || {
            loop {
                // The smallest key of the three, and the newest row that has it.
                let old_key = match old.peek() {
                    Some(Ok((key, _))) => Some(key.clone()),
                    Some(Err(_)) => return old.next()?.err().map(Err),
                    None => None,
                };
                let recent_key = recent.peek().map(|(key, _)| (*key).clone());
                let moving_key = moving.as_mut().and_then(|rows| rows.peek());
                let moving_key = moving_key.map(|(key, _)| (*key).clone());
                let keys = [&old_key, &recent_key, &moving_key];
                let key = keys.into_iter().flatten().min()?.clone();
                let old = old.next_if(|row| matches!(row, Ok((k, _)) if *k == key));
                let moving = moving
                    .as_mut()
                    .and_then(|rows| rows.next_if(|(k, _)| **k == key));
                let recent = recent.next_if(|(k, _)| **k == key);
                let value = match recent.or(moving) {
                    Some((_, Some(place))) => self.journal.read(place),
                    Some((_, None)) => continue,
                    None => match old {
                        Some(Ok((_, value))) => Ok(value.to_vec()),
                        Some(Err(error)) => Err(error),
                        None => continue,
                    },
                };
                if key.starts_with(&[super::key::META]) {
                    continue;
                }
                let key = key.to_vec();
                return Some(value.map(|value| Stored { key, value }));
            }
        })
    }
}
