//! The part of the proof that has its own numbers of processes: a namespace in which they are few,
//! so that the number of a dead process comes again while its attempt is being ended.

use std::{
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};

use super::{INSIDE, attempts, stale};

/// How many numbers there are inside: enough for head, worker and 16 attempts.
const NUMBERS: u32 = 1200;
/// Enough for the control.
const NUMBERS_OF_CONTROL: u32 = 400;
/// The first kernel on which a namespace has a bound of its own: before, the machine's would change.
const OWN_BOUND_SINCE: (u32, u32) = (6, 14);
/// The first process inside takes the exits of orphans, as one of a machine does.
const FIRST: &str = "[ -z \"$0\" ] || echo \"$0\" > /proc/sys/kernel/pid_max || exit 1; \"$@\"";

/// How the processes of an attempt are to be held together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// In a cgroup.
    Cgroups,
    /// By descent: the worker sees no cgroups.
    NoCgroups,
    /// No worker at all: by process group, and by numbers that were seen before. It must fail.
    Control,
}

/// What is to be run inside.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Asked {
    /// How the worker holds attempts.
    pub mode: Mode,
    /// The head's program; the worker's is beside it.
    pub head: PathBuf,
    /// A directory of its own.
    pub dir: PathBuf,
    /// How many attempts.
    pub attempts: u64,
    /// Which of the kinds comes first.
    pub first: u64,
    /// Whether survivors of 100 ms count before the end is reported too.
    pub strict: bool,
}

/// What was found inside.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// How many attempts have ended.
    pub attempts: u64,
    /// What was broken, each with the number of its attempt.
    pub broken: Vec<(u64, String)>,
    /// How long something was alive after an attempt's first process, in milliseconds, sorted.
    pub outlived_ms: Vec<u64>,
    /// How often all processes were looked at.
    pub looks: u64,
    /// How many bystanders there were.
    pub bystanders: u64,
    /// How many of them had the number of a dead process of an attempt that had not ended.
    pub reused: u64,
    /// Attempts of the control of which something was alive after their process group was killed.
    pub survived: u64,
    /// Bystanders that the control killed by numbers it had seen before.
    pub hit: u64,
}

/// Runs it inside.
pub fn run_inside(asked: &Asked) -> anyhow::Result<Report> {
    let numbers = match asked.mode {
        _ if !has_own_bound() => String::new(),
        Mode::Cgroups | Mode::NoCgroups => NUMBERS.to_string(),
        Mode::Control => NUMBERS_OF_CONTROL.to_string(),
    };
    let output = Command::new("unshare")
        .args([
            "--pid",
            "--fork",
            "--mount-proc",
            "--kill-child=KILL",
            "sh",
            "-c",
            FIRST,
        ])
        .arg(numbers)
        .arg(std::env::current_exe()?)
        .arg(INSIDE)
        .arg(serde_json::to_string(asked)?)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("failed to run unshare")?;
    ensure!(
        output.status.success(),
        "inside of the namespace it ended with {}",
        output.status
    );
    serde_json::from_slice(&output.stdout).context("failed to read what was found inside")
}

/// Whether this kernel can make numbers few for us alone.
pub fn has_own_bound() -> bool {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    let mut parts = release.split(['.', '-']).map(str::parse::<u32>);
    let version = (parts.next(), parts.next());
    matches!(version, (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= OWN_BOUND_SINCE)
}

/// The program inside.
pub fn main(args: &[String]) -> ExitCode {
    let done = match args {
        [asked] => inside(asked),
        _ => Err(anyhow::anyhow!("unknown words")),
    };
    match done {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn inside(asked: &str) -> anyhow::Result<String> {
    let asked: Asked = serde_json::from_str(asked)?;
    if !asked.dir.is_dir() {
        bail!("there is no `{}`", asked.dir.display());
    }
    let report = match asked.mode {
        Mode::Cgroups | Mode::NoCgroups => attempts::run(&asked)?,
        Mode::Control => stale::run(&asked)?,
    };
    Ok(serde_json::to_string(&report)?)
}
