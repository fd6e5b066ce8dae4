//! The plain JSON-lines agent format of `docs/agent-format.md`: our own agent's, and any program's with
//! `protocol: json_lines`.

use orchestra_types::{EventKind, Exit, Failure, FailureCode, Timestamp, Usage, event::ToolStatus};
use serde_json::Value;

use super::{
    adapter::{Action, Adapter, CommandLine, Launch, Stream, Verdict},
    json::{at, list, microusd, number, object, shown, text},
    story::{Call, Ending, Story, Voice, checklist},
    title,
};

/// Any program that speaks the format. It need not tell what it does.
#[derive(Debug)]
pub(super) struct JsonLines {
    reader: Reader,
}

impl Default for JsonLines {
    fn default() -> Self {
        let story = Story::silent();
        let reader = Reader {
            story,
            ..Reader::default()
        };
        Self { reader }
    }
}

impl Adapter for JsonLines {
    fn command(&mut self, launch: &Launch<'_>) -> Result<CommandLine, Failure> {
        self.reader.start(launch);
        let mut line = launch.command_line(Vec::new(), &[]);
        line.stdin = launch.prompt.as_bytes().to_vec();
        Ok(line)
    }

    fn on_line(&mut self, stream: Stream, line: &[u8]) -> Vec<Action> {
        self.reader.on_line(stream, line)
    }

    fn cancel(&mut self) -> Vec<Action> {
        self.reader.cancel()
    }

    fn finish(&mut self, exit: &Exit) -> Verdict {
        self.reader.finish(exit)
    }
}

/// Reads the format.
#[derive(Debug, Default)]
pub(super) struct Reader {
    story: Story,
    cwd: String,
    calls: u64,
}

impl Reader {
    /// Takes what it must know of the launch.
    pub(super) fn start(&mut self, launch: &Launch<'_>) {
        self.cwd = launch.cwd.to_string_lossy().into_owned();
    }

    /// One line.
    pub(super) fn on_line(&mut self, stream: Stream, line: &[u8]) -> Vec<Action> {
        match (stream, object(line)) {
            (Stream::Stderr, _) => self.story.stderr(line),
            (Stream::Stdout, None) => self.story.raw(),
            (Stream::Stdout, Some(message)) => self.on_message(&message),
        }
        self.story.take()
    }

    /// The format has no way to ask: the signal does.
    pub(super) fn cancel(&mut self) -> Vec<Action> {
        self.story.cancel();
        Vec::new()
    }

    /// The `result` or `error` decides, and the exit must agree.
    pub(super) fn finish(&mut self, exit: &Exit) -> Verdict {
        self.story.verdict(exit)
    }

    fn on_message(&mut self, message: &Value) {
        let agent = match text(message, "/agent_id") {
            "" => text(message, "/agentId"),
            id => id,
        };
        match text(message, "/type") {
            "session" => {
                let (id, model) = (text(message, "/id"), text(message, "/model"));
                self.story.session(id, model);
            }
            "turn" => self.on_turn(agent, message),
            "thinking" => self.on_text(agent, Voice::Thinks, message),
            "message" => self.on_text(agent, Voice::Says, message),
            "tool_call" => self.on_tool_call(agent, message),
            "tool_result" => self.on_tool_result(agent, message),
            "plan" => {
                let text = checklist(list(message, "/entries"));
                self.story.emit(agent, EventKind::Plan { text });
            }
            "usage" => self.story.used(usage(message, self.story.usage())),
            "status" => self.on_status(message),
            "result" if agent.is_empty() => self.on_result(message),
            "error" if agent.is_empty() => self.story.fail(failure(message)),
            "result" | "error" => {}
            _ => self.story.raw(),
        }
    }

    fn on_turn(&mut self, agent: &str, message: &Value) {
        if agent.is_empty() {
            let turns = number(message, "/number").max(self.story.usage().turns);
            let used = Usage {
                turns,
                ..self.story.usage()
            };
            self.story.used(used);
        }
    }

    fn on_text(&mut self, agent: &str, voice: Voice, message: &Value) {
        let (id, content) = (text(message, "/id"), text(message, "/content"));
        if at(message, "/delta").as_bool().unwrap_or_default() {
            self.story.delta(agent, voice, id, content);
        } else {
            self.story.snapshot(agent, voice, id, content);
        }
    }

    fn on_tool_call(&mut self, agent: &str, message: &Value) {
        self.calls += 1;
        let counted = format!("call_{}", self.calls);
        let input = at(message, "/args");
        let title = match text(message, "/title") {
            "" => title::of_input(input, &self.cwd),
            given => title::line(given, &self.cwd),
        };
        let call = Call {
            call_id: match text(message, "/id") {
                "" => &counted,
                id => id,
            },
            tool: text(message, "/tool"),
            title: &title,
            input,
        };
        self.story.tool_call(agent, &call);
    }

    fn on_tool_result(&mut self, agent: &str, message: &Value) {
        let call_id = match text(message, "/id") {
            "" => self.story.oldest_open(agent).unwrap_or_default(),
            id => id.to_owned(),
        };
        let status = match text(message, "/status") {
            "error" => ToolStatus::Error,
            "aborted" => ToolStatus::Aborted,
            _ => ToolStatus::Ok,
        };
        let output = shown(at(message, "/output"));
        self.story.tool_result(agent, &call_id, status, &output);
    }

    fn on_status(&mut self, message: &Value) {
        let fields: Vec<(&str, String)> = at(message, "/fields")
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.as_str(), shown(value)))
            .collect();
        let phase = text(message, "/phase");
        self.story.status(phase, text(message, "/text"), &fields);
    }

    fn on_result(&mut self, message: &Value) {
        let content = text(message, "/content");
        self.story.set_text(content);
        match text(message, "/status") {
            "" | "success" => self.story.end(Ending::Success),
            _ => {
                let why = match content {
                    "" => "the agent says that it failed",
                    said => said,
                };
                let failure = Failure::new(FailureCode::AgentFailed, why);
                self.story.fail(failure);
            }
        }
    }
}

/// Sums so far; what a line leaves out stays as it was.
fn usage(message: &Value, so_far: Usage) -> Usage {
    let or = |field: &str, before: u64| at(message, field).as_u64().unwrap_or(before);
    Usage {
        input_tokens: or("/input_tokens", so_far.input_tokens),
        output_tokens: or("/output_tokens", so_far.output_tokens),
        cached_tokens: or("/cached_tokens", so_far.cached_tokens),
        cost_microusd: microusd(message, "/cost_usd").or(so_far.cost_microusd),
        turns: or("/turns", so_far.turns),
    }
}

/// The codes that an agent may give itself; the others are Orchestra's to say.
fn failure(message: &Value) -> Failure {
    let code = match text(message, "/code").parse() {
        Ok(
            code @ (FailureCode::Auth
            | FailureCode::RateLimited
            | FailureCode::QuotaExhausted
            | FailureCode::ProviderUnavailable
            | FailureCode::BadRequest
            | FailureCode::ContextTooLong
            | FailureCode::Refused
            | FailureCode::Cancelled
            | FailureCode::Protocol
            | FailureCode::Internal),
        ) => code,
        _ => FailureCode::AgentFailed,
    };
    Failure {
        code,
        message: text(message, "/message").to_owned(),
        resets_at: at(message, "/resets_at").as_u64().map(Timestamp),
    }
}
