//! `codex`: Codex CLI, driven by `codex app-server` (JSON-RPC, one object a line).
//!
//! Chosen over `codex exec --json` because it has what a fleet needs and `exec` lacks: deltas, token counts
//! after every model call, a machine-readable reason of a failure (`codexErrorInfo`), and `turn/interrupt`,
//! which ends a running command too, where a signal leaves the command behind. The prompt travels in the
//! stream, so that its length has no limit. Analytics are off: they delay the exit by five seconds.
//!
//! It runs without Codex's own sandbox and approvals, as the attempt has a workspace of its own and nobody
//! is there to ask; a request for approval that comes all the same is granted.
//!
//! ```text
//! > initialize            < result
//! > initialized, thread/start   < result (thread id, model)
//! > turn/start            < result (turn id), item/* …, thread/tokenUsage/updated
//! > turn/interrupt        < turn/completed (completed | interrupted | failed)
//! ```

mod items;
mod outcome;
mod requests;

use std::collections::BTreeMap;

use orchestra_types::{EventKind, Exit, Failure, FailureCode, Timestamp, Usage};
use serde_json::{Value, json};

use super::{
    adapter::{Action, Adapter, CommandLine, Launch, Stream, Verdict},
    json::{at, line, list, number, object, shown, text},
    launch::args,
    provider_error,
    story::{Ending, Story, Voice, checklist},
};

/// Ids of our requests, in the order in which they are sent.
const INITIALIZE: u64 = 1;
const THREAD_START: u64 = 2;
const TURN_START: u64 = 3;
const TURN_INTERRUPT: u64 = 4;

/// Codex CLI.
#[derive(Debug, Default)]
pub(super) struct Codex {
    story: Story,
    cwd: String,
    prompt: String,
    model: Option<String>,
    thread: String,
    turn: String,
    streamed_item: String,
    used: BTreeMap<String, Usage>,
    last_error: Value,
    resets_at: Option<Timestamp>,
}

impl Adapter for Codex {
    fn command(&mut self, launch: &Launch<'_>) -> Result<CommandLine, Failure> {
        self.cwd = launch.cwd.to_string_lossy().into_owned();
        launch.prompt.clone_into(&mut self.prompt);
        self.model = launch.wanted_model().map(str::to_owned);
        let arguments = args(["-c", "analytics.enabled=false", "app-server"]);
        let mut command = launch.command_line(arguments, &[]);
        command.stdin = request(
            INITIALIZE,
            "initialize",
            &json!({ "clientInfo": {
                "name": "orchestra", "title": "Orchestra", "version": env!("CARGO_PKG_VERSION"),
            } }),
        );
        command.keep_stdin = true;
        Ok(command)
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
        let running = !self.turn.is_empty() && !self.story.has_ended();
        if running && !self.story.is_cancelled() {
            let params = json!({ "threadId": self.thread, "turnId": self.turn });
            self.story
                .write(request(TURN_INTERRUPT, "turn/interrupt", &params));
        }
        self.story.cancel();
        self.story.take()
    }

    fn finish(&mut self, exit: &Exit) -> Verdict {
        self.story.verdict(exit)
    }
}

impl Codex {
    fn on_message(&mut self, message: &Value) {
        let is_request = message.get("id").is_some();
        match (text(message, "/method"), is_request) {
            ("", true) => self.on_response(message),
            ("", false) => self.story.raw(),
            (_, true) => requests::answer(&mut self.story, message, &self.cwd),
            (method, false) => self.on_notification(method, at(message, "/params")),
        }
    }

    fn on_response(&mut self, message: &Value) {
        let id = number(message, "/id");
        if let Some(error) = message.get("error") {
            return self.on_refused(id, error);
        }
        let result = at(message, "/result");
        match id {
            INITIALIZE => self.start_thread(),
            THREAD_START => self.start_turn(result),
            TURN_START => text(result, "/turn/id").clone_into(&mut self.turn),
            _ => {}
        }
    }

    fn on_refused(&mut self, id: u64, error: &Value) {
        // An interrupt that comes too late is refused, which is no news.
        if id != TURN_INTERRUPT {
            let failure = provider_error::failure(None, text(error, "/message"));
            self.story.fail(failure);
        }
    }

    fn start_thread(&mut self) {
        self.story.write(line(&json!({ "method": "initialized" })));
        let mut params = json!({
            "cwd": self.cwd,
            "approvalPolicy": "never",
            "sandbox": "danger-full-access",
        });
        if let Some(model) = &self.model {
            params["model"] = json!(model);
        }
        self.story
            .write(request(THREAD_START, "thread/start", &params));
    }

    fn start_turn(&mut self, result: &Value) {
        text(result, "/thread/id").clone_into(&mut self.thread);
        self.story.session(&self.thread, text(result, "/model"));
        if self.story.is_cancelled() {
            let failure = Failure::new(FailureCode::Cancelled, "it was stopped before it began");
            return self.story.fail(failure);
        }
        let params = json!({
            "threadId": self.thread,
            "input": [{ "type": "text", "text": self.prompt }],
        });
        self.story.write(request(TURN_START, "turn/start", &params));
    }

