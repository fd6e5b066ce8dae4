//! Writes the JSON lines of `docs/agent-format.md`, and keeps what they need to be right: the sums
//! of tokens over all agents, and the tool calls that are still open.

use std::{
    collections::BTreeMap,
    io::Write,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::{Map, Value, json};

use crate::{chat::Tokens, failure::Failure};

/// The events of one agent. Clones and children write to the same place.
#[derive(Clone)]
pub struct Events {
    agent: String,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    out: Box<dyn Write + Send>,
    broken: bool,
    used: Tokens,
    calls: u64,
    texts: u64,
    open: BTreeMap<String, String>,
}

/// How a tool call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolStatus {
    /// It worked.
    Ok,
    /// It failed.
    Error,
    /// It was stopped.
    Aborted,
}

impl Events {
    /// The events of the main agent.
    pub fn new(out: Box<dyn Write + Send>) -> Self {
        let shared = Shared {
            out,
            broken: false,
            used: Tokens::default(),
            calls: 0,
            texts: 0,
            open: BTreeMap::new(),
        };
        Self {
            agent: String::new(),
            shared: Arc::new(Mutex::new(shared)),
        }
    }

    /// The events of a child agent.
    pub fn child(&self, agent: &str) -> Self {
        Self {
            agent: agent.to_owned(),
            shared: Arc::clone(&self.shared),
        }
    }

    /// Whether nobody reads any more.
    pub fn is_broken(&self) -> bool {
        self.lock().broken
    }

    /// The run has begun.
    pub fn session(&self, model: &str) {
        self.line("session", json!({ "model": model }));
    }

    /// The next model call begins.
    pub fn turn(&self, number: u64) {
        self.line("turn", json!({ "number": number }));
    }

    /// A fresh id for a text that comes in pieces.
    pub fn text_id(&self) -> String {
        let mut shared = self.lock();
        shared.texts += 1;
        format!("m{}", shared.texts)
    }

    /// A text, or a piece of one.
    pub fn text(&self, kind: TextKind, id: &str, content: &str, form: TextForm) {
        let mut fields = json!({ "id": id, "content": content });
        if form == TextForm::Piece {
            fields["delta"] = json!(true);
        }
        let name = match kind {
            TextKind::Message => "message",
            TextKind::Thinking => "thinking",
        };
        self.line(name, fields);
    }

    /// A tool is called.
    pub fn tool_call(&self, id: &str, tool: &str, args: &Value) {
        self.lock().open.insert(id.to_owned(), self.agent.clone());
        self.line("tool_call", json!({ "id": id, "tool": tool, "args": args }));
    }

    /// A tool call ended.
    pub fn tool_result(&self, id: &str, status: ToolStatus, output: &str) {
        self.lock().open.remove(id);
        let status = match status {
            ToolStatus::Ok => "ok",
            ToolStatus::Error => "error",
            ToolStatus::Aborted => "aborted",
        };
        self.line(
            "tool_result",
            json!({ "id": id, "status": status, "output": output }),
        );
    }

    /// Ends every tool call that is open, since its agent was stopped.
    pub fn abort_open_calls(&self) {
        let open = std::mem::take(&mut self.lock().open);
        for (id, agent) in open {
            self.child(&agent).tool_result(&id, ToolStatus::Aborted, "");
        }
    }

    /// The whole to-do list.
    pub fn plan(&self, entries: &Value) {
        self.line("plan", json!({ "entries": entries }));
    }

    /// Adds the tokens of a model call, and says the sums.
    pub fn used(&self, tokens: Tokens) {
        let (used, calls) = {
            let mut shared = self.lock();
            shared.used.input += tokens.input;
            shared.used.output += tokens.output;
            shared.used.cached += tokens.cached;
            shared.calls += 1;
            (shared.used, shared.calls)
        };
        let sums = json!({
            "input_tokens": used.input, "output_tokens": used.output,
            "cached_tokens": used.cached, "turns": calls,
        });
        // The sums are the whole run's, so the line is the main agent's whoever spent them.
        self.child("").line("usage", sums);
    }

    /// Something to notice that ends nothing.
    pub fn status(&self, phase: &str, text: &str, fields: &Value) {
        self.line(
            "status",
            json!({ "phase": phase, "text": text, "fields": fields }),
        );
    }

    /// The end, with the final text.
    pub fn result(&self, content: &str) {
        self.line("result", json!({ "content": content }));
    }

    /// The end, with why it failed.
    pub fn error(&self, failure: &Failure) {
        let mut fields = json!({ "code": failure.code.word(), "message": failure.message });
        if let Some(resets_at) = failure.resets_at {
            fields["resets_at"] = json!(resets_at);
        }
        self.line("error", fields);
    }

    fn line(&self, kind: &str, fields: Value) {
        let mut line = Map::new();
        line.insert("type".to_owned(), json!(kind));
        if !self.agent.is_empty() {
            line.insert("agent_id".to_owned(), json!(self.agent));
        }
        if let Value::Object(fields) = fields {
            line.extend(fields);
        }
        let text = format!("{}\n", Value::Object(line));
        let mut shared = self.lock();
        let written = shared
            .out
            .write_all(text.as_bytes())
            .and_then(|()| shared.out.flush());
        shared.broken |= written.is_err();
    }

    /// A poisoned lock only means that another holder panicked; the counters are still whole.
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextKind {
    /// The agent says it.
    Message,
    /// The agent thinks it.
    Thinking,
}

/// Whether a text is a piece or the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextForm {
    /// Append it to what was said under the same id.
    Piece,
    /// It replaces the pieces.
    Whole,
}
