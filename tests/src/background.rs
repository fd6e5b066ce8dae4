//! A `ctl` that goes on while the test does something else. Nothing here waits without end.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    time::Instant,
};

use anyhow::Context;
use rustix::process::Signal;

use crate::{Deadline, Output, command::line_of, processes::signal, until};

/// A command at work. It is killed when this is dropped.
#[derive(Debug)]
pub struct Background {
    line: String,
    child: Child,
    out: PathBuf,
    err: PathBuf,
    started: Instant,
}

impl Background {
    /// Starts `command`, with the standard input that it was given; what it prints goes to files in `dir`.
    pub fn start(mut command: Command, dir: &Path) -> anyhow::Result<Self> {
        let line = line_of(&command);
        let name = tempfile::Builder::new().prefix("said-").tempfile_in(dir);
        let (_, out) = name.context("failed to make a file")?.keep()?;
        let err = out.with_extension("err");
        let started = Instant::now();
        let child = command
            .stdout(File::create(&out)?)
            .stderr(File::create(&err)?)
            .spawn()
            .with_context(|| format!("failed to start `{line}`"))?;
        Ok(Self {
            line,
            child,
            out,
            err,
            started,
        })
    }

    /// Its command line.
    #[must_use]
    pub fn line(&self) -> &str {
        &self.line
    }

    /// Its process number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it printed so far.
    pub fn stdout(&self) -> anyhow::Result<String> {
        fs::read_to_string(&self.out).context("failed to read what it printed")
    }

    /// What it said on standard error so far.
    pub fn stderr(&self) -> anyhow::Result<String> {
        fs::read_to_string(&self.err).context("failed to read what it said")
    }

    /// Waits until it has said `words` on standard error.
    pub fn says(&self, words: &str) -> anyhow::Result<()> {
        until(
            &format!("`{}` says {words:?}", self.line),
            Deadline::SOON,
            || Ok(self.stderr()?.contains(words).then_some(())),
        )
    }

    /// Waits until it has printed `text`.
    pub fn prints(&self, text: &str) -> anyhow::Result<()> {
        until(
            &format!("`{}` prints {text:?}", self.line),
            Deadline::SOON,
            || Ok(self.stdout()?.contains(text).then_some(())),
        )
    }

    /// Whether it has ended, and how.
    pub fn try_wait(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.child
            .try_wait()
            .context("failed to wait for a command")
    }

    /// Waits until Ctrl-C does not simply end it.
    pub fn hears_interrupts(&self) -> anyhow::Result<()> {
        const SIGINT: u64 = 1 << 1;
        until("it hears of Ctrl-C", Deadline::SOON, || {
            let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
            let caught = u64::from_str_radix(caught.unwrap_or_default().trim(), 16)?;
            Ok((caught & SIGINT != 0).then_some(()))
        })
    }

    /// Ctrl-C.
    pub fn interrupt(&self) -> anyhow::Result<()> {
        signal(self.child.id(), Signal::INT)
    }

    /// What `timeout` and service managers send.
    pub fn terminate(&self) -> anyhow::Result<()> {
        signal(self.child.id(), Signal::TERM)
    }

    /// Kills it, and waits until it is dead.
    pub fn kill(mut self) -> anyhow::Result<Output> {
        self.child.kill().context("failed to kill a command")?;
        self.end()
    }

    /// Waits for its end; gives what it said.
    pub fn end(&mut self) -> anyhow::Result<Output> {
        let ended = until(&format!("`{}` ends", self.line), Deadline::secs(60), || {
            Ok(self.child.try_wait()?)
        });
        let (stdout, stderr) = (self.stdout()?, self.stderr()?);
        let code = ended
            .with_context(|| format!("it said\n{stdout}\n{stderr}"))?
            .code();
        Ok(Output {
            line: self.line.clone(),
            code,
            stdout,
            stderr,
            took: self.started.elapsed(),
        })
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // One that has ended is no failure.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
