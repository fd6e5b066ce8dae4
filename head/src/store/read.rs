//! Reading rows: everything at the start, single ones later.

use std::sync::mpsc;

use orchestra_core::{AttemptRow, FactsPool, OutcomeRow, Rows, TaskRow};
use orchestra_proto::{Refused, store::v1};
use orchestra_types::{AttemptId, TaskId, TaskSpec};
use prost::Message;

use super::{Result, Store, decode, key, large, rows::Stored};
use crate::blobs::Blobs;

/// Rows that go from one thread to the other together.
const BATCH_ROWS: usize = 1024;
/// Batches that wait at most.
const BATCHES: usize = 4;

impl Store {
    /// Reads what the core keeps in memory.
    pub fn load(&self) -> Result<Rows> {
        Ok(Rows {
            tasks: self.load_tasks()?,
            workers: self.load_workers()?,
            accounts: self.table(key::ACCOUNTS, decode::account)?,
            ledgers: self.table(key::LEDGERS, decode::ledger)?,
            projects: self.table(key::PROJECTS, decode::project)?,
            keys: self.table(key::KEYS, decode::key)?,
            schedules: self.table(key::SCHEDULES, decode::schedule)?,
            schedule_ids: self.get(key::SCHEDULE_IDS, decode::schedule_ids)?,
        })
    }

    /// A task's specification.
    pub fn spec(&self, id: TaskId) -> Result<Option<TaskSpec>> {
        self.get(&key::spec(id), decode::spec)
    }

    /// An attempt.
    pub fn attempt(&self, id: AttemptId) -> Result<Option<AttemptRow>> {
        self.get(&key::attempt(id), decode::attempt)
    }

    /// All attempts of a task, oldest first.
    pub fn attempts(&self, id: TaskId) -> Result<Vec<AttemptRow>> {
        self.scan(&key::of_task(key::ATTEMPTS, id), decode::attempt)
    }

    /// The end of an attempt.
    pub fn outcome(&self, id: AttemptId) -> Result<Option<OutcomeRow>> {
        self.get(&key::outcome(id), decode::outcome)
    }

    fn load_workers(&self) -> Result<Vec<(orchestra_core::WorkerRow, u64)>> {
        let rows = self.table(key::WORKERS, decode::worker)?;
        let with_acked = rows.into_iter().map(|row| {
            let acked = self.get(&key::acked(&row.info.id), |row: v1::AckedRow| Ok(row.up_to))?;
            Ok((row, acked.unwrap_or(0)))
        });
        with_acked.collect()
    }

    /// Reading the rows and making sense of them take about as long: each has a thread.
    fn load_tasks(&self) -> Result<Vec<TaskRow>> {
        let (full, batches) = mpsc::sync_channel(BATCHES);
        let blobs = &self.blobs;
        std::thread::scope(|scope| {
            let decoding = scope.spawn(move || decode_tasks(&batches, blobs));
            let read = self.send_tasks(&full);
            drop(full);
            let decoded = decoding.join();
            let decoded = decoded.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            read.and(decoded)
        })
    }

    /// Sends all rows of tasks in batches, as long as somebody takes them.
    fn send_tasks(&self, full: &mpsc::SyncSender<Vec<Stored>>) -> Result<()> {
        let prefix = [key::TASKS];
        let mut batch = Vec::with_capacity(BATCH_ROWS);
        for found in self.merged(&prefix) {
            let row = found?;
            if !row.key.starts_with(&prefix) {
                break;
            }
            batch.push(row);
            if batch.len() == BATCH_ROWS {
                let next = Vec::with_capacity(BATCH_ROWS);
                if full.send(std::mem::replace(&mut batch, next)).is_err() {
                    return Ok(());
                }
            }
        }
        // Who takes no more has found an error, and says so.
        let _ = full.send(batch);
        Ok(())
    }

    fn table<M, T>(
        &self,
        table: u8,
        read: impl Fn(M) -> std::result::Result<T, Refused>,
    ) -> Result<Vec<T>>
    where
        M: Message + Default,
    {
        self.scan(&[table], read)
    }

    fn scan<M, T>(
        &self,
        prefix: &[u8],
        read: impl Fn(M) -> std::result::Result<T, Refused>,
    ) -> Result<Vec<T>>
    where
        M: Message + Default,
    {
        let rows = self.merged(prefix);
        let of_table = rows.take_while(|found| match found {
            Ok(row) => row.key.starts_with(prefix),
            Err(_) => true,
        });
        of_table
            .map(|found| found.and_then(|row| self.row(&row.key, &row.value, &read)))
            .collect()
    }

    fn get<M, T>(
        &self,
        key: &[u8],
        read: impl Fn(M) -> std::result::Result<T, Refused>,
    ) -> Result<Option<T>>
    where
        M: Message + Default,
    {
        let found = self.value(key)?;
        found.map(|value| self.row(key, &value, read)).transpose()
    }

    fn row<M, T>(
        &self,
        key: &[u8],
        value: &[u8],
        read: impl Fn(M) -> std::result::Result<T, Refused>,
    ) -> Result<T>
    where
        M: Message + Default,
    {
        row(key, value, &self.blobs, read)
    }
}

fn decode_tasks(batches: &mpsc::Receiver<Vec<Stored>>, blobs: &Blobs) -> Result<Vec<TaskRow>> {
    // What many tasks have in common takes memory once, from the first row on.
    let mut pool = FactsPool::default();
    let mut tasks = Vec::new();
    for stored in batches.iter().flatten() {
        let read = |wire| decode::task(wire, &mut pool);
        tasks.push(row(&stored.key, &stored.value, blobs, read)?);
    }
    Ok(tasks)
}

fn row<M, T>(
    key: &[u8],
    value: &[u8],
    blobs: &Blobs,
    read: impl FnOnce(M) -> std::result::Result<T, Refused>,
) -> Result<T>
where
    M: Message + Default,
{
    let message = large::message(key, value, blobs)?;
    read(message).map_err(|refused| large::damaged(key, refused.to_string()))
}
