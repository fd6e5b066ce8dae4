//! The conversation with an agent.
//!
//! ```text
//! > initialize      < result (no file system and no terminal of ours are offered)
//! > session/new     < result (session, modes, models)
//! > session/set_…   < result, where it is needed
//! > session/prompt  < session/update …, session/request_permission, …
//! > session/cancel  < result (stopReason)
//! ```

use orchestra_types::{EventKind, Exit, Failure, FailureCode};
use serde_json::{Value, json};

use super::{
    agents::{ModelBy, Profile},
    calls::Calls,
    outcome, permission, setup,
    usage::Counter,
};
use crate::cli::{
    adapter::{Action, Adapter, CommandLine, Launch, Stream, Verdict},
    json::{at, line, list, number, object, shown, text},
    launch::args,
    story::{Ending, Story, Voice, checklist},
};

/// Ids of our requests. Those of `setup` follow `SETUP`, the prompt comes last.
const INITIALIZE: u64 = 1;
const SESSION_NEW: u64 = 2;
const PROMPT: u64 = 3;
const SETUP: u64 = 100;
/// A message longer than this is the agent's own.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// An agent that speaks ACP.
#[derive(Debug)]
pub(in crate::cli) struct Acp {
    profile: &'static Profile,
    story: Story,
    calls: Calls,
    counter: Counter,
    cwd: String,
    prompt: String,
    model: Option<String>,
    session: String,
    prompted: bool,
    setup: Vec<setup::Request>,
    how_to_log_in: String,
    segment: Segment,
}

/// The text in the making: pieces of one kind, until something else happens.
#[derive(Debug, Default)]
struct Segment {
    count: u64,
    voice: Option<Voice>,
    last_piece: String,
    /// The last message of the main agent, and its id.
    message: String,
    message_id: String,
    is_over: bool,
}

impl Acp {
    /// A client for the CLI of `profile`.
    pub(in crate::cli) fn new(profile: &'static Profile) -> Self {
        Self {
            profile,
            story: Story::default(),
            calls: Calls::default(),
            counter: match profile.tells_each_call {
                true => Counter::per_call(),
                false => Counter::default(),
            },
            cwd: String::new(),
            prompt: String::new(),
            model: None,
            session: String::new(),
            prompted: false,
            setup: Vec::new(),
            how_to_log_in: String::new(),
            segment: Segment::default(),
        }
    }
}

impl Adapter for Acp {
    fn command(&mut self, launch: &Launch<'_>) -> Result<CommandLine, Failure> {
        self.cwd = launch.cwd.to_string_lossy().into_owned();
        launch.prompt.clone_into(&mut self.prompt);
        let mut arguments: Vec<String> = self.profile.args.iter().map(|&a| a.into()).collect();
        let mut env = self.profile.env.to_vec();
        match (launch.wanted_model(), self.profile.model) {
            (None, _) => {}
            (Some(model), ModelBy::Flag(flag)) => arguments.extend(args([flag, model])),
            (Some(model), ModelBy::Env(name)) => env.push((name, model)),
            (Some(model), ModelBy::Protocol) => self.model = Some(model.to_owned()),
        }
        let mut command = launch.command_line(arguments, &env);
        command.stdin = line(&initialize());
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
        if self.prompted && !self.story.has_ended() && !self.story.is_cancelled() {
            let cancel = json!({
                "jsonrpc": "2.0",
                "method": "session/cancel",
                "params": { "sessionId": self.session },
            });
            self.story.write(line(&cancel));
        }
        self.story.cancel();
        self.story.take()
    }

    fn finish(&mut self, exit: &Exit) -> Verdict {
        self.calls.tell_held(&mut self.story, &self.cwd);
        self.story.verdict(exit)
    }
}

impl Acp {
    fn on_message(&mut self, message: &Value) {
        let has_id = message.get("id").is_some();
        match (text(message, "/method"), has_id) {
            ("", true) => self.on_response(message),
            ("", false) => self.story.raw(),
            ("session/request_permission", true) => self.on_permission(message),
            (method, true) => {
                // What was not offered is asked for all the same by some; the CLI then does it itself.
                let error =
                    json!({ "code": -32601, "message": format!("not supported: {method}") });
                let id = at(message, "/id");
                let answer = json!({ "jsonrpc": "2.0", "id": id, "error": error });
                self.story.write(line(&answer));
            }
            ("session/update", false) => self.on_update(at(message, "/params/update")),
            (method, false) if method.starts_with('_') => {}
            (_, false) => self.story.raw(),
        }
    }

