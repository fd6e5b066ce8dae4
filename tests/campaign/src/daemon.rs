//! A built worker as a process, and what it had reached when it was killed.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use anyhow::{Context, ensure};
use orchestra_tests::Marker;

use crate::agents::PROGRAMS;

/// Where a worker keeps its state, and how to start one there.
#[derive(Clone, Debug)]
pub struct Post {
    binary: PathBuf,
    state: PathBuf,
    log: PathBuf,
    marker: Marker,
}

/// A worker process.
#[derive(Debug)]
pub struct Daemon(Child);

impl Post {
    /// A post on `state`, with the worker that lies beside `head`.
    pub fn new(head: &Path, state: &Path, marker: &Marker) -> anyhow::Result<Self> {
        let binary = head.with_file_name("orchestra-worker");
        ensure!(
            binary.exists(),
            "there is no `{}`; build it with `cargo build -p orchestra-worker` and the same profile",
            binary.display()
        );
        Ok(Self {
            binary,
            state: state.to_owned(),
            log: state.with_extension("worker.log"),
            marker: marker.clone(),
        })
    }

    /// Starts a worker, without waiting for anything.
    pub fn start(&self) -> anyhow::Result<Daemon> {
        self.start_with(&[])
    }

    /// The same, with more environment, as `LD_PRELOAD`.
    pub fn start_with(&self, env: &[(String, String)]) -> anyhow::Result<Daemon> {
        let log = File::options().create(true).append(true).open(&self.log);
        let child = Command::new(&self.binary)
            .arg("--state")
            .arg(&self.state)
            .current_dir(&self.state)
            .env_clear()
            .env("PATH", PROGRAMS)
            .env("HOME", &self.state)
            .envs(self.marker.environment())
            .envs(env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.context("failed to open the worker's log")?)
            .spawn()
            .with_context(|| format!("failed to start `{}`", self.binary.display()))?;
        Ok(Daemon(child))
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let from = log.len().saturating_sub(3000);
        String::from_utf8_lossy(&log[from..]).into_owned()
    }

    /// How many attempts are in which phase, as their records say.
    pub fn phases(&self) -> BTreeMap<String, u64> {
        let mut phases = BTreeMap::new();
        let entries = fs::read_dir(self.state.join("worker/attempts"));
        for entry in entries.into_iter().flatten().flatten() {
            let record = fs::read(entry.path().join("attempt.json")).unwrap_or_default();
            // The last line that is one counts.
            let mut lines = record.rsplit(|b| *b == b'\n');
            let record = lines.find_map(|line| serde_json::from_slice(line).ok());
            let record: serde_json::Value = record.unwrap_or_default();
            let phase = record["phase"].as_str().unwrap_or("ordered").to_owned();
            *phases.entry(phase).or_default() += 1;
        }
        phases
    }
}

impl Daemon {
    /// The process.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// How it ended by itself, if it has.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.0.try_wait().context("failed to look at the worker")
    }

    /// Kills it with SIGKILL and waits for its end. Says so when it had ended by itself.
    pub fn kill(mut self, post: &Post) -> anyhow::Result<()> {
        let ended = self.0.try_wait()?;
        self.0.kill().context("failed to kill the worker")?;
        self.0.wait().context("failed to wait for the worker")?;
        ensure!(
            ended.is_none(),
            "the worker ended by itself\n{}",
            post.log_tail()
        );
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
