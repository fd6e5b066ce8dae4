//! Which rows changed behind a reader that goes through all of them.

use std::collections::BTreeSet;

use orchestra_core::Change;

use crate::store;

/// Most changed rows that are remembered. A copy that falls so far behind is given up.
const KEYS_MAX: usize = 1_000_000;

/// How far a reader has come, and which rows changed behind it.
#[derive(Debug, Default)]
pub struct Touched {
    read: Read,
    keys: BTreeSet<Vec<u8>>,
}

#[derive(Debug, Default)]
enum Read {
    /// Nothing yet.
    #[default]
    Nothing,
    /// Up to this key.
    UpTo(Vec<u8>),
    /// Everything once.
    Everything,
}

/// Too many rows changed.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("too much changes at once to be copied; try again when less is going on")]
pub struct TooMany;

impl Touched {
    /// Notes every change, whatever was read.
    #[must_use]
    pub fn everything() -> Self {
        Self {
            read: Read::Everything,
            keys: BTreeSet::new(),
        }
    }

    /// The reader has come up to the key before which it goes on; none: it is through.
    pub fn read_up_to(&mut self, next: Option<&[u8]>) {
        self.read = next.map_or(Read::Everything, |key| Read::UpTo(key.to_vec()));
    }

    /// A change was committed.
    pub fn note(&mut self, change: &Change) {
        if matches!(self.read, Read::Nothing) || self.keys.len() > KEYS_MAX {
            return;
        }
        for key in store::keys_of(change) {
            let behind = match &self.read {
                Read::Nothing => false,
                Read::UpTo(last) => key <= *last,
                Read::Everything => true,
            };
            if behind {
                self.keys.insert(key);
            }
        }
    }

    /// Some of the rows that must be read again.
    pub fn take(&mut self, most: usize) -> Result<Vec<Vec<u8>>, TooMany> {
        if self.keys.len() > KEYS_MAX {
            return Err(TooMany);
        }
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some(key) = self.keys.pop_first()
        {
            taken.push(key);
        }
        Ok(taken)
    }

    /// Whether everything that was read is as it was read.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        matches!(self.read, Read::Everything) && self.keys.is_empty()
    }
}
