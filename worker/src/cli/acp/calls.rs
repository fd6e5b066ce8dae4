//! Tool calls, as agents really tell them: some say a call twice, some first without its arguments, some
//! never before its result, and some leave it open.

use std::collections::BTreeMap;

use orchestra_types::event::ToolStatus;
use serde_json::{Value, json};

use super::client::agent;
use crate::cli::{
    json::{at, list, shown, text},
    story::{Call, Story},
    title as titles,
};

/// Most ids of calls that are remembered, so that a repeated one is not told twice.
const REMEMBERED_MAX: usize = 4096;

/// The calls of a session.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// Calls that were announced without arguments, held until these are known.
    held: Vec<Value>,
    /// Every call that was told, and whether it has ended.
    told: BTreeMap<String, bool>,
}

impl Calls {
    /// `tool_call`.
    pub(super) fn on_call(&mut self, story: &mut Story, update: &Value, cwd: &str) {
        if self.told.contains_key(id(update)) {
            return self.on_update(story, update, cwd);
        }
        self.hold(update);
        self.on_update(story, update, cwd);
    }

    /// `tool_call_update`, also for a call that was never announced.
    pub(super) fn on_update(&mut self, story: &mut Story, update: &Value, cwd: &str) {
        self.hold(update);
        let status = text(update, "/status");
        let ends = matches!(status, "completed" | "failed");
        if ends || status == "in_progress" || self.has_arguments(id(update)) {
            self.tell(story, id(update), cwd);
        }
        if ends && self.told.get(id(update)) == Some(&false) {
            let status = match (status, story.is_cancelled()) {
                (_, true) => ToolStatus::Aborted,
                ("failed", false) => ToolStatus::Error,
                (_, false) => ToolStatus::Ok,
            };
            self.told.insert(id(update).to_owned(), true);
            story.tool_result(agent(update), id(update), status, &output(update));
        }
    }

    /// Permission was asked for a call: it carries what is known of it.
    pub(super) fn on_asked(&mut self, story: &mut Story, call: &Value, cwd: &str) {
        self.hold(call);
        self.tell(story, id(call), cwd);
    }

    /// Tells the calls that are still held.
    pub(super) fn tell_held(&mut self, story: &mut Story, cwd: &str) {
        let ids: Vec<String> = self.held.iter().map(|c| id(c).to_owned()).collect();
        for id in ids {
            self.tell(story, &id, cwd);
        }
    }

    /// Adds what an update says to what is known of a call that was not told yet.
    fn hold(&mut self, update: &Value) {
        if self.told.contains_key(id(update)) {
            return;
        }
        match self.held.iter_mut().find(|c| id(c) == id(update)) {
            Some(known) => merge(known, update),
            None => self.held.push(update.clone()),
        }
    }

    /// The directory alone, with which opencode announces a command, is no argument yet.
    fn has_arguments(&self, call_id: &str) -> bool {
        let known = self.held.iter().find(|c| id(c) == call_id);
        let arguments = known.and_then(|call| at(call, "/rawInput").as_object());
        arguments.is_some_and(|fields| fields.keys().any(|name| name != "cwd"))
    }

    fn tell(&mut self, story: &mut Story, call_id: &str, cwd: &str) {
        let Some(at) = self.held.iter().position(|c| id(c) == call_id) else {
            return;
        };
        let call = self.held.remove(at);
        if self.told.len() >= REMEMBERED_MAX {
            self.told.pop_first();
        }
        self.told.insert(call_id.to_owned(), false);
        let told = Call {
            call_id,
            tool: &tool(&call),
            title: &title(&call, cwd),
            input: &input(&call),
        };
        story.tool_call(agent(&call), &told);
    }
}

/// The tool's own name where the agent says it, else the kind of the call.
pub(super) fn tool(call: &Value) -> String {
    const NAMES: [&str; 3] = [
        "/_meta/goose/toolCall/toolName",
        "/_meta/claudeCode/toolName",
        "/_meta/toolName",
    ];
    let named = NAMES
        .iter()
        .map(|at| text(call, at))
        .find(|n| !n.is_empty());
    let title = text(call, "/title");
    match (named, text(call, "/kind")) {
        (Some(name), _) => name.to_owned(),
        (None, "" | "other") => title
            .split([' ', ':'])
            .next()
            .unwrap_or_default()
            .to_owned(),
        (None, kind) => kind.to_owned(),
    }
}

/// A line for people: from the arguments, else the agent's own title.
pub(super) fn title(call: &Value, cwd: &str) -> String {
    let from_input = match at(call, "/rawInput") {
        Value::Object(fields) if !fields.is_empty() => titles::of_input(at(call, "/rawInput"), cwd),
        _ => String::new(),
    };
    match from_input.as_str() {
        "" => titles::line(text(call, "/title"), cwd),
        // Arguments that say nothing in one line are shown as JSON, which a title beats.
        json if json.starts_with('{') && !text(call, "/title").is_empty() => {
            titles::line(text(call, "/title"), cwd)
        }
        _ => from_input,
    }
}

fn id(call: &Value) -> &str {
    text(call, "/toolCallId")
}

fn input(call: &Value) -> Value {
    match (at(call, "/rawInput"), text(call, "/locations/0/path")) {
        (Value::Object(fields), _) if !fields.is_empty() => at(call, "/rawInput").clone(),
        (_, "") => Value::Null,
        (_, path) => json!({ "path": path }),
    }
}

/// Later facts win, except empty ones.
fn merge(known: &mut Value, update: &Value) {
    let (Value::Object(known), Value::Object(update)) = (known, update) else {
        return;
    };
    for (name, value) in update {
        let is_empty = match value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            Value::Bool(_) | Value::Number(_) => false,
        };
        if !is_empty {
            known.insert(name.clone(), value.clone());
        }
    }
}

/// What the tool returned: its texts and edits, else its raw output.
fn output(update: &Value) -> String {
    let parts = list(update, "/content").iter();
    let shown_parts: Vec<String> = parts.map(part).filter(|t| !t.is_empty()).collect();
    let raw = at(update, "/rawOutput");
    match (shown_parts.is_empty(), raw) {
        (false, _) => shown_parts.join("\n"),
        (true, Value::Object(_)) => ["/output", "/content", "/error", "/message"]
            .iter()
            .map(|at| text(raw, at))
            .find(|text| !text.is_empty())
            .map_or_else(|| raw.to_string(), str::to_owned),
        (true, other) => shown(other),
    }
}

fn part(part: &Value) -> String {
    match text(part, "/type") {
        "content" => match text(part, "/content/type") {
            "text" => text(part, "/content/text").to_owned(),
            kind => format!("[{kind}]"),
        },
        "diff" => format!("edited {}", text(part, "/path")),
        kind => format!("[{kind}]"),
    }
}
