//! What every adapter takes and gives.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use orchestra_config::RunnerConfig;
use orchestra_types::{AttemptId, EventKind, Exit, Failure, ShellCommand, Usage, limits};
use serde::{Deserialize, Serialize};

/// What an attempt is started with.
#[derive(Clone, Debug)]
pub struct Launch<'a> {
    /// The whole prompt, context included; for `shell` without a command, the bare description.
    pub prompt: &'a str,
    /// The directory to work in.
    pub cwd: &'a Path,
    /// The model that the task names.
    pub model: Option<&'a str>,
    /// The CLI, as `probe` found it.
    pub program: &'a Path,
    /// The runner's part of the configuration.
    pub config: Option<&'a RunnerConfig>,
    /// The command, for the `shell` runner.
    pub command: Option<&'a ShellCommand>,
    /// The attempt.
    pub attempt: AttemptId,
    /// How to run our own binary, for the `agent` runner: the program and its first arguments.
    pub self_command: &'a [String],
}

/// A process to start in the attempt's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Environment on top of what the worker gives every CLI.
    pub env: BTreeMap<String, String>,
    /// Written to its standard input at once.
    pub stdin: Vec<u8>,
    /// Whether standard input stays open after that, until [`Action::CloseStdin`].
    pub keep_stdin: bool,
}

/// Where a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What an adapter wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Tell that this happened.
    Emit {
        /// The sub-agent that did it; empty for the main one.
        agent: String,
        /// What happened.
        kind: EventKind,
    },
    /// Write these bytes to the CLI's standard input. Not done again while a log is replayed.
    Write(Vec<u8>),
    /// Close the CLI's standard input.
    CloseStdin,
    /// The CLI has said that it is done: it gets a short grace to exit, then it is stopped.
    TurnEnded,
}

/// What is kept of a text that is too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// Its beginning, as of an answer.
    #[default]
    Beginning,
    /// Its end, as of a program's output.
    End,
}

impl Kept {
    /// At most `max` bytes of `text`.
    #[must_use]
    pub fn of(self, text: &str, max: usize) -> String {
        match self {
            Self::Beginning => limits::cut(text, max),
            Self::End => limits::cut_front(text, max),
        }
    }
}

/// What became of an attempt, as far as the CLI's output and exit tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Why it is not a success; none means success.
    pub failure: Option<Failure>,
    /// The agent's final text.
    pub text: String,
    /// What is kept of that where it is long.
    pub kept: Kept,
    /// What it used.
    pub usage: Usage,
    /// The CLI's own session; empty when unknown.
    pub session: String,
    /// The model that answered; empty when unknown.
    pub model: String,
    /// The last events: tool calls that nobody closed, then the final text. All are
    /// [`Action::Emit`].
    pub events: Vec<Action>,
}

/// Drives one run of one CLI. Made by [`super::adapter_for`], used for one attempt.
///
/// `command` comes first, also before a replay, since it tells the adapter the prompt and the
/// directory. Lines come without their line end, in the order in which they were read.
pub trait Adapter: Send {
    /// How to start the CLI.
    ///
    /// # Errors
    /// When the task cannot be run by this runner at all.
    fn command(&mut self, launch: &Launch<'_>) -> Result<CommandLine, Failure>;

    /// Reads one line of output.
    fn on_line(&mut self, stream: Stream, line: &[u8]) -> Vec<Action>;

    /// Asks the CLI to stop, by its own protocol. No actions mean that it has no such protocol and
    /// that a signal is the way.
    fn cancel(&mut self) -> Vec<Action>;

    /// Judges the run after the process has ended and its last line was read.
    fn finish(&mut self, exit: &Exit) -> Verdict;
}
