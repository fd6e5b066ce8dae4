//! OpenAI Chat Completions, which most local model servers speak too.

use serde_json::{Value, json};

use super::{Frame, list, text, text_of};
use crate::{
    answer::{Answer, fresh_id, pieces},
    conversation::{Api, Conversation, Item, OfferedTool, ToolInput},
};

/// The request in plain words.
pub fn parse(body: &Value) -> Conversation {
    let messages = list(body, "messages");
    let system = messages
        .iter()
        .filter(|message| matches!(text(message, "role").as_str(), "system" | "developer"))
        .map(content)
        .collect::<Vec<_>>()
        .join("\n");
    Conversation {
        api: Api::Chat,
        model: text(body, "model"),
        system,
        items: messages.iter().flat_map(items).collect(),
        tools: list(body, "tools").iter().filter_map(offered).collect(),
        stream: body.get("stream") == Some(&Value::Bool(true)),
        answer_schema: body.pointer("/response_format/json_schema/schema").cloned(),
    }
}

fn content(message: &Value) -> String {
    message.get("content").map(text_of).unwrap_or_default()
}

fn items(message: &Value) -> Vec<Item> {
    match text(message, "role").as_str() {
        "user" => match message.get("content") {
            Some(Value::Array(parts)) => parts
                .iter()
                .flat_map(|part| Item::user(text_of(part)))
                .collect(),
            Some(_) | None => Item::user(content(message)),
        },
        "assistant" => {
            let calls = list(message, "tool_calls").iter();
            let call = |call: &Value| Item::Call(text(&call["function"], "name"));
            std::iter::once(Item::Assistant(content(message)))
                .chain(calls.map(call))
                .collect()
        }
        "tool" => vec![Item::Result(content(message))],
        _ => Vec::new(),
    }
}

fn offered(tool: &Value) -> Option<OfferedTool> {
    let function = tool.get("function")?;
    let schema = function.get("parameters").cloned().unwrap_or(json!({}));
    Some(OfferedTool {
        name: text(function, "name"),
        input: ToolInput::Json(schema),
    })
}

/// The answer as a stream.
pub fn frames(answer: &Answer, body: &Value) -> Vec<Frame> {
    let id = fresh_id("chatcmpl-");
    let chunk = |delta: Value, finish: Value| {
        Frame::plain(&json!({
            "id": id, "object": "chat.completion.chunk", "created": 0, "model": answer.model,
            "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }],
        }))
    };
    let mut frames = vec![chunk(
        json!({ "role": "assistant", "content": "" }),
        Value::Null,
    )];
    for piece in answer.think.iter().flat_map(|text| pieces(text)) {
        frames.push(chunk(json!({ "reasoning_content": piece }), Value::Null));
    }
    for piece in answer.say.iter().flat_map(|text| pieces(text)) {
        frames.push(chunk(json!({ "content": piece }), Value::Null));
    }
    for (index, call) in answer.calls.iter().enumerate() {
        let start = json!([{
            "index": index, "id": call.id, "type": "function",
            "function": { "name": call.tool, "arguments": "" },
        }]);
        frames.push(chunk(json!({ "tool_calls": start }), Value::Null));
        for piece in pieces(&call.json().to_string()) {
            let more = json!([{ "index": index, "function": { "arguments": piece } }]);
            frames.push(chunk(json!({ "tool_calls": more }), Value::Null));
        }
    }
    frames.push(chunk(json!({}), json!(finish_reason(answer))));
    if body.pointer("/stream_options/include_usage") == Some(&Value::Bool(true)) {
        frames.push(Frame::plain(&json!({
            "id": id, "object": "chat.completion.chunk", "created": 0, "model": answer.model,
            "choices": [], "usage": usage(answer),
        })));
    }
    frames.push(Frame {
        event: None,
        data: "[DONE]".to_owned(),
    });
    frames
}

/// The answer as one document.
pub fn whole(answer: &Answer) -> Value {
    let mut message = json!({ "role": "assistant", "content": answer.say });
    if let Some(think) = &answer.think {
        message["reasoning_content"] = json!(think);
    }
    if !answer.calls.is_empty() {
        let call = |call: &crate::answer::Call| {
            json!({
                "id": call.id, "type": "function",
                "function": { "name": call.tool, "arguments": call.json().to_string() },
            })
        };
        message["tool_calls"] = answer.calls.iter().map(call).collect();
    }
    json!({
        "id": fresh_id("chatcmpl-"), "object": "chat.completion", "created": 0,
        "model": answer.model,
        "choices": [{ "index": 0, "message": message, "finish_reason": finish_reason(answer) }],
        "usage": usage(answer),
    })
}

fn finish_reason(answer: &Answer) -> &'static str {
    if answer.calls.is_empty() {
        "stop"
    } else {
        "tool_calls"
    }
}

fn usage(answer: &Answer) -> Value {
    let usage = answer.usage;
    json!({
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": { "cached_tokens": usage.cached },
        "completion_tokens_details": { "reasoning_tokens": 0 },
    })
}
