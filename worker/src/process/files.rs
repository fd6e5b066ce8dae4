//! The files in an attempt's directory, and what stands in them.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use orchestra_config::durable;
use orchestra_types::{Exit, Timestamp, time};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    cage::KillMethod,
    identity::Identity,
    insist::Silence,
    limits::{Limits, Met},
};

pub(super) const SPAWN: &str = "spawn.json";
pub(super) const STDIN: &str = "stdin";
pub(super) const STDOUT: &str = "stdout.log";
pub(super) const STDERR: &str = "stderr.log";
pub(super) const RUNNING: &str = "running.json";
pub(super) const SOCKET: &str = "control.sock";
pub(super) const EXIT: &str = "exit.json";
pub(super) const SUPERVISOR_LOG: &str = "supervisor.log";

/// Most bytes of one stream that are kept when nobody says: 1 GiB, and its last lines. What comes
/// between is read and dropped, so that the CLI goes on, and a line in the log says so.
pub const LOG_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spawn {
    /// The attempt's directory: it exists, is ours, and nobody else may look into it.
    pub dir: PathBuf,
    /// The program; looked up on the PATH of `env` when it is a bare name.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its whole environment: nothing is inherited.
    pub env: BTreeMap<String, String>,
    /// Its working directory.
    pub cwd: PathBuf,
    /// What it is given on standard input at once.
    pub stdin: Vec<u8>,
    /// Whether standard input stays open after that.
    pub keep_stdin: bool,
    /// What it may use.
    pub limits: Limits,
    /// Most bytes of each of its streams that are kept, beside the last ones.
    pub log_bytes_max: u64,
    /// Files of which one may be removed when the disk has no room for its end.
    pub ballast: PathBuf,
}

/// What stands in `spawn.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SpawnFile {
    pub program: OsString,
    pub args: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub cwd: OsString,
    pub keep_stdin: bool,
    pub log_bytes_max: u64,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub ballast: OsString,
}

impl Spawn {
    /// Puts everything where the supervisor finds it.
    pub(super) fn write(&self) -> io::Result<()> {
        if !self.stdin.is_empty() {
            write_private(&self.dir.join(STDIN), &self.stdin)?;
        }
        let file = SpawnFile {
            program: self.program.clone().into(),
            args: self.args.clone(),
            env: self.env.clone(),
            cwd: self.cwd.clone().into(),
            keep_stdin: self.keep_stdin,
            log_bytes_max: self.log_bytes_max,
            limits: self.limits,
            ballast: self.ballast.clone().into(),
        };
        write_private(&self.dir.join(SPAWN), &serde_json::to_vec(&file)?)
    }
}

/// Who runs an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Running {
    pub supervisor: Identity,
    /// Who ends what the supervisor leaves when it is killed, where there is no cgroup.
    #[serde(default)]
    pub keeper: Option<Identity>,
    /// Whether what it starts has its mark in the environment; not that of an earlier version.
    #[serde(default)]
    pub marked: bool,
    /// None until the CLI was started.
    pub cli: Option<Identity>,
    /// The attempt's cgroup, where it has one.
    pub cgroup: Option<OsString>,
    /// More directories that are taken down with it.
    #[serde(default)]
    pub bounds: Vec<PathBuf>,
    pub started_at: Timestamp,
}

#[cfg(test)]
impl Running {
    /// What a supervisor writes before it starts the CLI.
    pub fn begun_by(supervisor: Identity) -> Self {
        Self {
            supervisor,
            keeper: None,
            marked: true,
            cli: None,
            cgroup: None,
            bounds: Vec::new(),
            started_at: now(),
        }
    }
}

/// What became of one stream of output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamRecord {
    /// Bytes in the log.
    pub kept: u64,
    /// Bytes that were not kept, because the log was full or the disk was.
    pub dropped: u64,
    /// Whether the disk refused some of it, for want of room, before it took it or it was dropped.
    #[serde(default)]
    pub disk_full: bool,
}

