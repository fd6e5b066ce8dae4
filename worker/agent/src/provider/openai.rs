//! OpenAI Chat Completions, which most local model servers speak too.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use serde_json::{Value, json};

use super::{
    OpenCall, Telling,
    problem::Problem,
    sse::{Events, Next},
};
use crate::{
    chat::{Message, Question, Reply, Stop, Tokens, ToolCall},
    events::TextKind,
};

/// The request.
pub fn body(model: &str, max_tokens: Option<u64>, question: &Question<'_>) -> Value {
    let tools: Vec<Value> = question
        .tools
        .iter()
        .map(|tool| {
            json!({
                "type": "function",
                "function": {
                    "name": tool.name, "description": tool.description, "parameters": tool.schema,
                },
            })
        })
        .collect();
    let system = json!({ "role": "system", "content": question.system });
    let messages: Vec<Value> = std::iter::once(system)
        .chain(question.messages.iter().flat_map(messages))
        .collect();
    let mut body = json!({
        "model": model, "messages": messages, "tools": tools, "stream": true,
        "stream_options": { "include_usage": true },
    });
    if let Some(most) = max_tokens {
        body["max_tokens"] = json!(most);
    }
    body
}

fn messages(message: &Message) -> Vec<Value> {
    match message {
        Message::User(text) => vec![json!({ "role": "user", "content": text })],
        Message::Assistant(reply) => {
            let calls: Vec<Value> = reply.calls.iter().map(call).collect();
            vec![json!({ "role": "assistant", "content": reply.text, "tool_calls": calls })]
        }
        Message::Results(outcomes) => outcomes
            .iter()
            .map(|outcome| {
                json!({ "role": "tool", "tool_call_id": outcome.id, "content": outcome.output })
            })
            .collect(),
    }
}

fn call(call: &ToolCall) -> Value {
    let arguments = call
        .args
        .as_ref()
        .map_or_else(|_| "{}".to_owned(), Value::to_string);
    json!({
        "id": call.id, "type": "function",
        "function": { "name": call.tool, "arguments": arguments },
    })
}

/// The answer, told while it comes.
pub async fn read(events: &mut Events, telling: &mut Telling<'_>) -> Result<Reply, Problem> {
    let mut answer = Answer::default();
    loop {
        match events.next().await {
            Ok(Next::Data(chunk)) => answer.take(&chunk, telling)?,
            Ok(Next::Done) => break,
            // Some servers close the stream without the word that ends it.
            Err(_) if answer.finished => break,
            Err(problem) => return Err(problem),
        }
    }
    if !answer.finished {
        return Err(Problem::passing(
            "the model's answer ended without a reason",
        ));
    }
    Ok(answer.finish())
}

#[derive(Default)]
struct Answer {
    reply: Reply,
    open: BTreeMap<u64, OpenCall>,
    finished: bool,
}

impl Answer {
    fn take(&mut self, chunk: &Value, telling: &mut Telling<'_>) -> Result<(), Problem> {
        if let Some(error) = chunk.get("error").filter(|error| !error.is_null()) {
            return Err(Problem::of_stream(error));
        }
        if let Some(usage) = chunk.get("usage").filter(|usage| usage.is_object()) {
            self.reply.usage = tokens(usage);
        }
        let Some(choice) = chunk.pointer("/choices/0") else {
            return Ok(());
        };
        if let Some(delta) = choice.get("delta") {
            self.delta(delta, telling);
        }
        if let Some(reason) = choice.get("finish_reason").and_then(Value::as_str) {
            self.finished = true;
            self.reply.stop = stop(reason);
        }
        Ok(())
    }

    fn delta(&mut self, delta: &Value, telling: &mut Telling<'_>) {
        let thinking = text(delta, "reasoning_content");
        let thinking = if thinking.is_empty() {
            text(delta, "reasoning")
        } else {
            thinking
        };
        telling.piece(TextKind::Thinking, thinking);
        let said = text(delta, "content");
        telling.piece(TextKind::Message, said);
        self.reply.text.push_str(said);
        let calls = delta.get("tool_calls").and_then(Value::as_array);
        for (position, call) in calls.into_iter().flatten().enumerate() {
            self.call(call, position as u64);
        }
    }

    /// Some servers leave `index` out when each call comes whole.
    fn call(&mut self, call: &Value, position: u64) {
        let index = call
            .get("index")
            .and_then(Value::as_u64)
            .unwrap_or(position);
        let open = self.open.entry(index).or_default();
        open.id.push_str(text(call, "id"));
        let function = &call["function"];
        open.tool.push_str(text(function, "name"));
        open.args.push_str(text(function, "arguments"));
    }

    fn finish(mut self) -> Reply {
        for call in self.open.values_mut().filter(|call| call.id.is_empty()) {
            call.id = counted_id();
        }
        self.reply.calls = self.open.into_values().map(OpenCall::close).collect();
        self.reply
    }
}

/// An id for a call that the server gave none.
fn counted_id() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(1);
    format!("call_{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

fn tokens(usage: &Value) -> Tokens {
    let count = |pointer: &str| usage.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    Tokens {
        input: count("/prompt_tokens"),
        output: count("/completion_tokens"),
        cached: count("/prompt_tokens_details/cached_tokens"),
    }
}

fn stop(reason: &str) -> Stop {
    match reason {
        "length" => Stop::Length,
        "content_filter" => Stop::Refused,
        _ => Stop::Complete,
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}