    fn on_response(&mut self, message: &Value) {
        let id = number(message, "/id");
        let result = at(message, "/result");
        match (id, message.get("error")) {
            (PROMPT, Some(error)) => self.end(Err(error)),
            (PROMPT, None) => self.end(Ok(result)),
            (SETUP.., error) => self.on_setup(error),
            (_, Some(error)) => {
                let failure = outcome::of_error(error, &self.how_to_log_in);
                self.story.fail(failure);
            }
            (INITIALIZE, None) => self.on_initialized(result),
            (SESSION_NEW, None) => self.on_session(result),
            _ => {}
        }
    }

    fn on_initialized(&mut self, result: &Value) {
        let methods = list(result, "/authMethods").iter();
        let how: Vec<&str> = methods
            .map(|method| match text(method, "/description") {
                "" => text(method, "/name"),
                description => description,
            })
            .collect();
        self.how_to_log_in = how.join("; ");
        let params = json!({ "cwd": self.cwd, "mcpServers": [] });
        self.request(SESSION_NEW, "session/new", &params);
    }

    fn on_session(&mut self, result: &Value) {
        text(result, "/sessionId").clone_into(&mut self.session);
        let model = setup::current_model(result);
        self.story.session(&self.session, &model);
        match setup::plan(self.profile.mode, self.model.as_deref(), result) {
            Ok(plan) => {
                self.setup = plan;
                self.go_on();
            }
            Err(failure) => self.story.fail(failure),
        }
    }

    /// The answer to the first request of the set-up.
    fn on_setup(&mut self, error: Option<&Value>) {
        let done = match self.setup.is_empty() {
            true => return,
            false => self.setup.remove(0),
        };
        match (error, done.model) {
            (None, Some(model)) => self.story.session(&self.session, &model),
            (None, None) => {}
            (Some(error), Some(model)) => {
                let why = format!(
                    "the model `{model}` was refused: {}",
                    text(error, "/message")
                );
                return self.story.fail(Failure::new(FailureCode::BadRequest, why));
            }
            // Without its mode the agent asks, and is allowed what it asks for.
            (Some(error), None) => {
                let why = format!("{} was refused", done.method);
                let fields = [("error", text(error, "/message").to_owned())];
                self.story.status("warning", &why, &fields);
            }
        }
        self.go_on();
    }

    /// Sends the next request of the set-up, or the prompt.
    fn go_on(&mut self) {
        if self.story.is_cancelled() {
            let failure = Failure::new(FailureCode::Cancelled, "it was stopped before it began");
            return self.story.fail(failure);
        }
        if let Some(next) = self.setup.first() {
            let (method, mut params) = (next.method, next.params.clone());
            params["sessionId"] = json!(self.session);
            return self.request(SETUP, method, &params);
        }
        let params = json!({
            "sessionId": self.session,
            "prompt": [{ "type": "text", "text": self.prompt }],
        });
        self.prompted = true;
        self.request(PROMPT, "session/prompt", &params);
    }

    fn request(&mut self, id: u64, method: &str, params: &Value) {
        let request = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        self.story.write(line(&request));
    }

    fn on_permission(&mut self, message: &Value) {
        self.segment.end();
        let call = at(message, "/params/toolCall");
        self.calls.on_asked(&mut self.story, call, &self.cwd);
        let choice = permission::choose(message, self.story.is_cancelled());
        let kind = EventKind::PermissionRequest {
            request_id: shown(at(message, "/id")),
            tool: super::calls::tool(call),
            title: super::calls::title(call, &self.cwd),
            decision: choice.decision.to_owned(),
        };
        self.story.emit("", kind);
        let id = at(message, "/id");
        let answer = json!({ "jsonrpc": "2.0", "id": id, "result": choice.result });
        self.story.write(line(&answer));
    }

