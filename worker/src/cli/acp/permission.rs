//! The answer to a request for permission.

use serde_json::{Value, json};

use crate::cli::json::{list, text};

/// What is answered.
pub(super) struct Choice {
    /// In words, for the event.
    pub decision: &'static str,
    /// As the protocol says it.
    pub result: Value,
}

/// Allows it once: `allow_always` would change the session's mode (gemini then even says so in the agent's
/// name). After a cancel the protocol wants `cancelled`.
pub(super) fn choose(message: &Value, cancelled: bool) -> Choice {
    let options = list(message, "/params/options");
    let of_kind = |kind| options.iter().find(|o| text(o, "/kind") == kind);
    let option = of_kind("allow_once").or_else(|| of_kind("allow_always"));
    match option {
        Some(option) if !cancelled => Choice {
            decision: "allowed",
            result: json!({ "outcome": {
                "outcome": "selected", "optionId": text(option, "/optionId"),
            } }),
        },
        _ => Choice {
            decision: "denied",
            result: json!({ "outcome": { "outcome": "cancelled" } }),
        },
    }
}
