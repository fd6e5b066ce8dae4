//! Anthropic Messages.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    OpenCall, Telling,
    problem::Problem,
    sse::{Events, Next},
};
use crate::{
    chat::{Message, Question, Reply, Stop, Thinking, Tokens, ToolOutcome},
    events::TextKind,
};

const MAX_TOKENS: u64 = 8192;

/// The request.
pub fn body(model: &str, max_tokens: Option<u64>, question: &Question<'_>) -> Value {
    let tools: Vec<Value> = question
        .tools
        .iter()
        .map(|tool| {
            json!({
                "name": tool.name, "description": tool.description, "input_schema": tool.schema,
            })
        })
        .collect();
    let mut messages: Vec<Value> = question.messages.iter().map(message).collect();
    cache_up_to_here(messages.last_mut());
    json!({
        "model": model,
        "max_tokens": max_tokens.unwrap_or(MAX_TOKENS),
        "system": [{
            "type": "text", "text": question.system, "cache_control": { "type": "ephemeral" },
        }],
        "messages": messages,
        "tools": tools,
        "stream": true,
    })
}

/// Marks the conversation so far, since the next request repeats it.
fn cache_up_to_here(message: Option<&mut Value>) {
    let content = message.and_then(|message| message.get_mut("content"));
    if let Some(block) = content
        .and_then(Value::as_array_mut)
        .and_then(|blocks| blocks.last_mut())
    {
        block["cache_control"] = json!({ "type": "ephemeral" });
    }
}

fn message(message: &Message) -> Value {
    match message {
        Message::User(text) => {
            json!({ "role": "user", "content": [{ "type": "text", "text": text }] })
        }
        Message::Assistant(reply) => json!({ "role": "assistant", "content": blocks(reply) }),
        Message::Results(outcomes) => {
            let results: Vec<Value> = outcomes.iter().map(result).collect();
            json!({ "role": "user", "content": results })
        }
    }
}

fn blocks(reply: &Reply) -> Vec<Value> {
    let mut blocks: Vec<Value> = reply
        .thinking
        .iter()
        .filter(|thinking| !thinking.signature.is_empty())
        .map(|thinking| {
            json!({
                "type": "thinking", "thinking": thinking.text, "signature": thinking.signature,
            })
        })
        .collect();
    if !reply.text.is_empty() {
        blocks.push(json!({ "type": "text", "text": reply.text }));
    }
    blocks.extend(reply.calls.iter().map(|call| {
        let input = call.args.clone().unwrap_or_else(|_| json!({}));
        json!({ "type": "tool_use", "id": call.id, "name": call.tool, "input": input })
    }));
    blocks
}

fn result(outcome: &ToolOutcome) -> Value {
    // The service takes no empty text.
    let output = if outcome.output.is_empty() {
        "(no output)"
    } else {
        &outcome.output
    };
    json!({
        "type": "tool_result", "tool_use_id": outcome.id, "content": output,
        "is_error": outcome.failed,
    })
}

/// The answer, told while it comes.
pub async fn read(events: &mut Events, telling: &mut Telling<'_>) -> Result<Reply, Problem> {
    let mut answer = Answer::default();
    while let Next::Data(event) = events.next().await? {
        if answer.take(&event, telling)? == Progress::Complete {
            break;
        }
    }
    Ok(answer.finish())
}

#[derive(Default)]
struct Answer {
    reply: Reply,
    open: BTreeMap<u64, OpenCall>,
}

#[derive(PartialEq)]
enum Progress {
    More,
    Complete,
}

impl Answer {
    fn take(&mut self, event: &Value, telling: &mut Telling<'_>) -> Result<Progress, Problem> {
        let index = event.get("index").and_then(Value::as_u64).unwrap_or(0);
        match event
            .get("type")
            .and_then(Value::as_str)
            .unwrap_or_default()
        {
            "message_start" => self.usage(event.pointer("/message/usage")),
            "content_block_start" => self.start(index, &event["content_block"], telling),
            "content_block_delta" => self.delta(index, &event["delta"], telling),
            "message_delta" => {
                self.usage(event.get("usage"));
                self.reply.stop = stop(event.pointer("/delta/stop_reason"));
            }
            "message_stop" => return Ok(Progress::Complete),
            "error" => return Err(Problem::of_stream(&event["error"])),
            _ => {}
        }
        Ok(Progress::More)
    }

    fn start(&mut self, index: u64, block: &Value, telling: &mut Telling<'_>) {
        match text(block, "type") {
            "tool_use" => {
                let id = text(block, "id").to_owned();
                let call = OpenCall {
                    id,
                    tool: text(block, "name").to_owned(),
                    ..OpenCall::default()
                };
                self.open.insert(index, call);
            }
            "thinking" => self.reply.thinking.push(Thinking::default()),
            "text" => self.say(text(block, "text"), telling),
            _ => {}
        }
    }

    fn delta(&mut self, index: u64, delta: &Value, telling: &mut Telling<'_>) {
        match text(delta, "type") {
            "text_delta" => self.say(text(delta, "text"), telling),
            "thinking_delta" => {
                telling.piece(TextKind::Thinking, text(delta, "thinking"));
                if let Some(thinking) = self.reply.thinking.last_mut() {
                    thinking.text.push_str(text(delta, "thinking"));
                }
            }
            "signature_delta" => {
                if let Some(thinking) = self.reply.thinking.last_mut() {
                    thinking.signature.push_str(text(delta, "signature"));
                }
            }
            "input_json_delta" => {
                if let Some(call) = self.open.get_mut(&index) {
                    call.args.push_str(text(delta, "partial_json"));
                }
            }
            _ => {}
        }
    }

    fn say(&mut self, piece: &str, telling: &mut Telling<'_>) {
        self.reply.text.push_str(piece);
        telling.piece(TextKind::Message, piece);
    }

    /// The last event's counts stand for the whole answer; those it leaves out stay.
    fn usage(&mut self, usage: Option<&Value>) {
        let count = |name: &str| {
            usage
                .and_then(|usage| usage.get(name))
                .and_then(Value::as_u64)
        };
        let Tokens {
            input,
            output,
            cached,
        } = self.reply.usage;
        let cached_now = count("cache_read_input_tokens").unwrap_or(cached);
        let input_now = count("input_tokens").map_or(input, |fresh| {
            fresh + cached_now + count("cache_creation_input_tokens").unwrap_or(0)
        });
        self.reply.usage = Tokens {
            input: input_now,
            output: count("output_tokens").unwrap_or(output),
            cached: cached_now,
        };
    }

    fn finish(mut self) -> Reply {
        self.reply.calls = self.open.into_values().map(OpenCall::close).collect();
        self.reply
    }
}

fn stop(reason: Option<&Value>) -> Stop {
    match reason.and_then(Value::as_str) {
        Some("max_tokens" | "model_context_window_exceeded") => Stop::Length,
        Some("refusal") => Stop::Refused,
        Some(_) | None => Stop::Complete,
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}
