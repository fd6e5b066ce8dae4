//! Runs one command to its end and keeps all that it said.

use std::{
    fmt, fs,
    io::{Read, Write},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use crate::processes;

/// No command of a test may take longer.
const LIMIT: Duration = Duration::from_secs(180);
/// How long its output may stay open after its end.
const HELD_OPEN: Duration = Duration::from_secs(30);

/// What a command said and how it ended.
#[derive(Clone, Debug)]
pub struct Output {
    /// The command line, for messages.
    pub line: String,
    /// The exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

impl Output {
    /// The output itself, if the command exited with 0.
    pub fn ok(self) -> anyhow::Result<Self> {
        self.exits(0)
    }

    /// The output itself, if the command exited with `code`.
    pub fn exits(self, code: i32) -> anyhow::Result<Self> {
        ensure!(self.code == Some(code), "want exit code {code}\n{self}");
        Ok(self)
    }

    /// Standard output as one JSON document.
    pub fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_str(&self.stdout)
            .with_context(|| format!("standard output is not one JSON document\n{self}"))
    }

    /// The output itself, if standard error contains every one of `texts`.
    pub fn complains(self, texts: &[&str]) -> anyhow::Result<Self> {
        for text in texts {
            ensure!(
                self.stderr.contains(text),
                "standard error does not say {text:?}\n{self}"
            );
        }
        Ok(self)
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self
            .code
            .map_or_else(|| "a signal".to_owned(), |c| c.to_string());
        write!(
            f,
            "$ {}\nended with {code} after {:?}\n--- stdout\n{}\n--- stderr\n{}",
            self.line, self.took, self.stdout, self.stderr
        )
    }
}

/// Runs `command` with `input` on its standard input, and kills it when it takes too long.
pub fn run(mut command: Command, input: &[u8]) -> anyhow::Result<Output> {
    let line = line_of(&command);
    let started = Instant::now();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("failed to start `{line}`"))?;
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let input = input.to_vec();
    // A command may end without reading its input; that is its right.
    thread::spawn(move || drop(stdin.write_all(&input)));
    let stdout = reader(child.stdout.take().expect("stdout is piped"));
    let stderr = reader(child.stderr.take().expect("stderr is piped"));
    let code = wait(&mut child, &line, started)?;
    let took = started.elapsed();
    let (stdout, stderr) = (stdout.whole(&line)?, stderr.whole(&line)?);
    Ok(Output {
        line,
        code,
        stdout,
        stderr,
        took,
    })
}

fn wait(child: &mut Child, line: &str, started: Instant) -> anyhow::Result<Option<i32>> {
    loop {
        if let Some(status) = child.try_wait().context("failed to wait for a command")? {
            return Ok(status.code());
        }
        if started.elapsed() > LIMIT {
            child
                .kill()
                .context("failed to kill a command that takes too long")?;
            bail!("`{line}` still ran after {LIMIT:?}");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// What comes out of a pipe.
struct Reader {
    pipe: PathBuf,
    whole: mpsc::Receiver<String>,
}

fn reader(mut from: impl Read + AsFd + Send + 'static) -> Reader {
    let (tell, whole) = mpsc::channel();
    let pipe = pipe_of(from.as_fd());
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What could be read is worth having in the message of a failure.
        drop(from.read_to_end(&mut bytes));
        drop(tell.send(String::from_utf8_lossy(&bytes).into_owned()));
    });
    Reader { pipe, whole }
}

impl Reader {
    /// All of it, soon after the command has ended: what it left running must not hold it open.
    fn whole(self, line: &str) -> anyhow::Result<String> {
        self.whole.recv_timeout(HELD_OPEN).with_context(|| {
            let holders = processes::with_file(&self.pipe).join("\n");
            format!("`{line}` has ended, and its output is still open, in\n{holders}")
        })
    }
}

/// `pipe:[NUMBER]`, the same in every process.
fn pipe_of(fd: BorrowedFd<'_>) -> PathBuf {
    let fd = fd.as_raw_fd();
    fs::read_link(format!("/proc/self/fd/{fd}")).unwrap_or_default()
}

pub(crate) fn line_of(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        let arg: String = arg.to_string_lossy().chars().take(200).collect();
        line = format!("{line} {arg:?}");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_a_command_says_is_kept() {
        let mut command = Command::new("sh");
        command.args(["-c", "cat; echo no >&2; exit 3"]);
        let output = run(command, b"yes").unwrap().exits(3).unwrap();
        assert_eq!((&*output.stdout, &*output.stderr), ("yes", "no\n"));
    }

    #[test]
    fn who_holds_a_pipe_open_is_found() {
        let mut cat = Command::new("cat");
        let mut cat = cat
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // It has no name before it runs.
        cat.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        cat.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let pipe = pipe_of(cat.stdin.as_ref().unwrap().as_fd());
        let holders = processes::with_file(&pipe);
        cat.kill().unwrap();
        cat.wait().unwrap();
        assert_eq!(holders, [format!("{} cat ", cat.id())]);
    }
}
