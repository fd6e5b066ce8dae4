//! What was asked and answered, for tests to look at.

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::{self, Write},
    path::Path,
};

use serde::Serialize;
use serde_json::Value;

use crate::conversation::Api;

/// How many requests are kept in memory; a file keeps all.
const KEPT: usize = 512;

/// One request and what was answered.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// Counts from 1.
    pub number: u64,
    /// The path.
    pub path: String,
    /// The wire format.
    pub api: Api,
    /// The model that it names.
    pub model: String,
    /// Whether it wants a stream.
    pub stream: bool,
    /// The latest prompt.
    pub prompt: String,
    /// The system prompt.
    pub system: String,
    /// Tool results since the latest prompt.
    pub results: usize,
    /// The names of the offered tools.
    pub tools: Vec<String>,
    /// The working directory that it names.
    pub cwd: Option<String>,
    /// The rule that answered.
    pub rule: String,
    /// The tools that the answer calls.
    pub calls: Vec<String>,
    /// The text that the answer says.
    pub said: Option<String>,
    /// The trouble made; empty for none.
    pub trouble: String,
    /// The request itself.
    pub body: Value,
}

/// Keeps records.
#[derive(Debug, Default)]
pub struct Recorder {
    count: u64,
    latest: VecDeque<Record>,
    file: Option<File>,
}

impl Recorder {
    /// A recorder that also appends JSON lines to `file`.
    pub fn open(file: Option<&Path>) -> io::Result<Self> {
        let open = |path: &Path| OpenOptions::new().create(true).append(true).open(path);
        Ok(Self {
            file: file.map(open).transpose()?,
            ..Self::default()
        })
    }

    /// Keeps a record and numbers it.
    pub fn keep(&mut self, mut record: Record) -> io::Result<()> {
        self.count += 1;
        record.number = self.count;
        if let Some(file) = &mut self.file {
            let mut line = serde_json::to_vec(&record)?;
            line.push(b'\n');
            file.write_all(&line)?;
        }
        if self.latest.len() == KEPT {
            self.latest.pop_front();
        }
        self.latest.push_back(record);
        Ok(())
    }

    /// The latest records, oldest first.
    pub fn latest(&self) -> Vec<Record> {
        self.latest.iter().cloned().collect()
    }
}
