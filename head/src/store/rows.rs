//! Rows as they are stored: the newest value of each, whether the journal or the database has it.

use std::cmp::min;

use sled::IVec;

use super::{Result, Store, journal::Window, table::Place};

/// A row, as its bytes; nobody has looked at them yet.
#[derive(Debug)]
pub(super) struct Stored {
    pub key: IVec,
    pub value: IVec,
}

/// Rows of a table of the journal, the first one at hand.
struct Ahead<I> {
    rows: I,
    first: Option<(IVec, Option<Place>)>,
}

impl<'a, I: Iterator<Item = (&'a IVec, Option<Place>)>> Ahead<I> {
    fn new(rows: I) -> Self {
        let mut ahead = Self { rows, first: None };
        ahead.step();
        ahead
    }

    fn key(&self) -> Option<&IVec> {
        self.first.as_ref().map(|(key, _)| key)
    }

    /// Gives the first one and goes on.
    fn step(&mut self) -> Option<(IVec, Option<Place>)> {
        let next = self.rows.next().map(|(key, place)| (key.clone(), place));
        std::mem::replace(&mut self.first, next)
    }
}

fn smallest(a: Option<&IVec>, b: Option<&IVec>) -> Option<IVec> {
    match (a, b) {
        (Some(a), Some(b)) => Some(min(a, b).clone()),
        (a, b) => a.or(b).cloned(),
    }
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
        let mut recent = Ahead::new(self.recent.from(from));
        let moving = self.moving.iter();
        let mut moving = Ahead::new(moving.flat_map(|checkpoint| checkpoint.table.from(from)));
        let mut database = self.database.from(from);
        let mut old = database.next();
        let mut window = Window::default();
        std::iter::from_fn(move || {
            loop {
                let old_key = match &old {
                    Some(Ok((key, _))) => Some(key),
                    Some(Err(_)) => return old.take()?.err().map(Err),
                    None => None,
                };
                // The smallest key of the three, and the newest row that has it.
                let of_journal = smallest(recent.key(), moving.key());
                let is_old = match (old_key, &of_journal) {
                    (Some(old), Some(journal)) => old <= journal,
                    (old, None) => old.is_some(),
                    (None, Some(_)) => false,
                };
                let hidden = is_old && old_key == of_journal.as_ref();
                let found = if is_old { old.take() } else { None };
                if is_old {
                    old = database.next();
                }
                let (key, value) = if is_old && !hidden {
                    match found? {
                        Ok(row) => row,
                        Err(error) => return Some(Err(error)),
                    }
                } else {
                    let key = of_journal?;
                    let older = (moving.key() == Some(&key))
                        .then(|| moving.step())
                        .flatten();
                    let newest = (recent.key() == Some(&key))
                        .then(|| recent.step())
                        .flatten();
                    let Some((key, Some(place))) = newest.or(older) else {
                        continue;
                    };
                    match self.journal.read_near(place, &mut window) {
                        Ok(value) => (key, value),
                        Err(error) => return Some(Err(error)),
                    }
                };
                if !key.starts_with(&[super::key::META]) {
                    return Some(Ok(Stored { key, value }));
                }
            }
        })
    }
}
