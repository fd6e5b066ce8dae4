//! Anthropic Messages.

use serde_json::{Value, json};

use super::{Frame, list, text, text_of};
use crate::{
    answer::{Answer, Call, fresh_id, pieces},
    conversation::{Api, Conversation, Item, OfferedTool, ToolInput},
};

/// The request in plain words.
pub fn parse(body: &Value) -> Conversation {
    let mut system = body.get("system").map(text_of).unwrap_or_default();
    let mut items = Vec::new();
    for message in list(body, "messages") {
        let role = text(message, "role");
        if role == "system" {
            system.push('\n');
            system.push_str(&message.get("content").map(text_of).unwrap_or_default());
            continue;
        }
        match message.get("content") {
            Some(Value::Array(blocks)) => {
                items.extend(blocks.iter().flat_map(|block| block_items(&role, block)));
            }
            Some(content) => items.extend(said(&role, text_of(content))),
            None => {}
        }
    }
    let schema = body
        .pointer("/output_config/format/schema")
        .or_else(|| body.pointer("/output_format/schema"));
    Conversation {
        api: Api::Anthropic,
        model: text(body, "model"),
        system,
        items,
        tools: list(body, "tools").iter().filter_map(offered).collect(),
        stream: body.get("stream") == Some(&Value::Bool(true)),
        answer_schema: schema.cloned(),
    }
}

fn said(role: &str, text: String) -> Vec<Item> {
    if role == "assistant" {
        vec![Item::Assistant(text)]
    } else {
        Item::user(text)
    }
}

fn block_items(role: &str, block: &Value) -> Vec<Item> {
    match block.get("type").and_then(Value::as_str) {
        Some("text") => said(role, text(block, "text")),
        Some("tool_use") => vec![Item::Call(text(block, "name"))],
        Some("tool_result") => {
            vec![Item::Result(
                block.get("content").map(text_of).unwrap_or_default(),
            )]
        }
        Some(_) | None => Vec::new(),
    }
}

/// Tools of the client have a schema; those of the service have none.
fn offered(tool: &Value) -> Option<OfferedTool> {
    let schema = tool.get("input_schema")?.clone();
    Some(OfferedTool {
        name: text(tool, "name"),
        input: ToolInput::Json(schema),
    })
}

/// The answer as a stream.
pub fn frames(answer: &Answer) -> Vec<Frame> {
    let mut message = whole(answer);
    message["content"] = json!([]);
    message["stop_reason"] = Value::Null;
    message["usage"]["output_tokens"] = json!(1);
    let mut frames = vec![
        event("message_start", json!({ "message": message })),
        event("ping", json!({})),
    ];
    for (index, block) in blocks(answer).into_iter().enumerate() {
        block_frames(&mut frames, index, block);
    }
    frames.push(event(
        "message_delta",
        json!({
            "delta": { "stop_reason": stop_reason(answer), "stop_sequence": null },
            "usage": usage(answer),
        }),
    ));
    frames.push(event("message_stop", json!({})));
    frames
}

fn event(name: &'static str, mut data: Value) -> Frame {
    data["type"] = json!(name);
    Frame::named(name, &data)
}

enum Block<'a> {
    Think(&'a str),
    Say(&'a str),
    Call(&'a Call),
}

fn blocks(answer: &Answer) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    blocks.extend(answer.think.as_deref().map(Block::Think));
    blocks.extend(answer.say.as_deref().map(Block::Say));
    blocks.extend(answer.calls.iter().map(Block::Call));
    blocks
}

fn block_frames(frames: &mut Vec<Frame>, index: usize, block: Block<'_>) {
    let (start, deltas) = match block {
        Block::Think(text) => {
            let mut deltas: Vec<Value> = pieces(text)
                .into_iter()
                .map(|piece| json!({ "type": "thinking_delta", "thinking": piece }))
                .collect();
            deltas.push(json!({ "type": "signature_delta", "signature": "c2NyaXB0ZWQ=" }));
            (
                json!({ "type": "thinking", "thinking": "", "signature": "" }),
                deltas,
            )
        }
        Block::Say(text) => {
            let delta = |piece| json!({ "type": "text_delta", "text": piece });
            (
                json!({ "type": "text", "text": "" }),
                pieces(text).into_iter().map(delta).collect(),
            )
        }
        Block::Call(call) => {
            let arguments = call.json().to_string();
            let delta = |piece| json!({ "type": "input_json_delta", "partial_json": piece });
            let start =
                json!({ "type": "tool_use", "id": call.id, "name": call.tool, "input": {} });
            (start, pieces(&arguments).into_iter().map(delta).collect())
        }
    };
    frames.push(event(
        "content_block_start",
        json!({ "index": index, "content_block": start }),
    ));
    for delta in deltas {
        frames.push(event(
            "content_block_delta",
            json!({ "index": index, "delta": delta }),
        ));
    }
    frames.push(event("content_block_stop", json!({ "index": index })));
}

/// The answer as one document.
pub fn whole(answer: &Answer) -> Value {
    let content: Vec<Value> = blocks(answer)
        .into_iter()
        .map(|block| match block {
            Block::Think(text) => {
                json!({ "type": "thinking", "thinking": text, "signature": "c2NyaXB0ZWQ=" })
            }
            Block::Say(text) => json!({ "type": "text", "text": text }),
            Block::Call(call) => json!({
                "type": "tool_use", "id": call.id, "name": call.tool, "input": call.json(),
            }),
        })
        .collect();
    json!({
        "id": fresh_id("msg_"),
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": content,
        "stop_reason": stop_reason(answer),
        "stop_sequence": null,
        "usage": usage(answer),
    })
}

fn stop_reason(answer: &Answer) -> &'static str {
    if answer.calls.is_empty() {
        "end_turn"
    } else {
        "tool_use"
    }
}

/// Anthropic counts the tokens read from a cache apart from `input_tokens`.
fn usage(answer: &Answer) -> Value {
    json!({
        "input_tokens": answer.usage.input.saturating_sub(answer.usage.cached),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": answer.usage.cached,
        "output_tokens": answer.usage.output,
        "service_tier": "standard",
    })
}

/// An HTTP error's body.
pub fn error(status: u16, message: &str) -> Value {
    let kind = match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        400..500 => "invalid_request_error",
        _ => "api_error",
    };
    json!({
        "type": "error",
        "error": { "type": kind, "message": message },
        "request_id": fresh_id("req_"),
    })
}
