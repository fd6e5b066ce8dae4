//! One head process after another on the same state directory.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use orchestra_proto::client::{self, Credentials};
use rustix::process::{Pid, Signal, kill_process};
use tonic::transport::Channel;

/// How long a head may take to serve.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How often to look whether it does.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// How much of the log goes into a violation.
const LOG_TAIL_BYTES: usize = 1500;

/// Where a head keeps its state, and how to start one there.
#[derive(Clone, Debug)]
pub struct Site {
    /// The program.
    pub binary: PathBuf,
    /// Where it listens, as `IP:PORT`.
    pub listen: String,
    /// The state directory.
    pub state: PathBuf,
    /// The head's standard error goes here: outside the state, which may be full or gone.
    pub log: PathBuf,
    /// More environment, as `LD_PRELOAD`.
    pub env: Vec<(String, String)>,
}

/// A head process.
#[derive(Debug)]
pub struct Head {
    site: Site,
    child: Child,
}

impl Site {
    /// The same with leases that outlast every proof. The load's worker is away while what a head
    /// serves is compared, and on a busy machine that takes longer than a lease of 30 s: its attempts
    /// would rightly be run again.
    pub fn with_long_leases(self) -> anyhow::Result<Self> {
        fs::create_dir_all(&self.state).context("failed to make the state directory")?;
        let config = self.state.join("orchestra.yaml");
        fs::write(config, "queue: {lease: 24h}\n").context("failed to write the configuration")?;
        Ok(self)
    }

    /// Starts a head, without waiting until it serves.
    pub fn spawn(&self) -> anyhow::Result<Head> {
        let ready = self.ready_file();
        if ready.exists() {
            fs::remove_file(&ready).context("failed to remove the last head's announcement")?;
        }
        let log = File::create(&self.log).context("failed to make the log")?;
        let child = Command::new(&self.binary)
            .args(["--listen", &self.listen, "--state"])
            .arg(&self.state)
            .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
            .env_remove("RUST_LOG")
            .envs(self.env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("failed to start `{}`", self.binary.display()))?;
        Ok(Head {
            site: self.clone(),
            child,
        })
    }

    /// Starts a head and waits until it serves.
    pub fn start(&self) -> anyhow::Result<Head> {
        let mut head = self.spawn()?;
        head.wait_until_ready()?;
        Ok(head)
    }

    /// The end of the last head's log.
    pub fn log_tail(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let from = log.len().saturating_sub(LOG_TAIL_BYTES);
        String::from_utf8_lossy(&log[from..]).into_owned()
    }

    /// The last head's log.
    pub fn log_text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The stable id of the worker on this machine.
    pub fn worker_id(&self) -> anyhow::Result<String> {
        let id = fs::read_to_string(self.state.join("worker/id"));
        Ok(id.context("failed to read the worker's id")?.trim().into())
    }

    fn ready_file(&self) -> PathBuf {
        self.state.join("head/head.json")
    }

    async fn channel(&self, credentials: &Path) -> anyhow::Result<Channel> {
        let endpoint = fs::read_to_string(credentials.join("endpoint"))?;
        let credentials = Credentials::load(credentials)?;
        Ok(client::connect(&credentials, endpoint.trim()).await?)
    }

    /// A connection as `ctl` has it.
    pub async fn admin_channel(&self) -> anyhow::Result<Channel> {
        self.channel(&self.state.join("client")).await
    }

    /// A connection as the worker has it.
    pub async fn worker_channel(&self) -> anyhow::Result<Channel> {
        self.channel(&self.state.join("worker/pki")).await
    }
}

impl Head {
    /// Waits until it serves. Fails when it ends instead.
    pub fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let until = Instant::now() + READY_WITHIN;
        let ready = self.site.ready_file();
        while !ready.exists() {
            if let Some(status) = self.child.try_wait()? {
                bail!(
                    "the head ended while it started: {status}\n{}",
                    self.site.log_tail()
                );
            }
            if Instant::now() > until {
                bail!(
                    "the head did not serve within {READY_WITHIN:?}\n{}",
                    self.site.log_tail()
                );
            }
            thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// How it ended; none while it runs.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Asks it to stop, and waits until it has.
    pub fn stop(mut self) -> anyhow::Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).context("failed to stop the head")?;
        let status = self.child.wait().context("failed to wait for the head")?;
        ensure!(
            status.success(),
            "the head stopped with {status}\n{}",
            self.site.log_tail()
        );
        Ok(())
    }

    /// Sends it SIGKILL, without waiting for its end.
    pub fn kill_9(&mut self) -> anyhow::Result<()> {
        self.child.kill().context("failed to kill the head")
    }

    /// Kills it with SIGKILL and waits for its end. Says so when it had ended by itself.
    pub fn kill(mut self) -> anyhow::Result<()> {
        let ended = self.child.try_wait()?;
        self.child.kill().context("failed to kill the head")?;
        self.child.wait().context("failed to wait for the head")?;
        match ended {
            None => Ok(()),
            Some(status) => bail!(
                "the head ended by itself: {status}\n{}",
                self.site.log_tail()
            ),
        }
    }
}

impl Drop for Head {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
