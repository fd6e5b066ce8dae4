//! The real worker process, in a state directory of its own.

use std::{
    fs::File,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Child, Command, ExitStatus},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{FakeHead, wait_for};

/// How many files the worker's shell may have open.
pub const OPEN_FILES: u32 = 500;

pub struct Worker {
    state: tempfile::TempDir,
    child: Child,
}

impl Worker {
    pub fn start(head: &FakeHead) -> Self {
        Self::start_with(head, "")
    }

    /// A worker with a configuration.
    pub fn start_with(head: &FakeHead, config: &str) -> Self {
        let state = tempfile::tempdir().unwrap();
        let pki = state.path().join("worker/pki");
        head.pki.worker.save(&pki).unwrap();
        std::fs::write(pki.join("endpoint"), head.address.to_string()).unwrap();
        if !config.is_empty() {
            std::fs::write(state.path().join("orchestra.yaml"), config).unwrap();
        }
        let child = spawn(state.path());
        Self { state, child }
    }

    /// A worker process on a copy of this one's state.
    pub fn start_copy(&self) -> Self {
        let state = tempfile::tempdir().unwrap();
        // Sockets cannot be copied, and no copy of a disk has anybody behind them.
        let copied = Command::new("sh")
            .args([
                "-c",
                "tar -C \"$0\" -c worker 2>/dev/null | tar -C \"$1\" -x",
            ])
            .args([self.state.path(), state.path()])
            .status();
        assert!(copied.unwrap().success());
        let child = spawn(state.path());
        Self { state, child }
    }

    /// Another worker process on the same state.
    pub fn start_again(&mut self) {
        self.child = spawn(self.state.path());
    }

    /// Ends the process at once, as a crash would.
    pub fn crash(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks the process to stop, and waits.
    pub async fn stop(&mut self) -> ExitStatus {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).unwrap();
        self.ended().await
    }

    /// Waits until the process has ended.
    pub async fn ended(&mut self) -> ExitStatus {
        let child = std::cell::RefCell::new(&mut self.child);
        let ended = || child.borrow_mut().try_wait().unwrap();
        wait_for("the worker's end", ended, || "it still runs".to_owned()).await
    }

    /// The directories of attempts.
    pub fn attempts(&self) -> Vec<PathBuf> {
        let dirs = ["worker/attempts", "worker/workspaces"];
        let entries = dirs.map(|dir| std::fs::read_dir(self.state.path().join(dir)));
        let entries = entries.into_iter().flatten().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// A file of the worker's own.
    pub fn file(&self, name: &str) -> PathBuf {
        self.state.path().join("worker").join(name)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.state.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let ended = self
            .child
            .try_wait()
            .unwrap()
            .unwrap_or(ExitStatus::from_raw(1));
        if std::thread::panicking() {
            eprintln!("the worker ({ended}) said:\n{}", self.log());
        }
        // It may have ended already.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

fn spawn(state: &std::path::Path) -> Child {
    let log = File::options()
        .create(true)
        .append(true)
        .open(state.join("log"))
        .unwrap();
    Command::new("sh")
        .args([
            "-c",
            &format!("ulimit -Sn {OPEN_FILES} && exec \"$0\" \"$@\""),
        ])
        .arg(env!("CARGO_BIN_EXE_orchestra-worker"))
        .arg("--state")
        .arg(state)
        .env("PATH", "/usr/bin:/bin")
        .env("RUST_LOG", "info,orchestra_worker=debug")
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}
