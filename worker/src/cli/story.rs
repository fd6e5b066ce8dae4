//! What an adapter has understood so far: the events it tells, and the state that events alone do not hold
//! (open tool calls, texts in the making, what was used, how it ended).
//!
//! Every adapter reads its own CLI's format and tells it here; limits, pairing of calls and results, and
//! the verdict are the same for all.

use std::collections::{BTreeMap, VecDeque};

use orchestra_types::{
    EventKind, Exit, Failure, FailureCode, Usage,
    event::{TextForm, ToolStatus},
    limits,
};

use super::{
    adapter::{Action, Kept, Verdict},
    plain,
};

/// Longest id, tool name or title in an event; what the wire allows.
const SHORT_BYTES_MAX: usize = 8 * 1024;
/// Longest final text that is kept.
const FINAL_BYTES_MAX: usize = 1024 * 1024;
/// A streamed text longer than this is not compared with its snapshot any more.
const STREAMED_BYTES_MAX: usize = 1024 * 1024;
/// Most tool calls that may be open at once; more is a broken CLI, and the oldest are let go.
const OPEN_CALLS_MAX: usize = 1024;
/// Lines of standard error that explain a crash.
const STDERR_LINES_MAX: usize = 8;
const STDERR_LINE_BYTES_MAX: usize = 400;

/// How the CLI says that its turn ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// It succeeded.
    Success,
    /// It did not.
    Failed(Failure),
}

/// The state of one run. See the module.
#[derive(Debug, Default)]
pub(super) struct Story {
    actions: Vec<Action>,
    session: String,
    model: String,
    usage: Usage,
    text: String,
    open: Vec<OpenCall>,
    streamed: Option<Streamed>,
    ending: Option<Ending>,
    cancelled: bool,
    /// Whether anything was said, or a tool called.
    active: bool,
    may_be_silent: bool,
    stderr: VecDeque<String>,
}

#[derive(Debug, PartialEq, Eq)]
struct OpenCall {
    agent: String,
    call_id: String,
    tool: String,
    title: String,
}

/// The text that is being streamed, to know whether its snapshot says anything new.
#[derive(Debug)]
struct Streamed {
    agent: String,
    message_id: String,
    text: String,
    overflowed: bool,
}

/// A tool call, as its adapter read it.
pub(super) struct Call<'a> {
    pub call_id: &'a str,
    pub tool: &'a str,
    pub title: &'a str,
    pub input: &'a serde_json::Value,
}

/// Whether a text is said or thought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Voice {
    Says,
    Thinks,
}

impl Story {
    /// Of a program that need not tell what it does: its success needs neither a word nor a tool call.
    pub(super) fn silent() -> Self {
        Self {
            may_be_silent: true,
            ..Self::default()
        }
    }