    /// Threads other than ours are those of sub-agents.
    fn agent(&self, params: &Value) -> String {
        match text(params, "/threadId") {
            thread if thread == self.thread => String::new(),
            thread => thread.to_owned(),
        }
    }

    fn on_notification(&mut self, method: &str, params: &Value) {
        let agent = self.agent(params);
        match method {
            "item/agentMessage/delta" => {
                let (id, piece) = (text(params, "/itemId"), text(params, "/delta"));
                self.story.delta(&agent, Voice::Says, id, piece);
            }
            "item/reasoning/summaryTextDelta" | "item/reasoning/textDelta" => {
                self.on_thought(&agent, params);
            }
            "item/started" => {
                let item = at(params, "/item");
                items::on_started(&mut self.story, &agent, item, &self.cwd);
            }
            "item/completed" => self.on_completed(&agent, at(params, "/item")),
            "turn/plan/updated" => {
                let text = checklist(list(params, "/plan"));
                self.story.emit(&agent, EventKind::Plan { text });
            }
            "thread/tokenUsage/updated" => self.on_usage(params),
            "account/rateLimits/updated" => self.on_rate_limits(at(params, "/rateLimits")),
            "error" => self.on_error(params),
            "warning" => self.story.status("warning", text(params, "/message"), &[]),
            "turn/completed" if agent.is_empty() => self.on_turn_completed(at(params, "/turn")),
            _ => {}
        }
    }

    fn on_thought(&mut self, agent: &str, params: &Value) {
        let item = text(params, "/itemId");
        item.clone_into(&mut self.streamed_item);
        let part = number(params, "/summaryIndex").max(number(params, "/contentIndex"));
        let piece = text(params, "/delta");
        self.story
            .delta(agent, Voice::Thinks, &format!("{item}:{part}"), piece);
    }

    fn on_completed(&mut self, agent: &str, item: &Value) {
        match text(item, "/type") {
            "reasoning" if text(item, "/id") == self.streamed_item => {}
            "agentMessage" if agent.is_empty() => {
                self.story.set_text(text(item, "/text"));
                items::on_completed(&mut self.story, agent, item, &self.cwd);
            }
            _ => items::on_completed(&mut self.story, agent, item, &self.cwd),
        }
    }

    /// Totals of a thread; the attempt's are the sum over its threads.
    fn on_usage(&mut self, params: &Value) {
        let thread = text(params, "/threadId");
        let total = at(params, "/tokenUsage/total");
        let turns = self.used.get(thread).map_or(0, |u| u.turns);
        let usage = Usage {
            input_tokens: number(total, "/inputTokens"),
            output_tokens: number(total, "/outputTokens"),
            cached_tokens: number(total, "/cachedInputTokens"),
            cost_microusd: None,
            turns: turns + 1,
        };
        self.used.insert(thread.to_owned(), usage);
        let sum = self
            .used
            .values()
            .copied()
            .fold(Usage::default(), Usage::plus);
        self.story.used(sum);
    }

    fn on_rate_limits(&mut self, limits: &Value) {
        self.resets_at = outcome::resets_at(limits);
        if let Some(at) = self.resets_at {
            let fields = [("resets_at_ms", at.0.to_string())];
            let what = "the account's limit is reached";
            self.story.status("rate_limited", what, &fields);
        }
    }

    fn on_error(&mut self, params: &Value) {
        let error = at(params, "/error");
        if at(params, "/willRetry").as_bool().unwrap_or_default() {
            let fields = [("error", shown(at(error, "/codexErrorInfo")))];
            let phase = match outcome::status(at(error, "/codexErrorInfo")) {
                Some(429) => "rate_limited",
                _ => "retrying",
            };
            self.story.status(phase, &outcome::words(error), &fields);
        } else {
            self.last_error = error.clone();
        }
    }

    /// A turn may end while commands run; they end with the CLI, and what they still had to do is lost.
    fn warn_of_running(&mut self) {
        let running = self.story.open_calls_of(items::COMMAND);
        let (commands, were) = match running {
            0 => return,
            1 => ("command", "was"),
            _ => ("commands", "were"),
        };
        let what = format!(
            "{running} {commands} still ran when the agent ended its turn, and {were} stopped"
        );
        self.story.status("warning", &what, &[]);
    }

    fn on_turn_completed(&mut self, turn: &Value) {
        let error = match at(turn, "/error") {
            Value::Null => self.last_error.clone(),
            error => error.clone(),
        };
        let ending = match text(turn, "/status") {
            "completed" => {
                self.warn_of_running();
                Ending::Success
            }
            "interrupted" => {
                let failure = Failure::new(FailureCode::Cancelled, "it was interrupted");
                Ending::Failed(failure)
            }
            _ => {
                let failure = outcome::failure(&error);
                Ending::Failed(provider_error::with_reset(failure, self.resets_at))
            }
        };
        self.story.end(ending);
    }
}

fn request(id: u64, method: &str, params: &Value) -> Vec<u8> {
    line(&json!({ "id": id, "method": method, "params": params }))
}