    fn on_update(&mut self, update: &Value) {
        match text(update, "/sessionUpdate") {
            "agent_message_chunk" => self.on_chunk(Voice::Says, update),
            "agent_thought_chunk" => self.on_chunk(Voice::Thinks, update),
            "tool_call" => {
                self.segment.end();
                self.counter.on_output(update);
                self.calls.on_call(&mut self.story, update, &self.cwd);
            }
            "tool_call_update" => {
                self.segment.pause();
                self.calls.on_update(&mut self.story, update, &self.cwd);
            }
            "plan" => {
                let text = checklist(list(update, "/entries"));
                self.story.emit(agent(update), EventKind::Plan { text });
            }
            "usage_update" => self.counter.on_update(&mut self.story, update),
            "session_info_update" => self.counter.on_info(update),
            "user_message_chunk"
            | "available_commands_update"
            | "config_option_update"
            | "current_mode_update" => {}
            _ => self.story.raw(),
        }
    }

    fn on_chunk(&mut self, voice: Voice, update: &Value) {
        self.counter.on_call(&mut self.story, update);
        self.counter.on_output(update);
        let piece = text(update, "/content/text");
        if piece.is_empty() {
            return;
        }
        if self.profile.speaks_for_the_agent
            && voice == Voice::Says
            && let Some(note) = piece.strip_prefix("Info: ")
        {
            return self.story.status("info", note, &[]);
        }
        let id = self.segment.id(voice, text(update, "/messageId"));
        piece.clone_into(&mut self.segment.last_piece);
        self.story.delta(agent(update), voice, &id, piece);
        if voice == Voice::Says && agent(update).is_empty() {
            self.segment.keep(&mut self.story, &id, piece);
        }
    }

    fn end(&mut self, answer: Result<&Value, &Value>) {
        self.calls.tell_held(&mut self.story, &self.cwd);
        let counted = answer.is_ok_and(|result| self.counter.on_result(&mut self.story, result));
        let said = outcome::Said {
            last_message: &self.segment.message,
            last_piece: &self.segment.last_piece,
            speaks_for_the_agent: self.profile.speaks_for_the_agent,
            notes: self.profile.notes,
            counted,
        };
        let is_error = said.failure().is_some();
        let ending = match answer {
            Err(error) => outcome::on_error(error, &self.how_to_log_in, &self.story),
            Ok(result) => outcome::on_result(result, &said),
        };
        // The text of an error is the error, not what the agent said.
        if is_error {
            self.segment.unsay(&mut self.story);
        }
        if ending == Ending::Success {
            self.counter.settle(&mut self.story);
        }
        self.story.end(ending);
    }
}

impl Segment {
    /// A tool is called: what was said before it is not the final text, unless nothing follows.
    fn end(&mut self) {
        self.pause();
        self.is_over = true;
    }

    /// What comes next is a new text. A result may come late, so that it does not unsay what was said.
    fn pause(&mut self) {
        self.voice = None;
        self.last_piece.clear();
    }

    /// Adds to the final text, or begins it anew.
    fn keep(&mut self, story: &mut Story, id: &str, piece: &str) {
        if std::mem::take(&mut self.is_over) {
            story.set_text("");
            self.message.clear();
        }
        if self.message_id != id {
            id.clone_into(&mut self.message_id);
            self.message.clear();
        }
        story.add_text(piece);
        if self.message.len() < MESSAGE_BYTES_MAX {
            self.message.push_str(piece);
        }
    }

    /// Takes the last message back from the final text.
    fn unsay(&self, story: &mut Story) {
        let before = story.text().strip_suffix(&self.message).unwrap_or_default();
        let before = before.trim_end().to_owned();
        story.set_text(&before);
    }

    /// The id of the text that a piece belongs to: the agent's own, or one that is counted.
    fn id(&mut self, voice: Voice, given: &str) -> String {
        if self.voice != Some(voice) {
            self.voice = Some(voice);
            self.count += 1;
        }
        match given {
            "" => format!("text_{}", self.count),
            id => id.to_owned(),
        }
    }
}

/// The sub-agent that an update is about, where the agent says it.
pub(super) fn agent(update: &Value) -> &str {
    text(update, "/_meta/claudeCode/parentToolUseId")
}

fn initialize() -> Value {
    json!({
        "jsonrpc": "2.0",
        "id": INITIALIZE,
        "method": "initialize",
        "params": {
            "protocolVersion": 1,
            "clientCapabilities": {
                "fs": { "readTextFile": false, "writeTextFile": false },
                "terminal": false,
            },
            "clientInfo": { "name": "orchestra", "version": env!("CARGO_PKG_VERSION") },
        },
    })
}