    /// What is to be done since the last time.
    pub(super) fn take(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// Adds an event.
    pub(super) fn emit(&mut self, agent: &str, kind: EventKind) {
        self.actions.push(Action::Emit {
            agent: short(agent),
            kind,
        });
    }

    /// Adds bytes for the CLI.
    pub(super) fn write(&mut self, bytes: Vec<u8>) {
        self.actions.push(Action::Write(bytes));
    }

    /// A line that nobody understands.
    pub(super) fn raw(&mut self) {
        self.emit("", EventKind::Raw);
    }

    /// The CLI's session began, or its model became known.
    pub(super) fn session(&mut self, session: &str, model: &str) {
        let changed = self.session != session || (!model.is_empty() && self.model != model);
        self.session = short(session);
        self.model(model);
        if changed {
            let kind = EventKind::SessionStarted {
                session: self.session.clone(),
                model: self.model.clone(),
            };
            self.emit("", kind);
        }
    }

    /// The model that answers.
    pub(super) fn model(&mut self, model: &str) {
        if !model.is_empty() {
            self.model = short(model);
        }
    }

    /// A piece of a text.
    pub(super) fn delta(&mut self, agent: &str, voice: Voice, message_id: &str, text: &str) {
        if text.is_empty() {
            return;
        }
        self.heard(voice, text);
        self.remember_streamed(agent, message_id, text);
        self.emit(agent, text_event(voice, message_id, text, TextForm::Delta));
    }

    /// A whole text. It is not told again when its pieces were.
    pub(super) fn snapshot(&mut self, agent: &str, voice: Voice, message_id: &str, text: &str) {
        if text.is_empty() || self.was_streamed(agent, message_id, text) {
            return;
        }
        self.heard(voice, text);
        self.emit(
            agent,
            text_event(voice, message_id, text, TextForm::Snapshot),
        );
    }

    /// Whether pieces of this message are the last that was streamed.
    pub(super) fn is_streaming(&self, agent: &str, message_id: &str) -> bool {
        self.streamed
            .as_ref()
            .is_some_and(|s| s.agent == agent && s.message_id == message_id)
    }

    /// A tool is called.
    pub(super) fn tool_call(&mut self, agent: &str, call: &Call<'_>) {
        self.active = true;
        if self.open.len() >= OPEN_CALLS_MAX {
            self.open.remove(0);
        }
        self.open.push(OpenCall {
            agent: agent.to_owned(),
            call_id: call.call_id.to_owned(),
            tool: call.tool.to_owned(),
            title: call.title.to_owned(),
        });
        let input = match call.input {
            serde_json::Value::Null => String::new(),
            input => limits::cut(&input.to_string(), limits::EVENT_TEXT_BYTES_MAX),
        };
        let kind = EventKind::ToolCall {
            call_id: short(call.call_id),
            tool: short(call.tool),
            title: short(call.title),
            input,
        };
        self.emit(agent, kind);
    }

    /// Whether a call has not ended.
    pub(super) fn is_open(&self, call_id: &str) -> bool {
        self.open.iter().any(|c| c.call_id == call_id)
    }

    /// The title of an open call; empty when there is no such call.
    pub(super) fn title_of(&self, call_id: &str) -> String {
        let call = self.open.iter().find(|c| c.call_id == call_id);
        call.map_or_else(String::new, |c| c.title.clone())
    }

    /// How many calls of `tool` have not ended.
    pub(super) fn open_calls_of(&self, tool: &str) -> usize {
        self.open.iter().filter(|c| c.tool == tool).count()
    }

    /// The oldest open call of `agent`.
    pub(super) fn oldest_open(&self, agent: &str) -> Option<String> {
        let oldest = self.open.iter().find(|c| c.agent == agent)?;
        Some(oldest.call_id.clone())
    }

    /// A tool call ended.
    pub(super) fn tool_result(
        &mut self,
        agent: &str,
        call_id: &str,
        status: ToolStatus,
        output: &str,
    ) {
        self.open.retain(|c| c.call_id != call_id);
        let kind = EventKind::ToolResult {
            call_id: short(call_id),
            status,
            output: cut(output),
        };
        self.emit(agent, kind);
    }

    /// What was used in all. Told when it changed.
    pub(super) fn used(&mut self, usage: Usage) {
        let usage = usage.with_known_cost();
        if self.usage != usage {
            self.usage = usage;
            self.emit("", EventKind::Usage(usage));
        }
    }

    /// What was used in all so far.
    pub(super) fn usage(&self) -> Usage {
        self.usage
    }

    /// Something that an operator would notice.
    pub(super) fn status(&mut self, phase: &str, text: &str, fields: &[(&str, String)]) {
        let fields: BTreeMap<String, String> = fields
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| ((*name).to_owned(), short(value)))
            .collect();
        let kind = EventKind::Status {
            phase: short(phase),
            text: cut(text),
            fields,
        };
        self.emit("", kind);
    }

    /// The final text as it is known now.
    pub(super) fn set_text(&mut self, text: &str) {
        self.text = limits::cut(text, FINAL_BYTES_MAX);
    }

