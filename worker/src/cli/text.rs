//! Programs that say nothing but text: the prompt on standard input, every line of standard output the
//! agent's text, exit code 0 is success.

use orchestra_types::{EventKind, Exit, Failure, FailureCode, event::TextForm, limits};

use super::{
    adapter::{Action, Adapter, CommandLine, Launch, Stream, Verdict},
    json::lossy,
    story::{Story, cut, ended},
};

/// How much of the end of the output is the final text.
const TAIL_BYTES_MAX: usize = 256 * 1024;

/// Any program, by `protocol: text`.
#[derive(Debug, Default)]
pub(super) struct Text {
    plain: Plain,
}

impl Adapter for Text {
    fn command(&mut self, launch: &Launch<'_>) -> Result<CommandLine, Failure> {
        let mut line = launch.command_line(Vec::new(), &[]);
        line.stdin = launch.prompt.as_bytes().to_vec();
        Ok(line)
    }

    fn on_line(&mut self, stream: Stream, line: &[u8]) -> Vec<Action> {
        self.plain.on_line(stream, line)
    }

    fn cancel(&mut self) -> Vec<Action> {
        self.plain.cancel()
    }

    fn finish(&mut self, exit: &Exit) -> Verdict {
        self.plain.finish(exit)
    }
}

/// Reads plain output. The end of it is the final text.
#[derive(Debug, Default)]
pub(super) struct Plain {
    story: Story,
    tail: String,
}

impl Plain {
    /// One line: text from standard output, a raw event from standard error.
    pub(super) fn on_line(&mut self, stream: Stream, line: &[u8]) -> Vec<Action> {
        match stream {
            Stream::Stdout => self.said(&lossy(line)),
            Stream::Stderr => {
                self.story.stderr(line);
                self.story.raw();
            }
        }
        self.story.take()
    }

    /// There is no protocol to ask by.
    pub(super) fn cancel(&mut self) -> Vec<Action> {
        self.story.cancel();
        Vec::new()
    }

    /// Exit code 0 is success.
    pub(super) fn finish(&mut self, exit: &Exit) -> Verdict {
        let tail = limits::cut_front(&self.tail, TAIL_BYTES_MAX);
        self.story.set_text(tail.trim_end());
        let failure = match exit {
            Exit::Code(0) => None,
            Exit::NotStarted { reason } => {
                Some(Failure::new(FailureCode::SpawnFailed, reason.clone()))
            }
            Exit::Stopped => Some(Failure::new(FailureCode::Cancelled, "it was stopped")),
            Exit::Code(_) => Some(self.failed(FailureCode::AgentFailed, exit)),
            Exit::Signal(_) | Exit::Unknown => Some(self.failed(FailureCode::AgentCrashed, exit)),
        };
        self.story.close_with_end(failure)
    }

    fn said(&mut self, line: &str) {
        let mut text = cut(line);
        if text.len() < limits::EVENT_TEXT_BYTES_MAX {
            text.push('\n');
        }
        self.keep(&text);
        let kind = EventKind::Message {
            message_id: String::new(),
            text,
            form: TextForm::Delta,
        };
        self.story.emit("", kind);
    }

    /// Keeps the end. It is cut only when twice as long, so that many short lines stay cheap.
    fn keep(&mut self, text: &str) {
        self.tail.push_str(text);
        if self.tail.len() > 2 * TAIL_BYTES_MAX {
            self.tail = limits::cut_front(&self.tail, TAIL_BYTES_MAX);
        }
    }

    fn failed(&self, code: FailureCode, exit: &Exit) -> Failure {
        let said = match self.story.stderr_tail() {
            tail if tail.is_empty() => String::new(),
            tail => format!(": {tail}"),
        };
        Failure::new(code, format!("the command {}{said}", ended(exit)))
    }
}
