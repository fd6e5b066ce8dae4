//! Going on behind rows that cannot be read, for checks.
//!
//! sled keeps rows in pages, each with the keys from one bound to another. A page that does not read
//! does not say where its keys end, so that is searched for: the first place behind it from which
//! rows can be read again. sled itself takes no harm from a read that failed.

use std::collections::BTreeSet;

use super::{Error, Page, Result, Row, Store, key};

/// Keys are told apart by so many bytes when a place is searched for.
const PLACE_BYTES: usize = size_of::<u128>();

/// Rows that cannot be read.
#[derive(Debug)]
pub struct Lost {
    /// The last row in front of them; none at the begin.
    pub after: Option<Vec<u8>>,
    /// The first row behind them; none when nothing behind them can be read.
    pub before: Option<Vec<u8>>,
    /// Why.
    pub why: Error,
}

impl Lost {
    /// Which they are, for messages.
    #[must_use]
    pub fn name(&self) -> String {
        let (after, before) = (self.after.as_deref(), self.before.as_deref());
        let after = after.map_or_else(|| "the begin".to_owned(), key::show);
        let before = before.map_or_else(|| "the end".to_owned(), key::show);
        format!("rows between {after} and {before}")
    }

    /// Whether a row with this key would be among them.
    #[must_use]
    pub fn covers(&self, key: &[u8]) -> bool {
        let (after, before) = (self.after.as_deref(), self.before.as_deref());
        after.is_none_or(|after| after < key) && before.is_none_or(|before| key < before)
    }
}

impl Store {
    /// As [`Store::page`], but it goes on when rows cannot be read: the page then ends behind them,
    /// and says so.
    pub fn page_past_damage(&self, after: Option<&[u8]>, bytes_max: usize) -> Result<Page> {
        let mut page = Page::default();
        let Err(why) = self.fill(&mut page, after, bytes_max) else {
            return Ok(page);
        };
        if why.is_full() {
            return Err(why);
        }
        let last = page.rows.last().map(|row| row.key.as_slice());
        let after = last.or(after).map(<[u8]>::to_vec);
        match self.reads_behind(after.as_deref().unwrap_or_default()) {
            true => self.pass_value(&mut page, after.as_deref(), why)?,
            false => self.pass_rows(&mut page, after, why),
        }
        Ok(page)
    }

    /// The database reads, so it is the newest value of the next row, which stands in the journal.
    fn pass_value(&self, page: &mut Page, after: Option<&[u8]>, why: Error) -> Result<()> {
        let Some(key) = self.keys_in_journal(after, None).into_iter().next() else {
            return Err(why);
        };
        page.next = Some(key.clone());
        page.rows.push(Row {
            key,
            message: Err(why),
            large: None,
        });
        Ok(())
    }

    /// Those of the rows that the journal has can be read all the same.
    fn pass_rows(&self, page: &mut Page, after: Option<Vec<u8>>, why: Error) {
        let next = self.next_place(after.as_deref().unwrap_or_default());
        let before = next.as_deref().and_then(|next| self.first_behind(next));
        // Where the database has nothing more there is nothing to go on to.
        let next = next.filter(|_| before.is_some());
        for key in self.keys_in_journal(after.as_deref(), next.as_deref()) {
            let row = self.one(&key).unwrap_or_else(|error| {
                Some(Row {
                    key,
                    message: Err(error),
                    large: None,
                })
            });
            page.rows.extend(row);
        }
        page.next = next;
        page.lost = Some(Lost { after, before, why });
    }

    /// The keys behind `after`, up to the place `to`, of rows that the journal has.
    fn keys_in_journal(&self, after: Option<&[u8]>, to: Option<&[u8]>) -> BTreeSet<Vec<u8>> {
        let from = after.map(behind).unwrap_or_default();
        let moving = self.moving.iter();
        let moving = moving.flat_map(|checkpoint| checkpoint.table.from(&from));
        let rows = self.recent.from(&from).chain(moving);
        let rows = rows.filter(|(key, _)| to.is_none_or(|to| ***key <= *to));
        let newest = |key: &[u8]| match self.recent.get(key) {
            Some(newest) => newest,
            None => self.moving.as_ref()?.table.get(key)?,
        };
        let there = rows.filter(|(key, _)| newest(key).is_some());
        there.map(|(key, _)| key.to_vec()).collect()
    }

    /// The first place behind `after` from which the database can be read again; none when there is
    /// none.
    fn next_place(&self, after: &[u8]) -> Option<Vec<u8>> {
        let begin = number(after);
        let (mut unread, mut step) = (begin, 1);
        let mut read = loop {
            let place = begin.saturating_add(step);
            if self.reads_behind(&place.to_be_bytes()) {
                break place;
            }
            if place == u128::MAX {
                return None;
            }
            unread = place;
            step = step.saturating_mul(2);
        };
        while read - unread > 1 {
            let middle = unread + (read - unread) / 2;
            match self.reads_behind(&middle.to_be_bytes()) {
                true => read = middle,
                false => unread = middle,
            }
        }
        Some(read.to_be_bytes().to_vec())
    }

    fn reads_behind(&self, place: &[u8]) -> bool {
        let first = self.database.from(&behind(place)).next();
        first.is_none_or(|row| row.is_ok())
    }

    fn first_behind(&self, place: &[u8]) -> Option<Vec<u8>> {
        let first = self.database.from(&behind(place)).next()?;
        Some(first.ok()?.0.to_vec())
    }
}

/// The next possible key has a zero byte more.
pub(super) fn behind(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

/// A key's first bytes, as a number in the order of keys.
fn number(key: &[u8]) -> u128 {
    let mut bytes = [0; PLACE_BYTES];
    let length = key.len().min(PLACE_BYTES);
    bytes[..length].copy_from_slice(&key[..length]);
    u128::from_be_bytes(bytes)
}
