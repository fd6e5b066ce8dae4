//! OpenAI Responses.

use serde_json::{Value, json};

use super::{Frame, list, text, text_of};
use crate::{
    answer::{Answer, Call, CallInput, fresh_id, pieces},
    conversation::{Api, Conversation, Item, OfferedTool, ToolInput},
};

/// The request in plain words.
pub fn parse(body: &Value) -> Conversation {
    let mut system = text(body, "instructions");
    let mut items = Vec::new();
    match body.get("input") {
        Some(Value::String(prompt)) => items.extend(Item::user(prompt.as_str())),
        Some(Value::Array(input)) => {
            for entry in input {
                items.extend(entry_items(entry, &mut system));
            }
        }
        Some(_) | None => {}
    }
    Conversation {
        api: Api::Responses,
        model: text(body, "model"),
        system,
        items,
        tools: list(body, "tools").iter().flat_map(offered).collect(),
        stream: body.get("stream") == Some(&Value::Bool(true)),
        answer_schema: body.pointer("/text/format/schema").cloned(),
    }
}

fn entry_items(entry: &Value, system: &mut String) -> Vec<Item> {
    let kind = entry
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or("message");
    match kind {
        "message" => message_items(entry, system),
        "function_call" | "custom_tool_call" => vec![Item::Call(text(entry, "name"))],
        "function_call_output" | "custom_tool_call_output" => {
            vec![Item::Result(
                entry.get("output").map(text_of).unwrap_or_default(),
            )]
        }
        _ => Vec::new(),
    }
}

fn message_items(entry: &Value, system: &mut String) -> Vec<Item> {
    let content = entry.get("content").cloned().unwrap_or_default();
    match text(entry, "role").as_str() {
        "user" => match content {
            Value::Array(parts) => parts
                .iter()
                .flat_map(|part| Item::user(text_of(part)))
                .collect(),
            other => Item::user(text_of(&other)),
        },
        "assistant" => vec![Item::Assistant(text_of(&content))],
        _ => {
            system.push('\n');
            system.push_str(&text_of(&content));
            Vec::new()
        }
    }
}

fn offered(tool: &Value) -> Vec<OfferedTool> {
    let name = text(tool, "name");
    match tool.get("type").and_then(Value::as_str) {
        Some("function") => {
            let schema = tool.get("parameters").cloned().unwrap_or(json!({}));
            vec![OfferedTool {
                name,
                input: ToolInput::Json(schema),
            }]
        }
        Some("custom") => vec![OfferedTool {
            name,
            input: ToolInput::Text,
        }],
        _ => Vec::new(),
    }
}

/// The answer as a stream.
pub fn frames(answer: &Answer) -> Vec<Frame> {
    let id = fresh_id("resp_");
    let mut stream = Stream { frames: Vec::new() };
    let begun = document(answer, &id, "in_progress", &[], Value::Null);
    stream.push("response.created", json!({ "response": begun }));
    stream.push("response.in_progress", json!({ "response": begun }));
    let items = output(answer);
    for (index, item) in items.iter().enumerate() {
        stream.item(index, item, answer);
    }
    let done = document(answer, &id, "completed", &items, usage(answer));
    stream.push("response.completed", json!({ "response": done }));
    stream.frames
}

struct Stream {
    frames: Vec<Frame>,
}

impl Stream {
    fn push(&mut self, name: &'static str, mut data: Value) {
        data["type"] = json!(name);
        data["sequence_number"] = json!(self.frames.len());
        self.frames.push(Frame::named(name, &data));
    }

    fn item(&mut self, index: usize, item: &Value, answer: &Answer) {
        let mut begun = item.clone();
        begun["status"] = json!("in_progress");
        let empty = match text(item, "type").as_str() {
            "message" => Some(("content", json!([]))),
            "reasoning" => Some(("summary", json!([]))),
            "function_call" => Some(("arguments", json!(""))),
            "custom_tool_call" => Some(("input", json!(""))),
            _ => None,
        };
        if let Some((key, value)) = empty {
            begun[key] = value;
        }
        self.push(
            "response.output_item.added",
            json!({ "output_index": index, "item": begun }),
        );
        let at = json!({ "item_id": item["id"], "output_index": index });
        match text(item, "type").as_str() {
            "message" => self.message(&at, answer.say.as_deref().unwrap_or_default()),
            "reasoning" => self.reasoning(&at, answer.think.as_deref().unwrap_or_default()),
            "function_call" => self.arguments(&at, &text(item, "arguments")),
            "custom_tool_call" => self.custom_input(&at, &text(item, "input")),
            _ => {}
        }
        self.push(
            "response.output_item.done",
            json!({ "output_index": index, "item": item }),
        );
    }

    fn message(&mut self, at: &Value, text: &str) {
        let part = |text: &str| json!({ "type": "output_text", "text": text, "annotations": [] });
        let at = with(at, json!({ "content_index": 0 }));
        self.push(
            "response.content_part.added",
            with(&at, json!({ "part": part("") })),
        );
        for piece in pieces(text) {
            self.push(
                "response.output_text.delta",
                with(&at, json!({ "delta": piece })),
            );
        }
        self.push(
            "response.output_text.done",
            with(&at, json!({ "text": text })),
        );
        self.push(
            "response.content_part.done",
            with(&at, json!({ "part": part(text) })),
        );
    }

