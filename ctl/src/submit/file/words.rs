//! What is wrong with a task file, in words of ours.

use super::super::draft::KEYS;
use crate::{error::Error, ui::suggest::did_you_mean};

/// The error of what a parser says at this place.
pub(super) fn wrong(name: &str, line: u64, column: u64, key: Option<&str>, message: &str) -> Error {
    // The place stands in front, so it need not stand at the end as well.
    let message = message.split(" at line ").next().unwrap_or_default();
    let message = in_our_words(message, key);
    Error::failed(format!("{name}:{line}:{column}: {message}"))
        .hint("docs/task-file.md has every key and examples")
}

/// What the parsers begin a message with that is about the kind of a value.
const KINDS: [&str; 10] = [
    "invalid type",
    "invalid value",
    "invalid u32",
    "invalid boolean",
    "expected string scalar",
    "expected sequence start",
    "expected mapping start",
    "expected value",
    "externally tagged enum",
    "cannot deserialize null",
];

/// What the parsers say, for a person who has never heard of them. An unknown key comes with the
/// nearest one that there is, and a value with the key that it is of and what is allowed there.
fn in_our_words(message: &str, key: Option<&str>) -> String {
    let quoted = message.split('`').nth(1).unwrap_or_default();
    if message.starts_with("unknown field") {
        return format!("unknown key `{quoted}`{}", did_you_mean(quoted, KEYS));
    }
    if let Some(rest) = message.strip_prefix("duplicate mapping key: ") {
        return twice(rest.split(',').next().unwrap_or_default());
    }
    if message.contains("from_str_multiple") {
        return "a second YAML document begins here, and a file is one list: take out the `---` between \
                the tasks"
            .to_owned();
    }
    if message.starts_with("duplicate field") {
        return twice(quoted);
    }
    if message.contains("found a tab") || message.contains("tabs") {
        return "a tab stands here; YAML indents with spaces".to_owned();
    }
    let allowed = key.and_then(|key| Some((key, allowed(key)?)));
    let is_kind = KINDS.iter().any(|kind| message.starts_with(kind));
    match (allowed, message) {
        (Some((key, allowed)), _) if message.starts_with("unknown variant") => {
            format!("`{key}` is {allowed}, and not `{quoted}`")
        }
        (Some((key, allowed)), _) if is_kind => format!("`{key}` is {allowed}"),
        (Some(_), _) if message.starts_with('`') && KEYS.contains(&quoted) => message.to_owned(),
        (Some((key, _)), _) if quoted != key => format!("`{key}`: {message}"),
        (_, "expected sequence start") => "a list is expected here".to_owned(),
        (_, "expected mapping start") => "`key: value` is expected here".to_owned(),
        (_, other) => other.to_owned(),
    }
}

/// What may stand behind a key.
pub(super) fn allowed(key: &str) -> Option<&'static str> {
    Some(match key {
        "description" | "name" | "model" => "a text",
        "priority" => "high, normal or low",
        "agent" | "runner" => "the name of a runner, as claude",
        "fallback" => "a runner or a list of runners",
        "after" => "a task or a list of tasks",
        "on_dependency_failure" => "block, cancel or run",
        "at" => "a time, as +2h, \"18:30\" or \"2026-11-21 18:30\"",
        "every" => "6h, 1d or the like, or a time of day as \"18:30\"",
        "timeout" | "queue_timeout" | "stall_timeout" => "a duration, as 90s, 30m or 1h30m",
        "retries" => "a whole number, 0 to 100",
        "ports" => "a whole number, 0 to 16",
        "budget" => "a text as 200k-tokens,5usd,1h,3-attempts",
        "parent" => "a task, as task_001",
        "labels" | "require" | "requires" => "names with texts, as {area: docs}",
        "context" => "a list of files, as [notes.md]",
        "command" => "a text or a list of texts",
        "repo" => "a directory",
        "in_place" | "no_repo" | "apply" => "true or false",
        _ => return None,
    })
}

/// A key that stands twice; for the parser, its other name is the same.
fn twice(key: &str) -> String {
    let pairs = [("agent", "runner"), ("require", "requires")];
    if let Some((name, other)) = pairs.into_iter().find(|(name, _)| *name == key) {
        return format!(
            "`{name}` and `{other}` are the same key, and it stands here for the second time"
        );
    }
    format!("key `{key}` stands here for the second time")
}
