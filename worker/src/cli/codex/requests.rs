//! What Codex asks of its client, and the answers. No question may stay open, or the turn would hang.

use orchestra_types::EventKind;
use serde_json::{Value, json};

use crate::cli::{
    json::{at, line, shown, text},
    story::Story,
    title,
};

/// Answers a request.
pub(super) fn answer(story: &mut Story, message: &Value, cwd: &str) {
    let id = at(message, "/id");
    let params = at(message, "/params");
    let method = text(message, "/method");
    let result = match method {
        "item/commandExecution/requestApproval" | "item/fileChange/requestApproval" => {
            granted(story, id, params, method, cwd);
            json!({ "decision": "accept" })
        }
        "execCommandApproval" | "applyPatchApproval" => {
            granted(story, id, params, method, cwd);
            json!({ "decision": "approved" })
        }
        "mcpServer/elicitation/request" => json!({ "action": "decline", "content": null }),
        _ => {
            let error = json!({ "code": -32601, "message": format!("not supported: {method}") });
            return story.write(line(&json!({ "id": id, "error": error })));
        }
    };
    story.write(line(&json!({ "id": id, "result": result })));
}

fn granted(story: &mut Story, id: &Value, params: &Value, method: &str, cwd: &str) {
    let tool = match method {
        "item/commandExecution/requestApproval" | "execCommandApproval" => "shell",
        _ => "apply_patch",
    };
    let kind = EventKind::PermissionRequest {
        request_id: shown(id),
        tool: tool.to_owned(),
        title: match story.title_of(text(params, "/itemId")) {
            title if title.is_empty() => title::of_input(params, cwd),
            title => title,
        },
        decision: "allowed".to_owned(),
    };
    story.emit("", kind);
}