    fn reasoning(&mut self, at: &Value, text: &str) {
        let part = |text: &str| json!({ "type": "summary_text", "text": text });
        let at = with(at, json!({ "summary_index": 0 }));
        self.push(
            "response.reasoning_summary_part.added",
            with(&at, json!({ "part": part("") })),
        );
        for piece in pieces(text) {
            let delta = with(&at, json!({ "delta": piece }));
            self.push("response.reasoning_summary_text.delta", delta);
        }
        self.push(
            "response.reasoning_summary_text.done",
            with(&at, json!({ "text": text })),
        );
        let done = with(&at, json!({ "part": part(text) }));
        self.push("response.reasoning_summary_part.done", done);
    }

    fn arguments(&mut self, at: &Value, arguments: &str) {
        for piece in pieces(arguments) {
            let delta = with(at, json!({ "delta": piece }));
            self.push("response.function_call_arguments.delta", delta);
        }
        let done = with(at, json!({ "arguments": arguments }));
        self.push("response.function_call_arguments.done", done);
    }

    fn custom_input(&mut self, at: &Value, input: &str) {
        for piece in pieces(input) {
            let delta = with(at, json!({ "delta": piece }));
            self.push("response.custom_tool_call_input.delta", delta);
        }
        self.push(
            "response.custom_tool_call_input.done",
            with(at, json!({ "input": input })),
        );
    }
}

fn with(at: &Value, more: Value) -> Value {
    let mut both = at.clone();
    if let (Some(both), Value::Object(more)) = (both.as_object_mut(), more) {
        both.extend(more);
    }
    both
}

/// The answer as one document.
pub fn whole(answer: &Answer) -> Value {
    document(
        answer,
        &fresh_id("resp_"),
        "completed",
        &output(answer),
        usage(answer),
    )
}

fn document(answer: &Answer, id: &str, status: &str, output: &[Value], usage: Value) -> Value {
    json!({
        "id": id, "object": "response", "created_at": 0, "status": status, "error": null,
        "incomplete_details": null, "model": answer.model, "output": output,
        "parallel_tool_calls": true, "usage": usage,
    })
}

fn output(answer: &Answer) -> Vec<Value> {
    let mut items = Vec::new();
    if let Some(think) = &answer.think {
        items.push(json!({
            "type": "reasoning", "id": fresh_id("rs_"), "status": "completed",
            "summary": [{ "type": "summary_text", "text": think }], "encrypted_content": null,
        }));
    }
    if let Some(say) = &answer.say {
        items.push(json!({
            "type": "message", "id": fresh_id("msg_"), "role": "assistant", "status": "completed",
            "content": [{ "type": "output_text", "text": say, "annotations": [] }],
        }));
    }
    items.extend(answer.calls.iter().map(call_item));
    items
}

fn call_item(call: &Call) -> Value {
    match &call.input {
        CallInput::Json(arguments) => json!({
            "type": "function_call", "id": fresh_id("fc_"), "call_id": call.id,
            "name": call.tool, "arguments": arguments.to_string(), "status": "completed",
        }),
        CallInput::Text(input) => json!({
            "type": "custom_tool_call", "id": fresh_id("ctc_"), "call_id": call.id,
            "name": call.tool, "input": input, "status": "completed",
        }),
    }
}

fn usage(answer: &Answer) -> Value {
    let usage = answer.usage;
    json!({
        "input_tokens": usage.input,
        "input_tokens_details": { "cached_tokens": usage.cached },
        "output_tokens": usage.output,
        "output_tokens_details": { "reasoning_tokens": 0 },
        "total_tokens": usage.input + usage.output,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::UsageNumbers;

    #[test]
    fn a_request_of_codex_is_understood() {
        let talk = parse(&json!({
            "model": "m", "stream": true, "instructions": "be good",
            "input": [
                { "type": "message", "role": "developer",
                  "content": [{ "type": "input_text", "text": "rules" }] },
                { "type": "message", "role": "user", "content": [
                    { "type": "input_text", "text": "<environment_context><cwd>/w</cwd>" }] },
                { "type": "message", "role": "user",
                  "content": [{ "type": "input_text", "text": "go" }] },
                { "type": "function_call", "name": "exec_command", "call_id": "1" },
                { "type": "function_call_output", "call_id": "1", "output": "fine" },
            ],
            "tools": [
                { "type": "function", "name": "exec_command", "parameters": {} },
                { "type": "custom", "name": "apply_patch" },
                { "type": "web_search" },
            ],
        }));
        assert_eq!(
            (talk.prompt().as_str(), talk.results(), talk.cwd()),
            ("go", 1, Some("/w"))
        );
        assert_eq!(
            (talk.last_result(), talk.system.as_str()),
            ("fine", "be good\nrules")
        );
        assert_eq!(talk.tools.len(), 2);
    }

    #[test]
    fn a_stream_ends_with_the_whole_answer() {
        let call = |id: &str, input| Call {
            id: id.into(),
            tool: "t".into(),
            input,
        };
        let answer = Answer {
            think: Some("hm".into()),
            say: Some("words".into()),
            calls: vec![
                call("1", CallInput::Json(json!({ "a": 1 }))),
                call("2", CallInput::Text("patch".into())),
            ],
            usage: UsageNumbers {
                input: 5,
                output: 2,
                cached: 1,
            },
            model: "m".into(),
        };
        let frames = frames(&answer);
        let last = frames.last().expect("a stream has frames");
        assert_eq!(last.event, Some("response.completed"));
        let data: Value = serde_json::from_str(&last.data).expect("JSON");
        let kinds: Vec<&str> = data["response"]["output"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|item| item["type"].as_str())
            .collect();
        assert_eq!(
            kinds,
            ["reasoning", "message", "function_call", "custom_tool_call"]
        );
        assert_eq!(data["response"]["usage"]["total_tokens"], 7);
        let done = frames
            .iter()
            .filter(|f| f.event == Some("response.output_item.done"));
        assert_eq!(done.count(), 4);
    }
}
