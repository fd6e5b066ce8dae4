//! The idempotency keys of submissions, in little memory.

use std::collections::BTreeMap;

use orchestra_types::{TaskId, Timestamp};

use crate::row::KeyRow;

/// A key. A UUID in its usual form, which is what clients make, takes 16 bytes; any other text is
/// kept as it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Uuid([u8; 16]),
    Text(Box<str>),
}

impl Key {
    fn of(text: &str) -> Self {
        uuid(text).map_or_else(|| Self::Text(text.into()), Self::Uuid)
    }
}

#[derive(Clone, Copy, Debug)]
struct Submission {
    first: TaskId,
    at: Timestamp,
    count: u32,
}

/// Which tasks each key gave.
#[derive(Debug, Default)]
pub(crate) struct Keys(BTreeMap<Key, Submission>);

impl Keys {
    pub fn insert(&mut self, row: &KeyRow) {
        let submission = Submission {
            first: row.first,
            at: row.at,
            count: u32::try_from(row.count).unwrap_or(u32::MAX),
        };
        self.0.insert(Key::of(&row.key), submission);
    }

    pub fn get(&self, key: &str) -> Option<KeyRow> {
        let known = self.0.get(&Key::of(key))?;
        Some(KeyRow {
            key: key.to_owned(),
            first: known.first,
            count: u64::from(known.count),
            at: known.at,
        })
    }
}

/// The bytes of a UUID, only where its text is the one that they would be written as.
fn uuid(text: &str) -> Option<[u8; 16]> {
    const DASHES: [usize; 4] = [8, 13, 18, 23];
    let text = text.as_bytes();
    if text.len() != 36 || DASHES.iter().any(|at| text[*at] != b'-') {
        return None;
    }
    let mut bytes = [0; 16];
    let digits = text
        .iter()
        .enumerate()
        .filter(|(at, _)| !DASHES.contains(at));
    for (place, (_, digit)) in digits.enumerate() {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        bytes[place / 2] = bytes[place / 2] << 4 | value;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use orchestra_types::{TaskId, Timestamp};

    use super::Keys;
    use crate::KeyRow;

    #[test]
    fn keys_that_differ_are_different_whatever_their_form() {
        let texts = [
            "0190f5a8-0000-7000-8000-000000000001",
            "0190f5a8-0000-7000-8000-000000000002",
            "0190F5A8-0000-7000-8000-000000000001",
            "0190f5a8-0000-7000-8000-00000000000g",
            "0190f5a80000-7000-8000-0000000000010",
            "0190f5a8000070008000000000000001",
            "",
            "-",
            "my key",
        ];
        let mut keys = Keys::default();
        let row = |n: usize| KeyRow {
            key: texts[n].to_owned(),
            first: TaskId(n as u64 + 1),
            count: 1,
            at: Timestamp(5),
        };
        for (n, text) in texts.iter().enumerate() {
            assert_eq!(keys.get(text), None);
            keys.insert(&row(n));
        }
        for (n, text) in texts.iter().enumerate() {
            assert_eq!(keys.get(text), Some(row(n)));
        }
    }
}
