//! Another machine, as far as one machine can be two: a network namespace with one cable to ours,
//! and a mount namespace in which the user's directories are empty.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU8, Ordering},
};

use anyhow::{Context, ensure};

use crate::{Deadline, Marker, processes::MARK, run, until};

/// Waits for the cable, hides what is not its own, and becomes the program.
const BOOT: &str = r#"
read -r hide
for dir in $hide; do mount -t tmpfs none "$dir"; done
ip link set lo up
ip addr add "$ADDRESS/24" dev cable
ip link set cable up
exec "$@"
"#;

static NETWORKS: AtomicU8 = AtomicU8::new(1);

/// The two ends of a cable that is not plugged in yet.
#[derive(Clone, Copy, Debug)]
pub struct Cable(u8);

impl Cable {
    /// A cable of its own.
    pub fn new() -> anyhow::Result<Self> {
        let number = NETWORKS.fetch_add(1, Ordering::Relaxed);
        ensure!(number < u8::MAX, "there are no more networks");
        Ok(Self(number))
    }

    /// Our end's address.
    #[must_use]
    pub fn here(self) -> String {
        format!("10.77.{}.1", self.0)
    }

    /// Unplugs our end.
    pub fn unplug(self) -> anyhow::Result<()> {
        ip(&["link", "set", &self.name(), "down"])
    }

    /// Plugs our end in again.
    pub fn plug(self) -> anyhow::Result<()> {
        ip(&["link", "set", &self.name(), "up"])
    }

    fn there(self) -> String {
        format!("10.77.{}.2", self.0)
    }

    pub(crate) fn name(self) -> String {
        format!("cable{}", self.0)
    }

    fn connect(self, pid: u32) -> anyhow::Result<()> {
        let pid = pid.to_string();
        ip(&[
            "link",
            "add",
            &self.name(),
            "type",
            "veth",
            "peer",
            "name",
            "cable",
            "netns",
            &pid,
        ])?;
        ip(&[
            "addr",
            "add",
            &format!("{}/24", self.here()),
            "dev",
            &self.name(),
        ])?;
        self.plug()
    }
}

/// A program that runs there.
#[derive(Debug)]
pub struct Neighbour {
    child: Child,
    log: PathBuf,
}

impl Neighbour {
    /// Runs `line` there, at home in `home`; the directories in `hidden` are empty there.
    pub fn start(
        cable: Cable,
        line: &[String],
        home: &Path,
        hidden: &[PathBuf],
        marker: &Marker,
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(home).context("failed to make a home")?;
        let log = home.join("log");
        let out = fs::File::create(&log).context("failed to create a log")?;
        let mut child = Command::new("unshare")
            .args(["--net", "--mount", "--", "sh", "-ec", BOOT, "sh"])
            .args(line)
            .current_dir(home)
            .env_clear()
            .env(
                "PATH",
                "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
            )
            .env("HOME", home)
            .env("ADDRESS", cable.there())
            .env(MARK, marker.name())
            .stdin(Stdio::piped())
            .stdout(out.try_clone().context("failed to share the log")?)
            .stderr(out)
            .spawn()
            .context("failed to start unshare")?;
        until("the neighbour has its own network", Deadline::SOON, || {
            own_network(child.id())
        })?;
        cable.connect(child.id())?;
        let hidden: Vec<_> = hidden.iter().map(|dir| dir.to_string_lossy()).collect();
        let mut stdin = child.stdin.take().expect("stdin is piped");
        writeln!(stdin, "{}", hidden.join(" ")).context("the neighbour did not boot")?;
        Ok(Self { child, log })
    }

    /// What it printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        // A worker that is killed is one of the things that a cluster must bear.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn own_network(pid: u32) -> anyhow::Result<Option<()>> {
    let theirs = fs::read_link(format!("/proc/{pid}/ns/net")).context("the neighbour is dead")?;
    Ok((theirs != fs::read_link("/proc/self/ns/net")?).then_some(()))
}

fn ip(args: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new("ip");
    command.args(args);
    run(command, b"")?.ok().map(drop)
}
