//! Codex's items: what the agent says, thinks and does.

use orchestra_types::event::ToolStatus;
use serde_json::{Value, json};

use crate::cli::{
    json::{at, list, shown, text},
    story::{Call, Story, Voice},
    title,
};

/// The tool that runs commands.
pub(super) const COMMAND: &str = "shell";

/// An item began. Texts are told by their pieces, tools now.
pub(super) fn on_started(story: &mut Story, agent: &str, item: &Value, cwd: &str) {
    if !is_text(text(item, "/type")) {
        call(story, agent, item, cwd);
    }
}

/// An item is whole.
pub(super) fn on_completed(story: &mut Story, agent: &str, item: &Value, cwd: &str) {
    let id = text(item, "/id");
    match text(item, "/type") {
        "agentMessage" => story.snapshot(agent, Voice::Says, id, text(item, "/text")),
        "reasoning" => {
            for (part, thought) in list(item, "/summary").iter().enumerate() {
                let id = format!("{id}:{part}");
                story.snapshot(agent, Voice::Thinks, &id, &shown(thought));
            }
        }
        kind if is_text(kind) => {}
        _ => {
            if !story.is_open(id) {
                call(story, agent, item, cwd);
            }
            story.tool_result(agent, id, status(item), &output(item));
        }
    }
}

/// Items that are no tool calls.
fn is_text(kind: &str) -> bool {
    matches!(
        kind,
        "userMessage" | "agentMessage" | "reasoning" | "plan" | "hookPrompt" | "contextCompaction"
    )
}

fn call(story: &mut Story, agent: &str, item: &Value, cwd: &str) {
    let (tool, title, input) = match text(item, "/type") {
        "commandExecution" => (
            COMMAND.to_owned(),
            command(item),
            json!({
                "command": at(item, "/command"),
            }),
        ),
        "fileChange" => (
            "apply_patch".to_owned(),
            paths(item, cwd),
            json!({
                "changes": at(item, "/changes"),
            }),
        ),
        "mcpToolCall" => {
            let input = at(item, "/arguments").clone();
            (mcp_tool(item), title::of_input(&input, cwd), input)
        }
        "webSearch" => (
            "web_search".to_owned(),
            text(item, "/query").to_owned(),
            json!({
                "query": at(item, "/query"),
            }),
        ),
        kind => (kind.to_owned(), title::of_input(item, cwd), item.clone()),
    };
    let call = Call {
        call_id: text(item, "/id"),
        tool: &tool,
        title: &title::line(&title, cwd),
        input: &input,
    };
    story.tool_call(agent, &call);
}

/// The command as the model wrote it: Codex wraps it as `/bin/bash -lc '…'`.
fn command(item: &Value) -> String {
    match list(item, "/commandActions") {
        [action] if !text(action, "/command").is_empty() => text(action, "/command").to_owned(),
        _ => text(item, "/command").to_owned(),
    }
}

fn paths(item: &Value, cwd: &str) -> String {
    let changes = list(item, "/changes");
    let paths: Vec<String> = changes
        .iter()
        .map(|change| title::line(text(change, "/path"), cwd))
        .collect();
    paths.join(", ")
}

fn mcp_tool(item: &Value) -> String {
    format!("{}.{}", text(item, "/server"), text(item, "/tool"))
}

fn status(item: &Value) -> ToolStatus {
    match text(item, "/status") {
        "failed" | "declined" => ToolStatus::Error,
        _ => ToolStatus::Ok,
    }
}

fn output(item: &Value) -> String {
    match text(item, "/type") {
        "commandExecution" => text(item, "/aggregatedOutput").to_owned(),
        "mcpToolCall" => mcp_output(item),
        "fileChange" => diffs(item),
        _ => String::new(),
    }
}

fn mcp_output(item: &Value) -> String {
    match at(item, "/error") {
        Value::Null => {
            let parts = list(item, "/result/content");
            let texts: Vec<&str> = parts.iter().map(|p| text(p, "/text")).collect();
            texts.join("\n")
        }
        error => match text(error, "/message") {
            "" => shown(error),
            message => message.to_owned(),
        },
    }
}

fn diffs(item: &Value) -> String {
    let changes = list(item, "/changes").iter();
    let diffs: Vec<String> = changes
        .map(|c| format!("{}\n{}", text(c, "/path"), text(c, "/diff")))
        .collect();
    diffs.join("\n")
}
