//! The first process of an attempt whose project has a set-up command: it runs that, in the cage, the
//! directory and the environment of the CLI, and then becomes the CLI.
//!
//! ```text
//! supervisor ─► set-up ─► sh -c COMMAND      its output goes to standard error
//!                  │          ended well
//!                  └─ exec ─► CLI            the same process, with the same input and output
//! ```
//!
//! What the command leaves running lives as long as the attempt.

use std::{
    ffi::OsString,
    fs, io,
    os::{fd::AsFd, unix::process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};
use serde::{Deserialize, Serialize};

use super::follow::Stream;

/// Stands in a line of its own on standard error, behind the output of the command.
const END: &str = "{\"orchestra\":\"set_up_ended\"}";
/// Most bytes of a record that are read.
const RECORD_BYTES_MAX: u64 = 64 * 1024;

/// What comes before the CLI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetUp {
    /// Run by `sh -c`.
    pub command: String,
    /// How long it may run.
    pub timeout: Duration,
    /// Where it is written down why the CLI was not started.
    pub record: PathBuf,
}

/// Why the CLI was not started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotReady {
    /// The command failed.
    Failed(String),
    /// The command ended well, and the CLI could not be started.
    NotStarted(String),
}

impl SetUp {
    /// The program and arguments that run the command and then the CLI, from those of the CLI.
    #[must_use]
    pub fn before(
        &self,
        me: &[String],
        program: &Path,
        args: Vec<String>,
    ) -> (PathBuf, Vec<String>) {
        let (own, prefix) = me.split_first().expect("a program has a name");
        let mut words = prefix.to_vec();
        words.extend([
            "set-up".to_owned(),
            "--record".to_owned(),
            self.record.to_string_lossy().into_owned(),
            "--timeout-ms".to_owned(),
            self.timeout.as_millis().to_string(),
            "--command".to_owned(),
            self.command.clone(),
            "--".to_owned(),
            program.to_string_lossy().into_owned(),
        ]);
        words.extend(args);
        (own.into(), words)
    }

    /// What was written down.
    #[must_use]
    pub fn not_ready(&self) -> Option<NotReady> {
        let file = fs::File::open(&self.record).ok()?;
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(file, RECORD_BYTES_MAX), &mut bytes).ok()?;
        serde_json::from_slice(&bytes).ok()
    }
}

/// Tells the output of a set-up command from that of the CLI, both on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetUpOutput {
    /// The command runs.
    Pending,
    /// The CLI has been heard on standard output, while output of the command is still to be read.
    Behind,
    /// It has ended, or there is none.
    Over,
}

/// Whose a line of standard error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The command's.
    SetUp,
    /// The mark behind the command's output: the CLI begins.
    Mark,
    /// The same, of a CLI that has been heard already.
    LateMark,
    /// The CLI's.
    Cli,
}

impl SetUpOutput {
    /// Takes a line of standard output, which only the CLI writes to. Whether it is the first that is
    /// heard of it.
    pub fn begins(&mut self) -> bool {
        match self {
            Self::Pending => {
                *self = Self::Behind;
                true
            }
            Self::Behind | Self::Over => false,
        }
    }

    /// Takes a line of standard error.
    pub fn takes(&mut self, line: &[u8]) -> Whose {
        let whose = match (*self, is_end_mark(line)) {
            (Self::Over, _) => Whose::Cli,
            (Self::Pending | Self::Behind, false) => Whose::SetUp,
            (Self::Pending, true) => Whose::Mark,
            (Self::Behind, true) => Whose::LateMark,
        };
        match whose {
            Whose::Mark | Whose::LateMark => *self = Self::Over,
            Whose::SetUp | Whose::Cli => {}
        }
        whose
    }

    /// Which output is to be read first where both have something: the command speaks before the CLI.
    #[must_use]
    pub fn first(self) -> Stream {
        match self {
            Self::Pending | Self::Behind => Stream::Stderr,
            Self::Over => Stream::Stdout,
        }
    }
}

/// Whether a line is the mark behind the output of a set-up command.
fn is_end_mark(line: &[u8]) -> bool {
    line.trim_ascii() == END.as_bytes()
}

/// Runs the command, then becomes the CLI. Returns only when that failed.
#[must_use]
pub fn set_up_main(set_up: &SetUp, cli: &[OsString]) -> ExitCode {
    let why = match run(set_up) {
        Ok(()) => {
            eprintln!("\n{END}");
            become_cli(cli)
        }
        Err(why) => NotReady::Failed(why),
    };
    let text = serde_json::to_vec(&why).expect("a reason is JSON");
    let written = orchestra_config::durable::replace(
        &set_up.record,
        &text,
        orchestra_config::durable::Access::Private,
    );
    if let Err(error) = written {
        eprintln!("failed to write `{}`: {error}", set_up.record.display());
    }
    ExitCode::FAILURE
}

