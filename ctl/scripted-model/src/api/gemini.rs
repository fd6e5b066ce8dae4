//! Gemini generateContent.

use serde_json::{Value, json};

use super::{Frame, list, text, text_of};
use crate::{
    answer::{Answer, pieces},
    conversation::{Api, Conversation, Item, OfferedTool, ToolInput},
};

/// The request in plain words. The model and the wish for a stream stand in the path.
pub fn parse(body: &Value, model: &str, stream: bool) -> Conversation {
    let config = |key: &str| {
        body.get("generationConfig")
            .and_then(|config| config.get(key))
    };
    let declared = list(body, "tools")
        .iter()
        .flat_map(|tool| list(tool, "functionDeclarations"));
    Conversation {
        api: Api::Gemini,
        model: model.to_owned(),
        system: body
            .pointer("/systemInstruction/parts")
            .map(text_of)
            .unwrap_or_default(),
        items: list(body, "contents").iter().flat_map(items).collect(),
        tools: declared.map(offered).collect(),
        stream,
        answer_schema: config("responseJsonSchema")
            .or_else(|| config("responseSchema"))
            .cloned(),
    }
}

fn items(content: &Value) -> Vec<Item> {
    let model = text(content, "role") == "model";
    list(content, "parts")
        .iter()
        .flat_map(|part| part_items(model, part))
        .collect()
}

fn part_items(model: bool, part: &Value) -> Vec<Item> {
    if let Some(call) = part.get("functionCall") {
        return vec![Item::Call(text(call, "name"))];
    }
    if let Some(result) = part.get("functionResponse") {
        return vec![Item::Result(result_text(result))];
    }
    match part.get("text").and_then(Value::as_str) {
        Some(text) if model => vec![Item::Assistant(text.to_owned())],
        Some(text) => Item::user(text),
        None => Vec::new(),
    }
}

fn result_text(result: &Value) -> String {
    let output = result
        .pointer("/response/output")
        .or_else(|| result.get("response"));
    match output {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

fn offered(function: &Value) -> OfferedTool {
    let schema = function
        .get("parametersJsonSchema")
        .or_else(|| function.get("parameters"));
    OfferedTool {
        name: text(function, "name"),
        input: ToolInput::Json(schema.cloned().unwrap_or(json!({}))),
    }
}

/// The answer as a stream.
pub fn frames(answer: &Answer) -> Vec<Frame> {
    let mut parts: Vec<Value> = Vec::new();
    for piece in answer.think.iter().flat_map(|text| pieces(text)) {
        parts.push(json!({ "text": piece, "thought": true }));
    }
    for piece in answer.say.iter().flat_map(|text| pieces(text)) {
        parts.push(json!({ "text": piece }));
    }
    parts.extend(call_parts(answer));
    if parts.is_empty() {
        parts.push(json!({ "text": "" }));
    }
    let last = parts.len() - 1;
    parts
        .into_iter()
        .enumerate()
        .map(|(index, part)| Frame::plain(&chunk(answer, vec![part], index == last)))
        .collect()
}

/// The answer as one document.
pub fn whole(answer: &Answer) -> Value {
    let mut parts: Vec<Value> = Vec::new();
    parts.extend(
        answer
            .think
            .iter()
            .map(|text| json!({ "text": text, "thought": true })),
    );
    parts.extend(answer.say.iter().map(|text| json!({ "text": text })));
    parts.extend(call_parts(answer));
    chunk(answer, parts, true)
}

fn call_parts(answer: &Answer) -> impl Iterator<Item = Value> {
    answer.calls.iter().map(
        |call| json!({ "functionCall": { "id": call.id, "name": call.tool, "args": call.json() } }),
    )
}

fn chunk(answer: &Answer, parts: Vec<Value>, last: bool) -> Value {
    let mut candidate = json!({ "index": 0, "content": { "role": "model", "parts": parts } });
    if last {
        candidate["finishReason"] = json!("STOP");
    }
    let usage = answer.usage;
    json!({
        "candidates": [candidate],
        "modelVersion": answer.model,
        "usageMetadata": {
            "promptTokenCount": usage.input,
            "candidatesTokenCount": usage.output,
            "cachedContentTokenCount": usage.cached,
            "totalTokenCount": usage.input + usage.output,
        },
    })
}

/// An HTTP error's body.
pub fn error(status: u16, message: &str) -> Value {
    let word = match status {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        503 | 529 => "UNAVAILABLE",
        400..500 => "INVALID_ARGUMENT",
        _ => "INTERNAL",
    };
    json!({ "error": { "code": status, "message": message, "status": word } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        answer::{Call, CallInput},
        script::UsageNumbers,
    };

    #[test]
    fn a_request_of_gemini_is_understood() {
        let body = json!({
            "systemInstruction": { "parts": [{ "text": "be good" }] },
            "contents": [
                { "role": "user", "parts": [{ "text": "<session_context> x" }, { "text": "go" }] },
                { "role": "model", "parts": [{ "functionCall": { "name": "write_file" } }] },
                { "role": "user", "parts": [
                    { "functionResponse": { "response": { "output": "fine" } } }] },
            ],
            "tools": [{ "functionDeclarations": [
                { "name": "write_file", "parametersJsonSchema": { "properties": {} } }] }],
        });
        let talk = parse(&body, "m", true);
        assert_eq!((talk.prompt().as_str(), talk.results()), ("go", 1));
        assert_eq!(
            (talk.last_result(), talk.system.as_str()),
            ("fine", "be good")
        );
        assert_eq!(talk.tools[0].name, "write_file");
    }

    #[test]
    fn only_the_last_piece_of_a_stream_says_that_it_ends() {
        let call = Call {
            id: "1".into(),
            tool: "t".into(),
            input: CallInput::Json(json!({ "a": 1 })),
        };
        let answer = Answer {
            think: Some("hm".into()),
            say: Some("words that are more than one piece".into()),
            calls: vec![call],
            usage: UsageNumbers::default(),
            model: "m".into(),
        };
        let ends: Vec<bool> = frames(&answer)
            .iter()
            .map(|frame| frame.data.contains("finishReason"))
            .collect();
        let (last, before) = ends.split_last().expect("a stream has frames");
        assert!(
            *last && before.len() == 3 && !before.contains(&true),
            "{ends:?}"
        );
    }
}
