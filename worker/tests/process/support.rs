//! An attempt's directory, and what is done with a process in it.

use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration, time::Instant};

use orchestra_types::Exit;
use orchestra_worker::{
    SelfCommand,
    process::{
        ExitRecord, LOG_BYTES_MAX, Limits, Nursery, Offsets, Process, ProcessError, ProcessEvent,
        Spawn, Stream,
    },
};
use tempfile::TempDir;

/// Longest time that anything here may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn self_command() -> SelfCommand {
    SelfCommand {
        exe: std::env::current_exe().unwrap(),
        prefix: Vec::new(),
    }
}

/// An attempt's directory, deeper than a socket's address may be long.
pub struct Place {
    pub tmp: TempDir,
}

impl Place {
    pub fn new() -> Self {
        let place = Self {
            tmp: tempfile::tempdir().unwrap(),
        };
        fs::create_dir_all(place.dir()).unwrap();
        place
    }

    pub fn dir(&self) -> PathBuf {
        self.tmp.path().join("d".repeat(100)).join("attempt")
    }

    pub fn spawn(&self, program: &str, args: &[&str]) -> Spawn {
        let path = std::env::var("PATH").unwrap();
        Spawn {
            dir: self.dir(),
            program: program.into(),
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            env: BTreeMap::from([("PATH".to_owned(), path)]),
            cwd: self.tmp.path().to_owned(),
            stdin: Vec::new(),
            keep_stdin: false,
            limits: Limits::default(),
            log_bytes_max: LOG_BYTES_MAX,
            ballast: PathBuf::new(),
        }
    }

    pub fn shell(&self, script: &str) -> Spawn {
        self.spawn("sh", &["-c", script])
    }

    /// The pid that a script wrote to `name`, once it did.
    pub fn pid(&self, name: &str) -> i32 {
        let path = self.tmp.path().join(name);
        eventually(&format!("{name} is written"), || {
            fs::read_to_string(&path)
                .ok()?
                .strip_suffix('\n')?
                .parse()
                .ok()
        })
    }
}

pub fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        tokio::time::timeout(PATIENCE, test)
            .await
            .expect("it takes too long")
    })
}

pub async fn start(spawn: &Spawn) -> Process {
    Process::start(&nursery(), spawn).await.unwrap()
}

pub fn nursery() -> Nursery {
    Nursery::new(self_command())
}

/// Without a nursery: each supervisor is started by itself, behind `script`.
pub fn alone(script: &str, zero: &str) -> SelfCommand {
    let script = format!("[ \"$2\" = nursery ] && exit 1; {script} exec \"$@\"");
    let me = std::env::current_exe().unwrap();
    let words = ["-c", &script, zero, me.to_str().unwrap()];
    SelfCommand {
        exe: "sh".into(),
        prefix: words.map(str::to_owned).to_vec(),
    }
}

/// Every line until the end, and the end.
pub async fn finish(process: &mut Process) -> (Vec<(Stream, String)>, ExitRecord) {
    let mut lines = Vec::new();
    loop {
        match process.next().await.unwrap() {
            ProcessEvent::Line(line) => {
                lines.push((line.stream, String::from_utf8(line.bytes).unwrap()));
            }
            ProcessEvent::Exited(record) => return (lines, record),
        }
    }
}

pub fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// What `/proc/PID/stat` says of a process, from its state on.
pub fn stat(pid: i32) -> Vec<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    rest.split(' ').map(str::to_owned).collect()
}

pub fn parent(pid: i32) -> Option<i32> {
    stat(pid).get(1)?.parse().ok()
}

/// Starts an attempt of which nothing was started yet again, as the next worker does, in a directory of
/// the same name.
pub async fn start_again(place: &Place) -> Process {
    let found = Process::reattach(&place.dir(), Offsets::default());
    assert!(
        matches!(found, Err(ProcessError::NotThere { .. })),
        "{found:?}"
    );
    fs::remove_dir_all(place.dir()).unwrap();
    fs::create_dir(place.dir()).unwrap();
    start(&place.shell("echo again >> ran; sleep 1000")).await
}

/// Ends what was started again, and nothing else has run.
pub async fn only_that_ran(place: &Place, mut again: Process) {
    again.kill().await;
    assert_eq!(finish(&mut again).await.1.exit, Exit::Signal(9));
    let ran = fs::read_to_string(place.tmp.path().join("ran")).unwrap();
    assert_eq!(ran, "again\n");
}