fn become_cli(cli: &[OsString]) -> NotReady {
    let (program, args) = cli.split_first().expect("the command line has a program");
    let error = Command::new(program).args(args).exec();
    NotReady::NotStarted(why_not_started(Path::new(program), &error))
}

/// Why a program could not be started. The system says of one that is there that it is not, when what its
/// first line names is not.
pub(super) fn why_not_started(program: &Path, error: &io::Error) -> String {
    let interpreter = error.kind() == io::ErrorKind::NotFound && program.exists();
    match interpreter {
        true => format!(
            "failed to start `{}`: what its first line (`#!`) names, or the loader that it needs, is not there",
            program.display()
        ),
        false => format!("failed to start `{}`: {error}", program.display()),
    }
}

fn run(set_up: &SetUp) -> Result<(), String> {
    let failed = |error: io::Error| format!("the set-up command could not be run: {error}");
    let stderr = io::stderr().as_fd().try_clone_to_owned().map_err(failed)?;
    let child = Command::new("/bin/sh")
        .arg("-c")
        .arg(&set_up.command)
        .stdin(Stdio::null())
        .stdout(stderr)
        .spawn()
        .map_err(failed)?;
    // IMPORTANT: who is too late is not killed here: the supervisor empties the whole cage.
    match wait(child, set_up.timeout).map_err(failed)? {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(format!("the set-up command ended with {status}")),
        None => Err(format!(
            "the set-up command ran longer than {} s",
            set_up.timeout.as_secs_f64()
        )),
    }
}

/// How it ended; none when it has not within `timeout`.
fn wait(mut child: Child, timeout: Duration) -> io::Result<Option<ExitStatus>> {
    let pid = Pid::from_child(&child);
    let held = pidfd_open(pid, PidfdFlags::empty())?;
    let deadline = Instant::now() + timeout;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut ended = [PollFd::new(&held, PollFlags::IN)];
        match poll(&mut ended, Some(&left)) {
            Ok(0) => return Ok(None),
            Ok(_) => return child.wait().map(Some),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn set_up(command: &str, timeout: Duration) -> SetUp {
        SetUp {
            command: command.to_owned(),
            timeout,
            record: "/x/set-up.json".into(),
        }
    }

    #[test]
    fn a_script_without_its_interpreter_is_not_said_to_be_missing() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("agent");
        fs::write(&script, "#!/nonexistent/python\n").unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
        let error = Command::new(&script).spawn().unwrap_err();
        let why = why_not_started(&script, &error);
        assert!(why.contains("first line"), "{why}");
        let missing = dir.path().join("other");
        let error = Command::new(&missing).spawn().unwrap_err();
        let why = why_not_started(&missing, &error);
        assert!(why.contains("No such file"), "{why}");
    }

    #[test]
    fn how_a_command_ends_is_said() {
        let long = Duration::from_secs(60);
        assert_eq!(run(&set_up("true", long)), Ok(()));
        let said = run(&set_up("exit 3", long)).unwrap_err();
        assert!(said.ends_with("exit status: 3"), "{said}");
        let said = run(&set_up("exec sleep 2", Duration::from_millis(50))).unwrap_err();
        assert_eq!(said, "the set-up command ran longer than 0.05 s");
    }

    #[test]
    fn the_cli_comes_behind_the_command() {
        let me = ["/bin/ctl".to_owned(), "worker".to_owned()];
        let set_up = set_up("npm ci", Duration::from_secs(9));
        let (program, args) = set_up.before(&me, Path::new("claude"), vec!["-p".to_owned()]);
        assert_eq!(program, Path::new("/bin/ctl"));
        assert_eq!(
            args.join(" "),
            "worker set-up --record /x/set-up.json --timeout-ms 9000 --command npm ci -- claude -p"
        );
    }

    #[test]
    fn lines_are_the_set_ups_until_its_mark() {
        let mark = format!("{END}\n");
        let mut output = SetUpOutput::Pending;
        assert_eq!(output.takes(b"added 12 packages\n"), Whose::SetUp);
        assert_eq!(output.takes(mark.as_bytes()), Whose::Mark);
        assert_eq!(output.takes(b"a line of the CLI\n"), Whose::Cli);
        assert_eq!(output.takes(mark.as_bytes()), Whose::Cli);
        assert!(!output.begins());
    }

    #[test]
    fn a_cli_that_is_heard_before_the_mark_begins_once() {
        let mut output = SetUpOutput::Pending;
        assert_eq!(output.first(), Stream::Stderr);
        assert!(output.begins());
        assert!(!output.begins());
        assert_eq!(output.takes(b"added 12 packages\n"), Whose::SetUp);
        assert_eq!(output.takes(END.as_bytes()), Whose::LateMark);
        assert_eq!(output.first(), Stream::Stdout);
    }
}