    /// Appends to the final text.
    pub(super) fn add_text(&mut self, text: &str) {
        if self.text.len() < FINAL_BYTES_MAX {
            self.text.push_str(text);
        }
        if self.text.len() > FINAL_BYTES_MAX {
            self.text = limits::cut(&self.text, FINAL_BYTES_MAX);
        }
    }

    /// The final text so far.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// A line of standard error, kept to explain a crash.
    pub(super) fn stderr(&mut self, line: &[u8]) {
        let line = plain::text(&super::json::lossy(line));
        let line = line.trim();
        if line.is_empty() {
            return;
        }
        if self.stderr.len() >= STDERR_LINES_MAX {
            self.stderr.pop_front();
        }
        self.stderr
            .push_back(limits::cut(line, STDERR_LINE_BYTES_MAX));
    }

    /// The last lines of standard error.
    pub(super) fn stderr_tail(&self) -> String {
        let lines: Vec<&str> = self.stderr.iter().map(String::as_str).collect();
        lines.join("\n")
    }

    /// Somebody asked to stop.
    pub(super) fn cancel(&mut self) {
        self.cancelled = true;
    }

    /// Whether somebody asked to stop.
    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled
    }

    /// Whether the CLI has said how it ended.
    pub(super) fn has_ended(&self) -> bool {
        self.ending.is_some()
    }

    /// The CLI says that its turn ended. Only the first time counts.
    pub(super) fn end(&mut self, ending: Ending) {
        if self.ending.is_some() {
            return;
        }
        self.close_open_calls();
        self.ending = Some(ending);
        self.actions.push(Action::CloseStdin);
        self.actions.push(Action::TurnEnded);
    }

    /// The end, as a failure.
    pub(super) fn fail(&mut self, failure: Failure) {
        self.end(Ending::Failed(failure));
    }

    /// The verdict when the CLI's own words decide, and its exit must agree.
    pub(super) fn verdict(&mut self, exit: &Exit) -> Verdict {
        let failure = match self.ending.take() {
            Some(Ending::Failed(failure)) => Some(failure),
            Some(Ending::Success) => self.unclean(exit),
            None => Some(self.unsaid(exit)),
        };
        self.close(failure)
    }

    /// The verdict when `failure` is known already.
    pub(super) fn close(&mut self, failure: Option<Failure>) -> Verdict {
        self.close_keeping(Kept::Beginning, failure)
    }

    /// The same, where the end of the final text is what counts.
    pub(super) fn close_with_end(&mut self, failure: Option<Failure>) -> Verdict {
        self.close_keeping(Kept::End, failure)
    }

    fn close_keeping(&mut self, kept: Kept, failure: Option<Failure>) -> Verdict {
        self.close_open_calls();
        if !self.text.is_empty() {
            let text = kept.of(&self.text, limits::EVENT_TEXT_BYTES_MAX);
            self.emit("", EventKind::Final { text });
        }
        Verdict {
            failure,
            kept,
            text: std::mem::take(&mut self.text),
            usage: self.usage,
            session: std::mem::take(&mut self.session),
            model: std::mem::take(&mut self.model),
            events: self.take(),
        }
    }

    fn heard(&mut self, voice: Voice, text: &str) {
        self.active |= voice == Voice::Says && !text.trim().is_empty();
    }

    /// A run that said "success" must also end well, and have done something. Being stopped in its grace
    /// after that is well.
    fn unclean(&self, exit: &Exit) -> Option<Failure> {
        match exit {
            Exit::Code(0) | Exit::Stopped | Exit::Unknown => self.idle(),
            Exit::Code(_) | Exit::Signal(_) | Exit::NotStarted { .. } => {
                let message = format!("it said that it succeeded, then {}", ended(exit));
                Some(self.crash(&message))
            }
        }
    }

    /// A model that answers nothing has not done its task, whatever its CLI makes of that.
    fn idle(&self) -> Option<Failure> {
        if self.active || self.may_be_silent || !self.text.trim().is_empty() {
            return None;
        }
        let why = "it ended its turn without saying or doing anything";
        Some(Failure::new(FailureCode::AgentFailed, why))
    }

    /// A run that ended without saying how.
    fn unsaid(&self, exit: &Exit) -> Failure {
        match exit {
            Exit::NotStarted { reason } => Failure::new(FailureCode::SpawnFailed, reason.clone()),
            Exit::Stopped => Failure::new(FailureCode::Cancelled, "it was stopped"),
            _ if self.cancelled => Failure::new(FailureCode::Cancelled, "it was stopped"),
            _ => self.crash(&format!("it {} without saying how it went", ended(exit))),
        }
    }

    /// A crash, explained by the last lines of standard error.
    fn crash(&self, message: &str) -> Failure {
        let tail = self.stderr_tail();
        let message = match tail.as_str() {
            "" => message.to_owned(),
            tail => format!("{message}: {tail}"),
        };
        Failure::new(FailureCode::AgentCrashed, message)
    }

    fn close_open_calls(&mut self) {
        for call in std::mem::take(&mut self.open) {
            let kind = EventKind::ToolResult {
                call_id: short(&call.call_id),
                status: ToolStatus::Aborted,
                output: String::new(),
            };
            self.emit(&call.agent, kind);
        }
    }

    fn remember_streamed(&mut self, agent: &str, message_id: &str, piece: &str) {
        if !self.is_streaming(agent, message_id) {
            self.streamed = Some(Streamed {
                agent: agent.to_owned(),
                message_id: message_id.to_owned(),
                text: String::new(),
                overflowed: false,
            });
        }
        let Some(streamed) = &mut self.streamed else {
            return;
        };
        if streamed.text.len() + piece.len() > STREAMED_BYTES_MAX {
            streamed.overflowed = true;
        } else {
            streamed.text.push_str(piece);
        }
    }

    fn was_streamed(&self, agent: &str, message_id: &str, text: &str) -> bool {
        self.is_streaming(agent, message_id)
            && self
                .streamed
                .as_ref()
                .is_some_and(|s| s.overflowed || s.text == text)
    }
}

