//! `bash`: a command in a process group of its own, of which nothing is left when it ends.

use std::{
    io,
    os::fd::OwnedFd,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tokio::{
    io::AsyncReadExt,
    net::unix::pipe,
    process::{Child, Command},
    time::{Instant, timeout, timeout_at},
};

use super::{Done, Toolbox, number, object, output::Output, text};
use crate::chat::ToolSpec;

/// Longest that a model may ask for: an hour.
const TIMEOUT_MAX: Duration = Duration::from_secs(3600);
/// How long output may still come after the command and its group are gone: a process that left
/// the group may hold the pipe open for ever.
const DRAIN: Duration = Duration::from_millis(500);

/// The tool as it is offered.
pub fn spec() -> ToolSpec {
    ToolSpec {
        name: "bash",
        description: "Run a shell command in the working directory and get its output (standard \
                      error included) and exit code. It gets no input. Processes that it leaves in \
                      the background end with it.",
        schema: object(
            &[
                ("command", json!({ "type": "string" })),
                (
                    "timeout",
                    json!({ "type": "integer", "description": "Seconds, at most 3600" }),
                ),
            ],
            &["command"],
        ),
    }
}

/// Runs a command.
pub async fn run(toolbox: &Toolbox<'_>, args: &Value) -> Done {
    let command = text(args, "command")?;
    let limit = match number(args, "timeout")? {
        Some(seconds) => Duration::from_secs(seconds.max(1)).min(TIMEOUT_MAX),
        None => toolbox.command_timeout,
    };
    let mut running = Running::start(toolbox, command)
        .map_err(|error| format!("failed to start the command: {error}"))?;
    let ended = running.wait(Instant::now() + limit).await;
    let output = running.stop().await;
    match ended {
        Ended::Exit(status) => report(status, &output),
        Ended::TimedOut => Err(format!(
            "{output}\n[killed after {} seconds; a longer `timeout` may be asked for]",
            limit.as_secs_f64()
        )),
        Ended::Lost(error) => Err(format!(
            "{output}\n[failed to wait for the command: {error}]"
        )),
    }
}

fn report(status: ExitStatus, output: &str) -> Done {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(output.to_owned()),
        (Some(code), _) => Err(format!("{output}\n[exit code {code}]")),
        (None, signal) => Err(format!(
            "{output}\n[killed by signal {}]",
            signal.unwrap_or(0)
        )),
    }
}

enum Ended {
    Exit(ExitStatus),
    TimedOut,
    Lost(io::Error),
}

/// A command that runs. Dropping it kills its process group.
struct Running {
    child: Child,
    group: Group,
    pipe: pipe::Receiver,
    output: Output,
    pipe_open: bool,
}

/// Kills a process group when it is dropped.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // An error means that the group is empty, which is what is wanted.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Running {
    fn start(toolbox: &Toolbox<'_>, command: &str) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        let child = Command::new("bash")
            .args(["-c", command])
            .current_dir(toolbox.root)
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .process_group(0)
            .spawn()?;
        let pid = child
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .and_then(Pid::from_raw);
        Ok(Self {
            child,
            group: Group(pid),
            pipe: pipe::Receiver::from_owned_fd(OwnedFd::from(reader))?,
            output: Output::default(),
            pipe_open: true,
        })
    }

    /// Reads until the command itself has ended, whoever else holds its pipe.
    async fn wait(&mut self, deadline: Instant) -> Ended {
        let mut bytes = vec![0; 16 * 1024];
        loop {
            let step = async {
                tokio::select! {
                    status = self.child.wait() => Some(status),
                    read = self.pipe.read(&mut bytes), if self.pipe_open => {
                        let count = read.unwrap_or(0);
                        self.pipe_open = count > 0;
                        self.output.push(&bytes[..count]);
                        None
                    }
                }
            };
            match timeout_at(deadline, step).await {
                Err(_) => return Ended::TimedOut,
                Ok(Some(Ok(status))) => return Ended::Exit(status),
                Ok(Some(Err(error))) => return Ended::Lost(error),
                Ok(None) => {}
            }
        }
    }

    /// Kills what is left of the group; the output.
    async fn stop(mut self) -> String {
        drop(std::mem::replace(&mut self.group, Group(None)));
        let drain = async {
            let mut bytes = vec![0; 16 * 1024];
            while self.pipe_open {
                let count = self.pipe.read(&mut bytes).await.unwrap_or(0);
                self.pipe_open = count > 0;
                self.output.push(&bytes[..count]);
            }
            // Reaps the shell where it was killed; an error means that it was reaped before.
            let _ = self.child.wait().await;
        };
        // Whoever still holds the pipe has left the group and is not waited for.
        let _ = timeout(DRAIN, drain).await;
        self.output.text()
    }
}
