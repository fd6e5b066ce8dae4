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

    fn text(&self) -> String {
        match self {
            Self::Uuid(bytes) => uuid_text(bytes),
            Self::Text(text) => text.to_string(),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Submission {
    first: TaskId,
    at: Timestamp,
    count: u32,
}

impl Submission {
    fn row(&self, key: String) -> KeyRow {
        KeyRow {
            key,
            first: self.first,
            count: u64::from(self.count),
            at: self.at,
        }
    }
}

/// Which tasks each key gave.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    by_key: BTreeMap<Key, Submission>,
    by_first: BTreeMap<TaskId, Key>,
}

impl Keys {
    pub fn insert(&mut self, row: &KeyRow) {
        let submission = Submission {
            first: row.first,
            at: row.at,
            count: u32::try_from(row.count).unwrap_or(u32::MAX),
        };
        let key = Key::of(&row.key);
        self.by_first.insert(row.first, key.clone());
        self.by_key.insert(key, submission);
    }

    pub fn get(&self, key: &str) -> Option<KeyRow> {
        let known = self.by_key.get(&Key::of(key))?;
        Some(known.row(key.to_owned()))
    }

    /// The submission that a task came with.
    pub fn of_task(&self, id: TaskId) -> Option<KeyRow> {
        let (first, key) = self.by_first.range(..=id).next_back()?;
        let known = self.by_key.get(key)?;
        (id.0 - first.0 < u64::from(known.count)).then(|| known.row(key.text()))
    }

    /// All submissions.
    pub fn rows(&self) -> impl Iterator<Item = KeyRow> {
        self.by_key.iter().map(|(key, known)| known.row(key.text()))
    }

    /// The first task of the submission that came last.
    pub fn newest(&self) -> Option<TaskId> {
        self.by_first.last_key_value().map(|(first, _)| *first)
    }

    pub fn remove(&mut self, row: &KeyRow) {
        self.by_key.remove(&Key::of(&row.key));
        self.by_first.remove(&row.first);
    }
}

fn uuid_text(bytes: &[u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (place, byte) in bytes.iter().enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
    }
    text
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
            assert_eq!(keys.of_task(TaskId(n as u64 + 1)), Some(row(n)));
        }
    }
}
