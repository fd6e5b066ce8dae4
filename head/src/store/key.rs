//! Keys: a table's letter, then big-endian numbers or a name, so that their order is the order of
//! scans.

use orchestra_types::{AttemptId, TaskId, WorkerId};

pub(super) const TASKS: u8 = b't';
pub(super) const SPECS: u8 = b's';
pub(super) const ATTEMPTS: u8 = b'a';
pub(super) const OUTCOMES: u8 = b'o';
pub(super) const WORKERS: u8 = b'w';
pub(super) const ACKED: u8 = b'r';
pub(super) const KEYS: u8 = b'k';
/// Where the format of the whole stands.
pub(super) const FORMAT: &[u8] = b"mformat";

pub(super) fn task(id: TaskId) -> Vec<u8> {
    of_task(TASKS, id)
}

pub(super) fn spec(id: TaskId) -> Vec<u8> {
    of_task(SPECS, id)
}

pub(super) fn attempt(id: AttemptId) -> Vec<u8> {
    of_attempt(ATTEMPTS, id)
}

pub(super) fn outcome(id: AttemptId) -> Vec<u8> {
    of_attempt(OUTCOMES, id)
}

pub(super) fn worker(id: &WorkerId) -> Vec<u8> {
    named(WORKERS, id.as_str())
}

pub(super) fn acked(id: &WorkerId) -> Vec<u8> {
    named(ACKED, id.as_str())
}

pub(super) fn submission(key: &str) -> Vec<u8> {
    named(KEYS, key)
}

/// The prefix of all rows of a task in `table`.
pub(super) fn of_task(table: u8, id: TaskId) -> Vec<u8> {
    let mut key = vec![table];
    key.extend(id.0.to_be_bytes());
    key
}

/// A key in words, for messages: `t:000000000000002a`.
pub(super) fn show(key: &[u8]) -> String {
    let (table, rest) = key.split_at(key.len().min(1));
    let table = String::from_utf8_lossy(table);
    match std::str::from_utf8(rest) {
        Ok(name) if name.chars().all(|c| c.is_ascii_graphic()) && !name.is_empty() => {
            format!("row {table}:{name}")
        }
        _ => {
            let hex: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("row {table}:{hex}")
        }
    }
}

fn of_attempt(table: u8, id: AttemptId) -> Vec<u8> {
    let mut key = of_task(table, id.task);
    key.extend(id.number.to_be_bytes());
    key
}

fn named(table: u8, name: &str) -> Vec<u8> {
    let mut key = vec![table];
    key.extend(name.as_bytes());
    key
}
