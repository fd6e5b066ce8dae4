//! Feeds an adapter a recording and tells what came out of it as a compact text.

use std::{fs, path::Path};

use orchestra_config::RunnerConfig;
use orchestra_types::{
    AttemptId, EventKind, Exit, ShellCommand, TaskId, Usage,
    event::{TextForm, ToolStatus},
};
use orchestra_worker::cli::{Action, Adapter, CommandLine, Launch, Stream, Verdict, adapter_for};

/// An adapter in a test, started with the prompt `go` in `/repo`.
pub struct Run {
    adapter: Box<dyn Adapter>,
    pub command: CommandLine,
    pub told: Vec<String>,
    /// Lines after which somebody cancels.
    cancel_before: Option<usize>,
}

/// A run of `runner`, with nothing configured.
pub fn run(runner: &str) -> Run {
    run_with(runner, &RunnerConfig::default(), None)
}

/// A run of `runner` as it is configured.
pub fn run_with(runner: &str, config: &RunnerConfig, command: Option<&ShellCommand>) -> Run {
    let name = runner.parse().expect("a runner name");
    let mut adapter = adapter_for(&name, Some(config)).expect("an adapter");
    let self_command = ["/opt/orchestra".to_owned(), "worker".to_owned()];
    let command = adapter
        .command(&Launch {
            prompt: "go",
            cwd: Path::new("/repo"),
            model: None,
            program: Path::new("/usr/bin/cli"),
            config: Some(config),
            command,
            attempt: AttemptId {
                task: TaskId(1),
                number: 1,
            },
            self_command: &self_command,
        })
        .expect("a command");
    Run {
        adapter,
        command,
        told: Vec::new(),
        cancel_before: None,
    }
}

impl Run {
    /// Cancels before the line with this index is read.
    pub fn cancel_before(mut self, line: usize) -> Self {
        self.cancel_before = Some(line);
        self
    }

    /// Reads the recording `tests/fixtures/NAME.jsonl`.
    pub fn read(mut self, name: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let path = root.join(format!("tests/fixtures/{name}.jsonl"));
        let bytes = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let lines = bytes.split(|&b| b == b'\n').filter(|l| !l.is_empty());
        for (index, line) in lines.enumerate() {
            if self.cancel_before == Some(index) {
                self = self.cancel();
            }
            self = self.line(line);
        }
        self
    }

    /// Reads one line of standard output.
    pub fn line(mut self, line: impl AsRef<[u8]>) -> Self {
        let actions = self.adapter.on_line(Stream::Stdout, line.as_ref());
        self.told.extend(actions.iter().map(shown));
        self
    }

    /// Reads one line of standard error.
    pub fn stderr(mut self, line: &str) -> Self {
        let actions = self.adapter.on_line(Stream::Stderr, line.as_bytes());
        self.told.extend(actions.iter().map(shown));
        self
    }

    /// Somebody cancels.
    pub fn cancel(mut self) -> Self {
        let actions = self.adapter.cancel();
        self.told.push("-- cancel".to_owned());
        self.told.extend(actions.iter().map(shown));
        self
    }

    /// The process ends with `exit`: everything that was told, and the verdict.
    pub fn exit(self, exit: Exit) -> String {
        let (mut told, verdict) = self.end(exit);
        told.push(verdict_line(&verdict));
        told.join("\n")
    }

    /// The verdict alone.
    pub fn verdict(self, exit: Exit) -> String {
        verdict_line(&self.end(exit).1)
    }

    /// The final text, whole.
    pub fn end_text(self) -> String {
        self.end(Exit::Code(0)).1.text
    }

    fn end(mut self, exit: Exit) -> (Vec<String>, Verdict) {
        let verdict = self.adapter.finish(&exit);
        self.told.extend(verdict.events.iter().map(shown));
        (self.told, verdict)
    }
}

/// Compares line by line, and shows the whole text when it differs.
#[track_caller]
pub fn same(told: &str, wanted: &str) {
    let unindented: Vec<&str> = wanted.trim().lines().map(str::trim).collect();
    assert!(
        unpadded(told) == unindented.join("\n"),
        "this was told:\n{told}\n\nthis was wanted:\n{}",
        unindented.join("\n")
    );
}

/// Without spaces at the ends of lines, which no editor keeps.
fn unpadded(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.join("\n").trim().to_owned()
}

fn verdict_line(verdict: &Verdict) -> String {
    let outcome = match &verdict.failure {
        None => "success".to_owned(),
        Some(failure) => {
            let reset = failure
                .resets_at
                .map_or_else(String::new, |at| format!(" (resets at {})", at.0));
            format!("{failure}{reset}")
        }
    };
    format!(
        "verdict {} | {} | {} | {} | {}",
        one_line(&outcome),
        one_line(&verdict.text),
        used(&verdict.usage),
        verdict.session,
        verdict.model
    )
}

fn shown(action: &Action) -> String {
    match action {
        Action::Write(bytes) => format!("> {}", String::from_utf8_lossy(bytes).trim_end()),
        Action::CloseStdin => "close stdin".to_owned(),
        Action::TurnEnded => "turn ended".to_owned(),
        Action::Emit { agent, kind } if agent.is_empty() => event(kind),
        Action::Emit { agent, kind } => format!("[{agent}] {}", event(kind)),
    }
}

fn event(kind: &EventKind) -> String {
    match kind {
        EventKind::SessionStarted { session, model } => format!("session {session} {model}"),
        EventKind::Message {
            message_id,
            text,
            form,
        } => {
            format!("says {message_id}{} {}", sign(*form), one_line(text))
        }
        EventKind::Thinking {
            message_id,
            text,
            form,
        } => {
            format!("thinks {message_id}{} {}", sign(*form), one_line(text))
        }
        EventKind::ToolCall {
            call_id,
            tool,
            title,
            input,
        } => {
            format!("calls {call_id} {tool} | {title} | {}", one_line(input))
        }
        EventKind::ToolResult {
            call_id,
            status,
            output,
        } => {
            let status = match status {
                ToolStatus::Ok => "ok",
                ToolStatus::Error => "error",
                ToolStatus::Aborted => "aborted",
            };
            format!("returns {call_id} {status} | {}", one_line(output))
        }
        EventKind::Usage(usage) => format!("used {}", used(usage)),
        EventKind::PermissionRequest {
            request_id,
            tool,
            title,
            decision,
        } => {
            format!("asks {request_id} {tool} | {title} | {decision}")
        }
        EventKind::Plan { text } => format!("plans {}", one_line(text)),
        EventKind::Status {
            phase,
            text,
            fields,
        } => {
            let fields: Vec<String> = fields.iter().map(|(k, v)| format!("{k}={v}")).collect();
            format!("status {phase} | {} | {}", one_line(text), fields.join(" "))
        }
        EventKind::Final { text } => format!("final {}", one_line(text)),
        EventKind::Raw => "raw".to_owned(),
    }
}

fn sign(form: TextForm) -> &'static str {
    match form {
        TextForm::Delta => " +",
        TextForm::Snapshot => " =",
    }
}

fn used(usage: &Usage) -> String {
    let cost = usage
        .cost_microusd
        .map_or_else(|| "-".to_owned(), |cost| cost.to_string());
    format!(
        "in {} out {} cached {} cost {cost} turns {}",
        usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.turns
    )
}

/// Line ends made visible, long texts cut.
fn one_line(text: &str) -> String {
    let line = text.replace('\n', "\\n");
    match line.char_indices().nth(110) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}
