//! Keys: a table's letter, then big-endian numbers or a name, so that their order is the order of
//! scans.

use orchestra_core::Change;
use orchestra_types::{AccountName, AttemptId, ProjectId, ScheduleId, TaskId, WorkerId};

pub(super) const TASKS: u8 = b't';
pub(super) const SPECS: u8 = b's';
pub(super) const ATTEMPTS: u8 = b'a';
pub(super) const OUTCOMES: u8 = b'o';
pub(super) const WORKERS: u8 = b'w';
pub(super) const ACKED: u8 = b'r';
pub(super) const KEYS: u8 = b'k';
pub(super) const SCHEDULES: u8 = b'e';
pub(super) const IDS: u8 = b'i';
/// Up to which ids of recurring tasks were given.
pub(super) const SCHEDULE_IDS: &[u8] = b"ie";
/// What the store notes of itself.
pub(super) const META: u8 = b'm';
pub(super) const ACCOUNTS: u8 = b'c';
pub(super) const LEDGERS: u8 = b'l';
pub(super) const PROJECTS: u8 = b'p';
/// Where the format of the whole stands.
pub(super) const FORMAT: &[u8] = b"mformat";
/// Up to where the database has what the journal had.
pub(super) const JOURNAL: &[u8] = b"mjournal";

pub fn task(id: TaskId) -> Vec<u8> {
    of_task(TASKS, id)
}

pub fn spec(id: TaskId) -> Vec<u8> {
    of_task(SPECS, id)
}

pub fn attempt(id: AttemptId) -> Vec<u8> {
    of_attempt(ATTEMPTS, id)
}

pub fn outcome(id: AttemptId) -> Vec<u8> {
    of_attempt(OUTCOMES, id)
}

pub(super) fn worker(id: &WorkerId) -> Vec<u8> {
    named(WORKERS, id.as_str())
}

pub fn acked(id: &WorkerId) -> Vec<u8> {
    named(ACKED, id.as_str())
}

pub(super) fn account(name: &AccountName) -> Vec<u8> {
    named(ACCOUNTS, name.as_str())
}

pub(super) fn schedule(id: ScheduleId) -> Vec<u8> {
    let mut key = vec![SCHEDULES];
    key.extend(id.0.to_be_bytes());
    key
}

pub(super) fn ledger(id: TaskId) -> Vec<u8> {
    of_task(LEDGERS, id)
}

pub(super) fn project(id: &ProjectId) -> Vec<u8> {
    named(PROJECTS, id.as_str())
}

pub(super) fn submission(key: &str) -> Vec<u8> {
    named(KEYS, key)
}

/// The keys of the rows that a change writes or removes.
pub fn of_change(change: &Change) -> Vec<Vec<u8>> {
    match change {
        Change::Spec { id, .. } => vec![spec(*id)],
        Change::Task(row) => vec![task(row.id)],
        Change::Attempt(row) => vec![attempt(row.id)],
        Change::Outcome(row) => vec![outcome(row.id)],
        Change::ForgetOutcome { id } => vec![outcome(*id)],
        Change::Worker(row) => vec![worker(&row.info.id)],
        Change::Acked { worker, .. } => vec![acked(worker)],
        Change::Account(row) => vec![account(&row.name)],
        Change::Ledger(row) => vec![ledger(row.task)],
        Change::Project(row) => vec![project(&row.id)],
        Change::Key(row) => vec![submission(&row.key)],
        Change::Schedule(row) => vec![schedule(row.id)],
        Change::ForgetSchedule { id } => vec![schedule(*id)],
        Change::ScheduleIds { .. } => vec![SCHEDULE_IDS.to_vec()],
        Change::ForgetTask { id, attempts } => of_forgotten(*id, *attempts).collect(),
        Change::ForgetKey { key } => vec![submission(key)],
        Change::ForgetWorker { id } => vec![worker(id), acked(id)],
    }
}

/// The keys of all rows of a task.
pub(super) fn of_forgotten(id: TaskId, attempts: u32) -> impl Iterator<Item = Vec<u8>> {
    let of_attempts = (1..=attempts).flat_map(move |number| {
        let id = AttemptId { task: id, number };
        [attempt(id), outcome(id)]
    });
    [task(id), spec(id), ledger(id)]
        .into_iter()
        .chain(of_attempts)
}

/// The task whose row this is; none for rows of no task.
pub fn task_of(key: &[u8]) -> Option<TaskId> {
    let (table, rest) = key.split_first()?;
    if !matches!(*table, TASKS | SPECS | ATTEMPTS | OUTCOMES) {
        return None;
    }
    let number: [u8; 8] = rest.get(..8)?.try_into().ok()?;
    Some(TaskId(u64::from_be_bytes(number)))
}

/// The task or the name in a key of a table.
pub(super) fn parse_name(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key.get(1..)?).ok()
}

/// The number of the task in a key of `SPECS`.
pub(super) fn parse_task(key: &[u8]) -> Option<TaskId> {
    let number: [u8; 8] = key.get(1..)?.try_into().ok()?;
    Some(TaskId(u64::from_be_bytes(number)))
}

/// The prefix of all rows of a task in `table`.
pub(super) fn of_task(table: u8, id: TaskId) -> Vec<u8> {
    let mut key = vec![table];
    key.extend(id.0.to_be_bytes());
    key
}

/// A key in words, for messages: `row t:000000000000002a (task_042)`.
pub(super) fn show(key: &[u8]) -> String {
    let (table, rest) = key.split_at(key.len().min(1));
    let table = String::from_utf8_lossy(table);
    match (task_of(key), std::str::from_utf8(rest)) {
        (None, Ok(name)) if name.chars().all(|c| c.is_ascii_graphic()) && !name.is_empty() => {
            format!("row {table}:{name}")
        }
        (task, _) => {
            let hex: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
            let task = task.map(|id| format!(" ({id})")).unwrap_or_default();
            format!("row {table}:{hex}{task}")
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
