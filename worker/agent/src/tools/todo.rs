//! `todo`: the plan that people watch.

use serde_json::{Value, json};

use super::{Done, object};
use crate::{chat::ToolSpec, events::Events};

const STATES: [&str; 3] = ["pending", "in_progress", "completed"];

/// The tool as it is offered.
pub fn spec() -> ToolSpec {
    let entry = object(
        &[
            ("content", json!({ "type": "string" })),
            ("status", json!({ "type": "string", "enum": STATES })),
        ],
        &["content", "status"],
    );
    ToolSpec {
        name: "todo",
        description: "Tell the plan for work of several steps: the whole list, each time that it \
                      changes.",
        schema: object(
            &[("entries", json!({ "type": "array", "items": entry }))],
            &["entries"],
        ),
    }
}

/// Tells the plan.
pub fn set(events: &Events, args: &Value) -> Done {
    let entries = args.get("entries").and_then(Value::as_array);
    let entries = entries.ok_or("the argument `entries` must be a list")?;
    for entry in entries {
        let content = entry.get("content").and_then(Value::as_str);
        let status = entry
            .get("status")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if content.is_none() || !STATES.contains(&status) {
            return Err(format!(
                "each entry needs `content` and `status`, one of {STATES:?}"
            ));
        }
    }
    events.plan(&json!(entries));
    Ok("noted".to_owned())
}
