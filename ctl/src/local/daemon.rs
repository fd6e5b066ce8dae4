//! Starts the head and the local worker as processes of this same program, and waits until they
//! serve.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{Read, Seek, SeekFrom},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use orchestra_config::{StateDir, signals};

use crate::{
    error::{Error, OrFailed, Result},
    exit::Exit,
};

/// How long a start may take: sled waits up to 10 s for the lock of a head that was killed.
pub const START_LIMIT: Duration = Duration::from_secs(60);
/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How much of a log's end is shown when a start fails.
const TAIL_BYTES: u64 = 16 * 1024;
/// How many lines of it.
const TAIL_LINES: usize = 12;

/// Which of the two processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The head.
    Head,
    /// The local worker.
    Worker,
}

impl Role {
    /// Its hidden subcommand, which is also its word for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Worker => "worker",
        }
    }

    /// Its directory.
    pub fn dir(self, state: &StateDir) -> PathBuf {
        match self {
            Self::Head => state.head(),
            Self::Worker => state.worker(),
        }
    }

    /// Its log.
    pub fn log(self, state: &StateDir) -> PathBuf {
        match self {
            Self::Head => state.head_log(),
            Self::Worker => state.worker_log(),
        }
    }
}

/// A process that is being started.
#[derive(Debug)]
pub struct Starting {
    role: Role,
    child: Child,
    log: PathBuf,
    /// Where this start's part of the log begins.
    log_from: u64,
}

impl Starting {
    /// Starts `ctl head` or `ctl worker` with `args`, in a session of its own, its output going to
    /// its log. It has no other file of whoever runs this: a lock that a script holds ends with the script.
    pub fn spawn(role: Role, state: &StateDir, args: Vec<OsString>) -> Result<Self> {
        make_private_dir(&role.dir(state))?;
        let log = role.log(state);
        let failed = || format!("failed to start the {}", role.as_str());
        let file = open_log(&log)?;
        let log_from = file.metadata().or_failed(failed)?.len();
        orchestra_worker::process::inherit_nothing().or_failed(failed)?;
        signals::usual_for_children().or_failed(failed)?;
        let child = Command::new(std::env::current_exe().or_failed(failed)?)
            .arg(role.as_str())
            .arg("--own-session")
            .arg("--state")
            .arg(state.path())
            .args(args)
            .current_dir(state.path())
            .stdin(Stdio::null())
            .stdout(file.try_clone().or_failed(failed)?)
            .stderr(file)
            .spawn()
            .or_failed(failed)?;
        Ok(Self {
            role,
            child,
            log,
            log_from,
        })
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `ready` gives something. Fails when the process ends first or takes too long,
    /// and shows the end of its log.
    pub async fn until<T>(
        &mut self,
        mut ready: impl AsyncFnMut(u32) -> Result<Option<T>>,
    ) -> Result<T> {
        let deadline = tokio::time::Instant::now() + START_LIMIT;
        loop {
            let ended = self
                .child
                .try_wait()
                .or_failed(|| self.what("failed to start"))?;
            if let Some(status) = ended {
                return Err(self.failure(&format!("it ended ({status})")));
            }
            match ready(self.pid()).await {
                Ok(Some(value)) => return Ok(value),
                Ok(None) => {}
                // It may not accept connections yet.
                Err(e) if e.exit() == Exit::HeadNotRunning => {}
                Err(e) => return Err(e),
            }
            if tokio::time::Instant::now() > deadline {
                return Err(self.failure(&format!(
                    "it was not ready after {} s",
                    START_LIMIT.as_secs()
                )));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Ends it after a start that failed.
    pub fn abandon(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn what(&self, verb: &str) -> String {
        format!("{verb} the {}", self.role.as_str())
    }

    fn failure(&self, why: &str) -> Error {
        let mut message = format!("{}: {why}", self.what("failed to start"));
        let tail = tail(&self.log, self.log_from);
        if !tail.is_empty() {
            message.push_str(&format!("; the end of its log:\n{tail}"));
        }
        Error::failed(message).hint(format!("the whole log is `{}`", self.log.display()))
    }
}

/// Makes a directory that only its owner may enter.
pub fn make_private_dir(path: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .or_failed(|| format!("failed to create `{}`", path.display()))
}

fn open_log(path: &Path) -> Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .or_failed(|| format!("failed to open `{}`", path.display()))
}

/// The last lines of the log at `path` that were written after byte `from`.
fn tail(path: &Path, from: u64) -> String {
    let mut text = Vec::new();
    let read = File::open(path).and_then(|mut file| {
        let end = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(from.max(end.saturating_sub(TAIL_BYTES))))?;
        file.take(TAIL_BYTES).read_to_end(&mut text)
    });
    if read.is_err() {
        return String::new();
    }
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(TAIL_LINES);
    lines[from..]
        .iter()
        .map(|line| format!("  {line}\n"))
        .collect::<String>()
        .trim_end()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_of_a_log_holds_only_this_starts_last_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("head.log");
        fs::write(&path, "old\n").unwrap();
        let new: String = (0..40).map(|n| format!("line {n}\n")).collect();
        fs::write(&path, format!("old\n{new}")).unwrap();
        let shown = tail(&path, 4);
        assert!(
            shown.starts_with("  line 28\n") && shown.ends_with("  line 39"),
            "{shown}"
        );
        assert_eq!(tail(&dir.path().join("none"), 0), "");
    }
}
