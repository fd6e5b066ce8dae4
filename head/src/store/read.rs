//! Reading rows: everything at the start, single ones later.

use std::{cell::RefCell, collections::BTreeMap};

use orchestra_core::{AttemptRow, FactsPool, KeyRow, OutcomeRow, Rows, TaskRow};
use orchestra_proto::{Refused, store::v1};
use orchestra_types::{AttemptId, TaskId, TaskSpec};
use prost::Message;

use super::{Error, Result, Store, decode, key, large};

impl Store {
    /// Reads what the core keeps in memory. Tasks that no submission's key covers are what a crash
    /// left of an unfinished submission: nobody was told of them, and they are removed.
    pub fn load(&mut self) -> Result<Rows> {
        let keys: Vec<KeyRow> = self.table(key::KEYS, decode::key)?;
        let mut rows = Rows {
            tasks: Vec::new(),
            workers: self.load_workers()?,
            keys,
        };
        let (tasks, unfinished) = self.load_tasks(&rows.keys)?;
        rows.tasks = tasks;
        self.remove_tasks(&unfinished)?;
        Ok(rows)
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

    fn load_tasks(&self, keys: &[KeyRow]) -> Result<(Vec<TaskRow>, Vec<TaskId>)> {
        let submissions: BTreeMap<u64, u64> =
            keys.iter().map(|key| (key.first.0, key.count)).collect();
        let covered = |id: TaskId| {
            let before = submissions.range(..=id.0).next_back();
            before.is_some_and(|(first, count)| id.0 - first < *count)
        };
        // What many tasks have in common takes memory once, from the first row on.
        let pool = RefCell::new(FactsPool::default());
        let rows: Vec<TaskRow> =
            self.table(key::TASKS, |row| decode::task(row, &mut pool.borrow_mut()))?;
        let (kept, unfinished): (Vec<_>, Vec<_>) = rows.into_iter().partition(|r| covered(r.id));
        Ok((kept, unfinished.into_iter().map(|row| row.id).collect()))
    }

    fn remove_tasks(&mut self, ids: &[TaskId]) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        tracing::warn!(
            tasks = ids.len(),
            "removing tasks of an unfinished submission"
        );
        for id in ids {
            let mut batch = sled::Batch::default();
            for table in [key::TASKS, key::SPECS, key::ATTEMPTS, key::OUTCOMES] {
                for found in self.tree.scan_prefix(key::of_task(table, *id)).keys() {
                    batch.remove(found.map_err(Error::Database)?);
                }
            }
            self.tree.apply_batch(batch).map_err(Error::Database)?;
        }
        self.sync()
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
        let rows = self.tree.scan_prefix(prefix);
        rows.map(|found| {
            let (key, value) = found.map_err(Error::Database)?;
            self.row(&key, &value, &read)
        })
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
        let found = self.tree.get(key).map_err(Error::Database)?;
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
        let message = large::message(key, value, &self.blobs)?;
        read(message).map_err(|refused| large::damaged(key, refused.to_string()))
    }
}
