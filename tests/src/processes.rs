//! Finds the processes that a cluster left behind: by a mark in their environment, by their
//! working directory, and by the cgroups that its attempts were seen in, for those that wash off
//! both.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::{Deadline, until};

/// The environment variable that marks every process of one cluster.
pub(crate) const MARK: &str = "ORCHESTRA_TEST_RUN";

/// Marks the processes of one cluster.
#[derive(Clone, Debug)]
pub struct Marker {
    name: String,
    home: PathBuf,
    cgroups: Arc<Mutex<BTreeSet<String>>>,
}

impl Marker {
    /// A marker for processes at home below `home`, named after that directory.
    #[must_use]
    pub fn new(home: PathBuf) -> Self {
        let name = home.file_name().unwrap_or(home.as_os_str());
        Self {
            name: format!("{}-{}", name.to_string_lossy(), std::process::id()),
            home,
            cgroups: Arc::default(),
        }
    }

    /// What a process is started with so that it, and what it starts, has this marker.
    #[must_use]
    pub fn environment(&self) -> [(&str, &str); 1] {
        [(MARK, &self.name)]
    }

    /// The variable's value.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The living processes with this marker, as `PID COMMAND LINE`.
    #[must_use]
    pub fn processes(&self) -> Vec<String> {
        self.pids()
            .into_iter()
            .map(|pid| format!("{pid} {}", command_line(pid)))
            .collect()
    }

    /// Keeps in mind in which cgroups of attempts its processes are now.
    pub(crate) fn note_cgroups(&self) {
        let found = self.pids().into_iter().filter_map(attempt_cgroup);
        self.cgroups.lock().expect("no holder panics").extend(found);
    }

    /// Fails unless all processes with this marker end soon; kills those that do not.
    pub fn expect_none(&self) -> anyhow::Result<()> {
        let gone = until("every process ended", Deadline::secs(15), || {
            Ok(self.pids().is_empty().then_some(()))
        });
        let left = self.processes();
        self.kill_all();
        gone.with_context(|| format!("left behind:\n{}", left.join("\n")))
    }

    /// Kills what has this marker.
    pub fn kill_all(&self) {
        for pid in self.pids() {
            // It may end between the look and the kill.
            drop(kill_9(pid));
        }
    }

    fn pids(&self) -> Vec<u32> {
        all_pids()
            .into_iter()
            .filter(|pid| self.owns(*pid))
            .collect()
    }

    fn owns(&self, pid: u32) -> bool {
        let root = PathBuf::from(format!("/proc/{pid}"));
        if pid == std::process::id() || is_zombie(pid) {
            return false;
        }
        let cgroups = self.cgroups.lock().expect("no holder panics").clone();
        if attempt_cgroup(pid).is_some_and(|cgroup| cgroups.contains(&cgroup)) {
            return true;
        }
        let mark = format!("{MARK}={}", self.name);
        let environment = fs::read(root.join("environ")).unwrap_or_default();
        environment
            .split(|b| *b == 0)
            .any(|entry| entry == mark.as_bytes())
            || fs::read_link(root.join("cwd")).is_ok_and(|cwd| cwd.starts_with(&self.home))
    }
}

/// What the tests of this run have started and what still lives of it, as `PID STATE PLACE COMMAND LINE`: its
/// children, and what has the mark of one of its clusters.
pub(crate) fn of_this_run() -> Vec<String> {
    pids_of_this_run()
        .into_iter()
        .map(|pid| {
            let place = fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
            format!("{pid} {} {place} {}", state(pid), command_line(pid))
        })
        .collect()
}

/// The processes that have a file open, other than this one.
#[must_use]
pub fn with_file(file: &Path) -> Vec<String> {
    let has = |pid: u32| {
        let fds = fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten();
        fds.flatten()
            .any(|fd| fs::read_link(fd.path()).is_ok_and(|open| open == file))
    };
    let others = all_pids()
        .into_iter()
        .filter(|pid| *pid != std::process::id());
    let found = others.filter(|pid| has(*pid));
    found
        .map(|pid| format!("{pid} {}", command_line(pid)))
        .collect()
}

/// Kills what [`of_this_run`] lists: at the end of a run only what a test that hangs has left.
pub(crate) fn kill_this_run() {
    for pid in pids_of_this_run() {
        // It may end between the look and the kill.
        drop(kill_9(pid));
    }
}

fn pids_of_this_run() -> Vec<u32> {
    let this = std::process::id();
    let (mark, ours) = (format!("{MARK}="), format!("-{this}"));
    all_pids()
        .into_iter()
        .filter(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let marked = environment.split(|b| *b == 0).any(|entry| {
                entry.starts_with(mark.as_bytes()) && entry.ends_with(ours.as_bytes())
            });
            *pid != this && (marked || parent(*pid) == Some(this))
        })
        .collect()
}

/// Whether a process with this id lives.
#[must_use]
pub fn alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists() && !is_zombie(pid)
}

/// Sends SIGTERM to one process.
pub fn terminate(pid: u32) -> anyhow::Result<()> {
    signal(pid, Signal::TERM)
}

/// Sends SIGKILL to one process.
pub fn kill_9(pid: u32) -> anyhow::Result<()> {
    signal(pid, Signal::KILL)
}

/// Stops one process where it is (SIGSTOP): it lives, and nothing is heard of it.
pub fn freeze(pid: u32) -> anyhow::Result<()> {
    signal(pid, Signal::STOP)
}

/// Lets one go on that was stopped so.
pub fn thaw(pid: u32) -> anyhow::Result<()> {
    signal(pid, Signal::CONT)
}

/// Tells a process that its terminal is gone.
pub fn hang_up(pid: u32) -> anyhow::Result<()> {
    signal(pid, Signal::HUP)
}

pub(crate) fn signal(pid: u32, signal: Signal) -> anyhow::Result<()> {
    ensure!(pid > 1, "{pid} is no process of a test");
    let pid = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .context("not a pid")?;
    kill_process(pid, signal).with_context(|| format!("failed to send {signal:?}"))
}

/// The cgroup (v2) of a process, if it is one that a worker made for an attempt.
fn attempt_cgroup(pid: u32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    path.contains("/orchestra-").then(|| path.to_owned())
}

fn all_pids() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .collect()
}

fn is_zombie(pid: u32) -> bool {
    state(pid) == "Z"
}

/// One letter; empty for a process that is gone.
fn state(pid: u32) -> String {
    field_of_stat(pid, 0).unwrap_or_default()
}

fn parent(pid: u32) -> Option<u32> {
    field_of_stat(pid, 1)?.parse().ok()
}

/// A field of `/proc/PID/stat`, counted from the one after the name.
fn field_of_stat(pid: u32, number: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(number).map(str::to_owned)
}

fn command_line(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).replace('\0', " ");
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_is_found_by_its_mark_and_by_where_it_works() {
        let home = tempfile::tempdir().unwrap();
        let marker = Marker::new(home.path().to_owned());
        let mut marked = Command::new("sleep")
            .arg("60")
            .env(MARK, marker.name())
            .spawn()
            .unwrap();
        let mut washed = Command::new("sleep")
            .arg("60")
            .current_dir(&home)
            .spawn()
            .unwrap();
        let mut other = Command::new("sleep").arg("60").spawn().unwrap();
        assert_eq!(marker.processes().len(), 2);
        marker.kill_all();
        assert!(!marked.wait().unwrap().success() && !washed.wait().unwrap().success());
        assert!(marker.processes().is_empty() && alive(other.id()));
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
