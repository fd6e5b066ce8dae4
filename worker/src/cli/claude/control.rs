//! Claude Code's control protocol: the opening messages, answers to its requests, the interrupt.

use orchestra_types::EventKind;
use serde_json::{Value, json};

use crate::cli::{
    json::{at, line, text},
    story::Story,
    title,
};

/// What is written first: `initialize`, which turns the control protocol on, and the prompt.
pub(super) fn opening(prompt: &str) -> Vec<u8> {
    let initialize = json!({
        "type": "control_request",
        "request_id": "initialize",
        "request": { "subtype": "initialize" },
    });
    let user = json!({
        "type": "user",
        "message": { "role": "user", "content": prompt },
    });
    [line(&initialize), line(&user)].concat()
}

/// Asks it to stop the turn; it answers with a `result`.
pub(super) fn interrupt() -> Vec<u8> {
    line(&json!({
        "type": "control_request",
        "request_id": "interrupt",
        "request": { "subtype": "interrupt" },
    }))
}

/// Answers a request, so that it never waits for somebody who is not there.
pub(super) fn answer(story: &mut Story, message: &Value, cwd: &str) {
    let id = at(message, "/request_id").clone();
    let request = at(message, "/request");
    match text(request, "/subtype") {
        "can_use_tool" => {
            let decision = decide(request);
            told(story, &id, request, cwd, text(&decision, "/behavior"));
            story.write(line(&success(&id, &decision)));
        }
        subtype => {
            let error = format!("unsupported control request: {subtype}");
            story.write(line(&json!({
                "type": "control_response",
                "response": { "subtype": "error", "request_id": id, "error": error },
            })));
        }
    }
}

/// Everything is allowed, except to ask a person: nobody is there.
fn decide(request: &Value) -> Value {
    match text(request, "/tool_name") {
        "AskUserQuestion" => json!({
            "behavior": "deny",
            "message": "Nobody is there to answer. Decide yourself, say what you assumed, and go on.",
        }),
        _ => json!({ "behavior": "allow", "updatedInput": at(request, "/input") }),
    }
}

fn success(id: &Value, response: &Value) -> Value {
    json!({
        "type": "control_response",
        "response": { "subtype": "success", "request_id": id, "response": response },
    })
}

fn told(story: &mut Story, id: &Value, request: &Value, cwd: &str, behavior: &str) {
    let decision = match behavior {
        "allow" => "allowed",
        _ => "denied",
    };
    let kind = EventKind::PermissionRequest {
        request_id: crate::cli::json::shown(id),
        tool: text(request, "/tool_name").to_owned(),
        title: title::of_input(at(request, "/input"), cwd),
        decision: decision.to_owned(),
    };
    story.emit("", kind);
}
