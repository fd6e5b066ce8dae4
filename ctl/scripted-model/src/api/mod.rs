//! The wire formats: each file parses a request into a `Conversation`, renders an `Answer` as a
//! stream or as a whole, and says an error the way its clients understand it.

pub mod anthropic;
pub mod chat;
pub mod gemini;
pub mod responses;

use serde_json::{Value, json};

use crate::{
    answer::Answer,
    conversation::{Api, Conversation},
};

/// One server-sent event.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// The event's name, where the format has names.
    pub event: Option<&'static str>,
    /// Its data.
    pub data: String,
}

impl Frame {
    /// An event that its data name.
    pub fn named(event: &'static str, data: &Value) -> Self {
        Self {
            event: Some(event),
            data: data.to_string(),
        }
    }

    /// An event without a name.
    pub fn plain(data: &Value) -> Self {
        Self {
            event: None,
            data: data.to_string(),
        }
    }

    /// The bytes on the wire.
    pub fn bytes(&self) -> String {
        let event = self
            .event
            .map_or(String::new(), |event| format!("event: {event}\n"));
        format!("{event}data: {}\n\n", self.data)
    }
}

/// The request in plain words. `path_model` and `path_stream` come from the path, where the
/// format has them there.
pub fn parse(api: Api, body: &Value, path_model: Option<&str>, path_stream: bool) -> Conversation {
    match api {
        Api::Anthropic => anthropic::parse(body),
        Api::Responses => responses::parse(body),
        Api::Chat => chat::parse(body),
        Api::Gemini => gemini::parse(body, path_model.unwrap_or_default(), path_stream),
    }
}

/// The answer as a stream.
pub fn frames(api: Api, answer: &Answer, body: &Value) -> Vec<Frame> {
    match api {
        Api::Anthropic => anthropic::frames(answer),
        Api::Responses => responses::frames(answer),
        Api::Chat => chat::frames(answer, body),
        Api::Gemini => gemini::frames(answer),
    }
}

/// The answer as one document.
pub fn whole(api: Api, answer: &Answer) -> Value {
    match api {
        Api::Anthropic => anthropic::whole(answer),
        Api::Responses => responses::whole(answer),
        Api::Chat => chat::whole(answer),
        Api::Gemini => gemini::whole(answer),
    }
}

/// An HTTP error's body.
pub fn error(api: Api, status: u16, message: &str) -> Value {
    match api {
        Api::Anthropic => anthropic::error(status, message),
        Api::Responses | Api::Chat => openai_error(status, message),
        Api::Gemini => gemini::error(status, message),
    }
}

fn openai_error(status: u16, message: &str) -> Value {
    let (kind, code) = match status {
        401 => ("invalid_request_error", "invalid_api_key"),
        403 => ("permission_error", "permission_denied"),
        429 => ("requests", "rate_limit_exceeded"),
        400..500 => ("invalid_request_error", "invalid_request_error"),
        _ => ("server_error", "server_error"),
    };
    json!({ "error": { "message": message, "type": kind, "param": null, "code": code } })
}

/// The text of a content that is a string or a list of parts with `text`.
fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts
            .iter()
            .map(text_of)
            .filter(|text| !text.is_empty())
            .collect::<Vec<_>>()
            .join("\n"),
        Value::Object(part) => {
            let inner = part.get("text").or_else(|| part.get("content"));
            inner.map(text_of).unwrap_or_default()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => String::new(),
    }
}

fn text(value: &Value, key: &str) -> String {
    value
        .get(key)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value
        .get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}
