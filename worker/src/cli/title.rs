//! One line that tells a person what a tool call does: the command, the path, the pattern.

use orchestra_types::limits;
use serde_json::Value;

/// Longest title in bytes: one line of a wide terminal.
const TITLE_BYTES_MAX: usize = 200;

/// Arguments that say most, best first. Names differ between CLIs.
const TELLING: [&str; 22] = [
    "command",
    "cmd",
    "commands",
    "file_path",
    "filePath",
    "filepath",
    "path",
    "absolute_path",
    "notebook_path",
    "pattern",
    "query",
    "url",
    "regex",
    "description",
    "prompt",
    "skill",
    "name",
    "subject",
    "title",
    "text",
    "input",
    "questions",
];

/// A title for a call of a tool with `input`. Paths below `cwd` are shown relative to it.
pub(super) fn of_input(input: &Value, cwd: &str) -> String {
    let telling = TELLING.iter().find_map(|name| telling(&input[*name]));
    let title = match (telling, input) {
        (Some(text), _) => text,
        (None, Value::Object(fields)) if !fields.is_empty() => input.to_string(),
        (None, Value::String(text)) => text.clone(),
        (None, _) => String::new(),
    };
    line(&title, cwd)
}

/// `title` as one short line. Paths below `cwd` are shown relative to it.
pub(super) fn line(title: &str, cwd: &str) -> String {
    let relative = match cwd {
        "" | "/" => title.to_owned(),
        dir => title.replace(&format!("{dir}/"), ""),
    };
    let mut lines = relative.lines().filter(|l| !l.trim().is_empty());
    let first = lines.next().unwrap_or_default().trim().to_owned();
    let whole = match lines.next() {
        Some(_) => format!("{first} …"),
        None => first,
    };
    limits::cut(&whole, TITLE_BYTES_MAX)
}

fn telling(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.trim().is_empty() => Some(text.clone()),
        Value::Array(words) if !words.is_empty() => {
            let words: Option<Vec<&str>> = words.iter().map(word).collect();
            Some(words?.join(" "))
        }
        _ => None,
    }
}

/// A word of an argument list, or one question of a list of them.
fn word(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value["question"].as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_title_is_the_command_or_the_path_below_the_workspace() {
        let title = |input| of_input(&input, "/repo");
        assert_eq!(
            title(json!({"command": "cargo test", "description": "run"})),
            "cargo test"
        );
        assert_eq!(
            title(json!({"content": "x", "file_path": "/repo/src/a.rs"})),
            "src/a.rs"
        );
        assert_eq!(title(json!({"command": ["ls", "-l"]})), "ls -l");
        assert_eq!(title(json!({"command": "cat <<E\nx\nE"})), "cat <<E …");
        assert_eq!(title(json!({"depth": 2})), r#"{"depth":2}"#);
        assert_eq!(title(json!({})), "");
        assert!(title(json!({"command": "é".repeat(500)})).len() <= TITLE_BYTES_MAX);
    }
}