/// How the process of an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// How the CLI's own process ended.
    pub exit: Exit,
    /// When it was started, by this machine's clock.
    pub started_at: Timestamp,
    /// When the CLI's own process had ended.
    pub ended_at: Timestamp,
    /// The same in time since the machine's start, for somebody may have set its clock; none where an
    /// earlier version wrote this, or nobody saw that end.
    #[serde(default)]
    pub ended_since_boot_ms: Option<u64>,
    /// How its processes were held together.
    pub kill_method: KillMethod,
    /// Whether processes were left behind by the CLI; they were ended.
    pub left_processes: bool,
    /// Whether any process could not be ended.
    pub survivors: bool,
    /// The numbers of those that are known.
    #[serde(default)]
    pub surviving: Vec<i32>,
    /// Why the supervisor was ended by its worker, if it was.
    #[serde(default)]
    pub silence: Option<Silence>,
    /// Standard output.
    pub stdout: StreamRecord,
    /// Standard error.
    pub stderr: StreamRecord,
    /// Which limits it met.
    #[serde(default)]
    pub met: Met,
}

impl ExitRecord {
    /// For a CLI of which nothing more is known than how it ended.
    pub(crate) fn bare(exit: Exit, started_at: Timestamp, kill_method: KillMethod) -> Self {
        Self {
            exit,
            started_at,
            ended_at: now(),
            ended_since_boot_ms: None,
            kill_method,
            left_processes: false,
            survivors: false,
            surviving: Vec::new(),
            silence: None,
            stdout: StreamRecord::default(),
            stderr: StreamRecord::default(),
            met: Met::default(),
        }
    }
}

pub(super) fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(time::millis(since))
}

/// Writes a file that only its owner may read; a file of that name must not be there.
fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)
}

/// Removes empty directories of a cage that nobody else takes down.
pub(super) fn remove_dirs(dirs: &[PathBuf]) {
    for dir in dirs {
        // One that is not empty stays, and so do its processes: the record of the exit says so.
        let _stays = fs::remove_dir(dir);
    }
}

/// Opens what a CLI is given first, and takes it away: it holds the prompt. None where it is given
/// nothing.
pub(super) fn take_stdin(dir: &Path) -> io::Result<Option<File>> {
    let path = dir.join(STDIN);
    match File::open(&path) {
        Ok(file) => fs::remove_file(path).map(|()| Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Takes what is to be run away, so that nobody starts it: either the supervisor does this, and
/// then starts it, or a worker that has found no supervisor. False when it was taken before.
pub(super) fn take_spawn(dir: &Path) -> io::Result<bool> {
    match fs::remove_file(dir.join(SPAWN)) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes a value so that a reader sees all of it or nothing. Nobody reads it after a loss of power,
/// which ends the CLI.
pub(super) fn write_json<T: Serialize>(dir: &Path, name: &str, value: &T) -> io::Result<()> {
    let bytes = serde_json::to_vec(value)?;
    durable::replace(&dir.join(name), &bytes, durable::Access::Private)
}

/// Writes a value behind the earlier ones; the last one is read.
pub(super) fn add_json<T: Serialize>(dir: &Path, name: &str, value: &T) -> io::Result<()> {
    let bytes = serde_json::to_vec(value)?;
    durable::add_line(&dir.join(name), &bytes, durable::Access::Private)
}

/// Reads a value; none when the file is not there, or is one that a loss of power has left.
pub(super) fn read_json<T: DeserializeOwned>(dir: &Path, name: &str) -> io::Result<Option<T>> {
    match fs::read(dir.join(name)) {
        Ok(bytes) => {
            let parse = |text: &[u8]| serde_json::from_slice(text).ok();
            Ok(durable::last_line(&bytes, parse).or_else(|| parse(&bytes)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_reads_back_and_one_that_was_torn_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let record = ExitRecord::bare(Exit::Code(3), Timestamp(5), KillMethod::Subreaper);
        write_json(dir.path(), EXIT, &record).unwrap();
        assert_eq!(read_json(dir.path(), EXIT).unwrap(), Some(record));
        fs::write(dir.path().join(EXIT), "{\"exit\":").unwrap();
        assert_eq!(read_json::<ExitRecord>(dir.path(), EXIT).unwrap(), None);
        assert_eq!(read_json::<ExitRecord>(dir.path(), RUNNING).unwrap(), None);
    }

    #[test]
    fn a_record_of_an_earlier_version_still_reads() {
        let text = r#"{"exit":{"code":3},"started_at":5,"ended_at":6,"kill_method":"cgroup",
            "left_processes":false,"survivors":false,"stdout":{"kept":1,"dropped":0},
            "stderr":{"kept":0,"dropped":0}}"#;
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(EXIT), text).unwrap();
        let read = read_json::<ExitRecord>(dir.path(), EXIT).unwrap().unwrap();
        assert_eq!((read.stdout.kept, read.met), (1, Met::default()));
    }
}
