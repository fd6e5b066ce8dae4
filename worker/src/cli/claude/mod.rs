//! `claude`: Claude Code, driven by stream-json both ways.
//!
//! The prompt goes in on standard input, since one argument may not be longer than 128 KiB. Permissions are
//! answered through the control protocol, which works as root too, where
//! `--dangerously-skip-permissions` is refused. Success is a `result` that says so; the exit code is not
//! enough, and the subtype `success` of a `result` is not either: provider errors carry it with
//! `is_error: true`.
//!
//! ```text
//! > initialize, user message        < system/init, assistant, user (tool results), stream_event …
//! > control_response (allow)        < control_request can_use_tool
//! > control_request interrupt       < result
//! ```

mod control;
mod outcome;
mod stream;

use orchestra_types::{EventKind, Exit, Failure, event::ToolStatus};
use serde_json::Value;

use super::{
    adapter::{Action, Adapter, CommandLine, Launch, Stream, Verdict},
    json::{at, list, object, shown, text},
    launch::args,
    story::{Call, Ending, Story, Voice, checklist},
    title,
};

/// Claude Code.
#[derive(Debug, Default)]
pub(super) struct Claude {
    story: Story,
    cwd: String,
    blocks: stream::Blocks,
    outcome: outcome::Outcome,
}

impl Adapter for Claude {
    fn command(&mut self, launch: &Launch<'_>) -> Result<CommandLine, Failure> {
        self.cwd = launch.cwd.to_string_lossy().into_owned();
        let mut arguments = args([
            "-p",
            "--input-format",
            "stream-json",
            "--output-format",
            "stream-json",
            "--verbose",
            "--include-partial-messages",
            "--permission-prompt-tool",
            "stdio",
        ]);
        if let Some(model) = launch.wanted_model() {
            arguments.extend(args(["--model", model]));
        }
        let env = [("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")];
        let mut line = launch.command_line(arguments, &env);
        line.stdin = control::opening(launch.prompt);
        line.keep_stdin = true;
        Ok(line)
    }

    fn on_line(&mut self, stream: Stream, line: &[u8]) -> Vec<Action> {
        match (stream, object(line)) {
            (Stream::Stderr, _) => self.story.stderr(line),
            (Stream::Stdout, None) => self.story.raw(),
            (Stream::Stdout, Some(message)) => self.on_message(&message),
        }
        self.story.take()
    }

    fn cancel(&mut self) -> Vec<Action> {
        if !self.story.has_ended() && !self.story.is_cancelled() {
            self.story.write(control::interrupt());
        }
        self.story.cancel();
        self.story.take()
    }

    fn finish(&mut self, exit: &Exit) -> Verdict {
        self.story.verdict(exit)
    }
}

impl Claude {
    fn on_message(&mut self, message: &Value) {
        match text(message, "/type") {
            "system" => self.on_system(message),
            "stream_event" => self.on_stream_event(message),
            "assistant" => self.on_assistant(message),
            "user" => self.on_user(message),
            "result" => self.on_result(message),
            "rate_limit_event" => self.on_rate_limit(message),
            "control_request" => control::answer(&mut self.story, message, &self.cwd),
            "control_response" | "control_cancel_request" | "keep_alive" => {}
            _ => self.story.raw(),
        }
    }

    fn on_system(&mut self, message: &Value) {
        match text(message, "/subtype") {
            "init" => {
                let model = text(message, "/model");
                self.story.session(text(message, "/session_id"), model);
            }
            "api_retry" => self.on_retry(message),
            // A command in the background is told as the tool call that it is.
            "task_started" if text(message, "/task_type") == "local_bash" => {}
            "task_started" => {
                let agent = text(message, "/tool_use_id").to_owned();
                let fields = [
                    ("agent", agent),
                    ("kind", text(message, "/subagent_type").to_owned()),
                ];
                let what = text(message, "/description");
                self.story.status("agent_started", what, &fields);
            }
            "compact_boundary" => {
                self.story
                    .status("compacted", "the conversation was compacted", &[])
            }
            _ => {}
        }
    }

    fn on_retry(&mut self, message: &Value) {
        let status = shown(at(message, "/error_status"));
        let phase = match status.as_str() {
            "429" => "rate_limited",
            _ => "retrying",
        };
        let delay_ms = at(message, "/retry_delay_ms").as_f64().unwrap_or_default();
        let fields = [
            ("attempt", shown(at(message, "/attempt"))),
            ("attempts_max", shown(at(message, "/max_retries"))),
            ("delay_ms", format!("{delay_ms:.0}")),
            ("status", status),
            ("error", text(message, "/error").to_owned()),
        ];
        let what = format!(
            "the provider failed ({}), trying again",
            text(message, "/error")
        );
        self.story.status(phase, &what, &fields);
    }