/// How a process ended, in words that follow "it".
pub(super) fn ended(exit: &Exit) -> String {
    match exit {
        Exit::NotStarted { reason } => format!("could not be started: {reason}"),
        Exit::Code(code) => format!("exited with code {code}"),
        Exit::Signal(signal) => format!("was ended by signal {signal}"),
        Exit::Stopped => "was stopped".to_owned(),
        Exit::Unknown => "ended, nobody knows how".to_owned(),
    }
}

/// A to-do list, one entry a line. Entries have `content` (or `step`) and `status`.
pub(super) fn checklist(entries: &[serde_json::Value]) -> String {
    use super::json::text;
    let line = |entry: &serde_json::Value| {
        let mark = match text(entry, "/status") {
            "completed" => "x",
            "in_progress" | "inProgress" => "~",
            _ => " ",
        };
        let what = match text(entry, "/content") {
            "" => text(entry, "/step"),
            content => content,
        };
        format!("[{mark}] {what}")
    };
    let lines: Vec<String> = entries.iter().map(line).collect();
    cut(&lines.join("\n"))
}

fn text_event(voice: Voice, message_id: &str, text: &str, form: TextForm) -> EventKind {
    let (message_id, text) = (short(message_id), cut(text));
    match voice {
        Voice::Says => EventKind::Message {
            message_id,
            text,
            form,
        },
        Voice::Thinks => EventKind::Thinking {
            message_id,
            text,
            form,
        },
    }
}

/// A text as long as an event may hold.
pub(super) fn cut(text: &str) -> String {
    limits::cut(text, limits::EVENT_TEXT_BYTES_MAX)
}

fn short(text: &str) -> String {
    limits::cut(text, SHORT_BYTES_MAX)
}
