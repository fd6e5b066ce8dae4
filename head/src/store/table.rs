//! The rows that the journal has and the database does not have yet: where the newest value of
//! each stands.

use std::{collections::BTreeMap, ops::Range};

use sled::IVec;

/// Where a value stands in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub segment: u64,
    pub offset: u32,
    pub length: u32,
}

/// Keys, each with the place of its newest value; none when the row was removed.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: BTreeMap<IVec, Option<Place>>,
}

impl Place {
    pub fn of(segment: u64, value: &Range<u32>) -> Self {
        Self {
            segment,
            offset: value.start,
            length: value.end - value.start,
        }
    }
}

impl Table {
    pub fn insert(&mut self, key: IVec, place: Option<Place>) {
        self.rows.insert(key, place);
    }

    pub fn get(&self, key: &[u8]) -> Option<Option<Place>> {
        self.rows.get(key).copied()
    }

    /// The rows from the one after `after` on, in the order of their keys.
    pub fn after(&self, after: Option<&IVec>) -> impl Iterator<Item = (&IVec, Option<Place>)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let begin = after.map_or(Unbounded, Excluded);
        self.rows
            .range::<IVec, _>((begin, Unbounded))
            .map(|(key, place)| (key, *place))
    }

    /// The rows from `from` on, in the order of their keys.
    pub fn from(&self, from: &[u8]) -> impl Iterator<Item = (&IVec, Option<Place>)> {
        use std::ops::Bound::{Included, Unbounded};
        self.rows
            .range::<[u8], _>((Included(from), Unbounded))
            .map(|(key, place)| (key, *place))
    }
}