    fn on_rate_limit(&mut self, message: &Value) {
        let info = at(message, "/rate_limit_info");
        let state = text(info, "/status");
        self.outcome.on_rate_limit(info);
        if state != "allowed" {
            let fields = [
                ("state", state.to_owned()),
                ("kind", text(info, "/rateLimitType").to_owned()),
                ("resets_at", shown(at(info, "/resetsAt"))),
            ];
            let what = "the account's limit is near or reached";
            self.story.status("rate_limited", what, &fields);
        }
    }

    fn on_assistant(&mut self, message: &Value) {
        let agent = text(message, "/parent_tool_use_id");
        if text(message, "/message/model") == "<synthetic>" {
            return self.outcome.on_synthetic(message);
        }
        self.story.model(match agent {
            "" => text(message, "/message/model"),
            _ => "",
        });
        let id = text(message, "/message/id");
        for block in list(message, "/message/content") {
            let message_id = self.blocks.id_of_whole(agent, id);
            self.on_block(agent, &message_id, block);
        }
    }

    fn on_block(&mut self, agent: &str, message_id: &str, block: &Value) {
        match text(block, "/type") {
            "text" => {
                let said = text(block, "/text");
                self.story.snapshot(agent, Voice::Says, message_id, said);
                if agent.is_empty() {
                    self.story.set_text(said);
                }
            }
            "thinking" => {
                let thought = text(block, "/thinking");
                self.story
                    .snapshot(agent, Voice::Thinks, message_id, thought);
            }
            "tool_use" | "server_tool_use" => self.on_tool_use(agent, block),
            _ => {}
        }
    }

    fn on_tool_use(&mut self, agent: &str, block: &Value) {
        let tool = text(block, "/name");
        let input = at(block, "/input");
        if tool == "TodoWrite" {
            let text = checklist(list(input, "/todos"));
            self.story.emit(agent, EventKind::Plan { text });
        }
        let call = Call {
            call_id: text(block, "/id"),
            tool,
            title: &title::of_input(input, &self.cwd),
            input,
        };
        self.story.tool_call(agent, &call);
    }

    fn on_user(&mut self, message: &Value) {
        let agent = text(message, "/parent_tool_use_id");
        for block in list(message, "/message/content") {
            if text(block, "/type") == "tool_result" {
                self.on_tool_result(agent, block);
            }
        }
    }

    fn on_tool_result(&mut self, agent: &str, block: &Value) {
        let failed = at(block, "/is_error").as_bool().unwrap_or_default();
        let status = match (failed, self.story.is_cancelled()) {
            (false, _) => ToolStatus::Ok,
            (true, false) => ToolStatus::Error,
            (true, true) => ToolStatus::Aborted,
        };
        let output = result_text(at(block, "/content"));
        let call_id = text(block, "/tool_use_id");
        self.story.tool_result(agent, call_id, status, &output);
    }

    fn on_stream_event(&mut self, message: &Value) {
        let agent = text(message, "/parent_tool_use_id");
        let event = at(message, "/event");
        match text(event, "/type") {
            "message_start" => self.blocks.on_start(agent, event),
            "content_block_start" => self.blocks.on_block(agent, event),
            "content_block_delta" => self.on_delta(agent, at(event, "/delta")),
            "message_delta" => {
                let step = self.blocks.on_usage(agent, event);
                let used = self.story.usage().plus(step);
                self.story.used(used);
            }
            _ => {}
        }
    }

    fn on_delta(&mut self, agent: &str, delta: &Value) {
        let message_id = self.blocks.id_of_piece(agent);
        let (voice, piece) = match text(delta, "/type") {
            "text_delta" => (Voice::Says, text(delta, "/text")),
            "thinking_delta" => (Voice::Thinks, text(delta, "/thinking")),
            _ => return,
        };
        self.story.delta(agent, voice, &message_id, piece);
    }

    fn on_result(&mut self, message: &Value) {
        self.story.session(text(message, "/session_id"), "");
        let so_far = self.story.usage().plus(self.blocks.unfinished());
        self.story.used(outcome::usage(message, so_far));
        let ending = self.outcome.ending(message, self.story.is_cancelled());
        // The text of an error is the error, not what the agent said.
        if ending == Ending::Success {
            self.story.set_text(text(message, "/result"));
        }
        self.story.end(ending);
    }
}

/// What a tool returned: a text, or a list of parts of which the texts are shown.
fn result_text(content: &Value) -> String {
    match content {
        Value::Array(parts) => {
            let texts: Vec<String> = parts.iter().map(part_text).collect();
            texts.join("\n")
        }
        other => shown(other),
    }
}

fn part_text(part: &Value) -> String {
    match text(part, "/type") {
        "text" => text(part, "/text").to_owned(),
        kind => format!("[{kind}]"),
    }
}
