//! Finds, for a script's word, the tool that a request offers, and gives the arguments their names.
//!
//! Each CLI has its own tools: `Write{file_path, content}`, `write{filePath, content}`,
//! `write_file`, a free-text `apply_patch`, or a shell and nothing else. The request says which,
//! with a schema, so that no CLI needs to be known by name.

use serde_json::{Map, Value, json};

use crate::{
    answer::{Call, CallInput, fresh_id},
    conversation::{OfferedTool, ToolInput},
    script::Action,
};

const WRITE: [&str; 5] = ["write", "write_file", "create_file", "create", "writefile"];
const READ: [&str; 4] = ["read", "read_file", "view", "readfile"];
const EDIT: [&str; 4] = ["edit", "replace", "edit_file", "str_replace"];
const SHELL: [&str; 7] = [
    "bash",
    "shell",
    "exec_command",
    "shell_command",
    "run_shell_command",
    "execute_command",
    "run_command",
];
/// The shells of codex, which take `apply_patch` as a command.
const PATCHING_SHELLS: [&str; 2] = ["exec_command", "shell_command"];
const TASK: [&str; 2] = ["task", "agent"];

const PATH: [&str; 4] = ["file_path", "filePath", "path", "absolute_path"];
const CONTENT: [&str; 4] = ["content", "contents", "file_text", "text"];
const OLD: [&str; 5] = ["old_string", "oldString", "old_str", "before", "old"];
const NEW: [&str; 5] = ["new_string", "newString", "new_str", "after", "new"];
const COMMAND: [&str; 2] = ["command", "cmd"];

/// The call that does `action` with the offered tools.
pub fn call(action: &Action, tools: &[OfferedTool], cwd: Option<&str>) -> Result<Call, String> {
    let kit = Kit { tools, cwd };
    let found = match action {
        Action::Write { path, content } => kit.write(path, content),
        Action::Read { path } => kit.read(path),
        Action::Edit { path, old, new } => kit.edit(path, old, new),
        Action::Bash { command } => kit.bash(command),
        Action::Task { prompt } => kit.task(prompt),
        Action::Call { name, args } => Some(made(name, CallInput::Json(args.clone()))),
    };
    found.ok_or_else(|| {
        let names: Vec<&str> = tools.iter().map(|tool| tool.name.as_str()).collect();
        format!(
            "the request offers no tool for {action:?}; it offers: {}",
            names.join(", ")
        )
    })
}

struct Kit<'a> {
    tools: &'a [OfferedTool],
    cwd: Option<&'a str>,
}

impl Kit<'_> {
    fn write(&self, path: &str, content: &str) -> Option<Call> {
        if let Some((tool, schema)) = self.json_tool(&WRITE) {
            let args = [(&PATH[..], self.path(path)), (&CONTENT[..], json!(content))];
            return Some(made(&tool.name, CallInput::Json(arguments(schema, &args))));
        }
        self.patch(&add_file_patch(path, content))
            .or_else(|| self.bash(&heredoc(path, content)))
    }

    fn read(&self, path: &str) -> Option<Call> {
        match self.json_tool(&READ) {
            Some((tool, schema)) => {
                let args = [(&PATH[..], self.path(path))];
                Some(made(&tool.name, CallInput::Json(arguments(schema, &args))))
            }
            None => self.bash(&format!("cat -- {}", quoted(path))),
        }
    }

    fn edit(&self, path: &str, old: &str, new: &str) -> Option<Call> {
        if let Some((tool, schema)) = self.json_tool(&EDIT) {
            let args = [
                (&PATH[..], self.path(path)),
                (&OLD[..], json!(old)),
                (&NEW[..], json!(new)),
            ];
            return Some(made(&tool.name, CallInput::Json(arguments(schema, &args))));
        }
        self.patch(&update_file_patch(path, old, new))
    }

    fn bash(&self, command: &str) -> Option<Call> {
        let (tool, schema) = self.json_tool(&SHELL)?;
        let takes_list = COMMAND.iter().any(|name| {
            schema.pointer(&format!("/properties/{name}/type")) == Some(&json!("array"))
        });
        let command_value = if takes_list {
            json!(["bash", "-lc", command])
        } else {
            json!(command)
        };
        let args = [
            (&COMMAND[..], command_value),
            (&["description"][..], json!("scripted command")),
        ];
        Some(made(&tool.name, CallInput::Json(arguments(schema, &args))))
    }

    fn task(&self, prompt: &str) -> Option<Call> {
        let (tool, schema) = self.json_tool(&TASK)?;
        let args = [
            (&["prompt"][..], json!(prompt)),
            (&["description"][..], json!("scripted task")),
            (&["subagent_type"][..], json!("general-purpose")),
        ];
        Some(made(&tool.name, CallInput::Json(arguments(schema, &args))))
    }

    /// A patch by the tool for patches, or by the shells that know `apply_patch` as a command.
    fn patch(&self, patch: &str) -> Option<Call> {
        if let Some(tool) = self
            .tools
            .iter()
            .find(|tool| bare(&tool.name) == "apply_patch")
        {
            let input = match tool.input {
                ToolInput::Text => CallInput::Text(patch.to_owned()),
                ToolInput::Json(_) => CallInput::Json(json!({ "input": patch })),
            };
            return Some(made(&tool.name, input));
        }
        self.json_tool(&PATCHING_SHELLS)?;
        self.bash(&format!(
            "apply_patch <<'SCRIPTED_EOF'\n{patch}SCRIPTED_EOF\n"
        ))
    }

    /// The offered tool that has the first of these names, with its schema.
    fn json_tool(&self, names: &[&str]) -> Option<(&OfferedTool, &Value)> {
        names.iter().find_map(|name| {
            self.tools.iter().find_map(|tool| match &tool.input {
                ToolInput::Json(schema) if bare(&tool.name) == *name => Some((tool, schema)),
                ToolInput::Json(_) | ToolInput::Text => None,
            })
        })
    }

    /// Absolute where the working directory is known, since some tools take nothing else.
    fn path(&self, path: &str) -> Value {
        match self.cwd {
            Some(cwd) if !path.starts_with('/') => {
                json!(format!("{}/{path}", cwd.trim_end_matches('/')))
            }
            Some(_) | None => json!(path),
        }
    }
}

fn made(tool: &str, input: CallInput) -> Call {
    Call {
        id: fresh_id("call_"),
        tool: tool.to_owned(),
        input,
    }
}

/// A tool's name in lower case, without the `extension__` that some CLIs put before it.
fn bare(name: &str) -> String {
    name.rsplit("__").next().unwrap_or(name).to_lowercase()
}

/// An object in which each value has the first of its names that the schema knows, and what else
/// the schema requires is made up.
fn arguments(schema: &Value, args: &[(&[&str], Value)]) -> Value {
    let properties = schema.get("properties").and_then(Value::as_object);
    let mut object = Map::new();
    for (names, value) in args {
        let known = |name: &&&str| properties.is_none_or(|known| known.contains_key(**name));
        if let Some(name) = names.iter().find(known) {
            object.insert((*name).to_owned(), value.clone());
        }
    }
    let required = schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    for name in required.filter_map(Value::as_str) {
        if !object.contains_key(name) {
            let schema = properties
                .and_then(|known| known.get(name))
                .unwrap_or(&Value::Null);
            object.insert(name.to_owned(), example(schema));
        }
    }
    Value::Object(object)
}

/// A value that a JSON schema allows.
#[must_use]
pub fn example(schema: &Value) -> Value {
    if let Some(first) = schema.pointer("/enum/0").or_else(|| schema.get("const")) {
        return first.clone();
    }
    let kind = match schema.get("type") {
        Some(Value::String(kind)) => kind.to_lowercase(),
        Some(Value::Array(kinds)) => kinds
            .first()
            .and_then(Value::as_str)
            .unwrap_or("")
            .to_lowercase(),
        Some(_) | None => String::new(),
    };
    match kind.as_str() {
        "boolean" => json!(false),
        "integer" | "number" => schema.get("minimum").cloned().unwrap_or(json!(0)),
        "array" => json!([]),
        "null" => Value::Null,
        "object" => arguments(schema, &[]),
        _ => json!("scripted"),
    }
}

fn add_file_patch(path: &str, content: &str) -> String {
    let lines: String = content.lines().map(|line| format!("+{line}\n")).collect();
    format!("*** Begin Patch\n*** Add File: {path}\n{lines}*** End Patch\n")
}

fn update_file_patch(path: &str, old: &str, new: &str) -> String {
    let signed = |sign: char, text: &str| -> String {
        text.lines().map(|line| format!("{sign}{line}\n")).collect()
    };
    let (old, new) = (signed('-', old), signed('+', new));
    format!("*** Begin Patch\n*** Update File: {path}\n@@\n{old}{new}*** End Patch\n")
}

fn heredoc(path: &str, content: &str) -> String {
    let newline = if content.is_empty() || content.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    let path = quoted(path);
    format!(
        "mkdir -p \"$(dirname {path})\" && cat > {path} <<'SCRIPTED_EOF'\n{content}{newline}SCRIPTED_EOF\n"
    )
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(name: &str, schema: Value) -> OfferedTool {
        OfferedTool {
            name: name.into(),
            input: ToolInput::Json(schema),
        }
    }

    fn write() -> Action {
        Action::Write {
            path: "a.txt".into(),
            content: "one\n".into(),
        }
    }

    #[test]
    fn the_arguments_take_the_names_that_the_offered_tool_has() {
        let schema = json!({"properties": {"filePath": {}, "content": {}, "mode": {"type": "integer"}},
            "required": ["filePath", "content", "mode"]});
        let call = call(&write(), &[tool("write", schema)], Some("/repo")).expect("a call");
        assert_eq!(call.tool, "write");
        assert_eq!(
            call.json(),
            json!({"filePath": "/repo/a.txt", "content": "one\n", "mode": 0})
        );
    }

    #[test]
    fn a_request_with_only_a_shell_writes_files_by_the_shell() {
        let schema = json!({"properties": {"command": {"type": "array"}}, "required": ["command"]});
        let call = call(&write(), &[tool("shell", schema)], None).expect("a call");
        let command = call.json()["command"][2]
            .as_str()
            .expect("a command")
            .to_owned();
        assert!(
            command.contains("cat > 'a.txt'") && command.contains("\none\n"),
            "{command}"
        );
    }

    #[test]
    fn a_free_text_patch_tool_gets_a_patch() {
        let tools = [OfferedTool {
            name: "apply_patch".into(),
            input: ToolInput::Text,
        }];
        let call = call(&write(), &tools, None).expect("a call");
        let CallInput::Text(patch) = call.input else {
            panic!("not a text")
        };
        assert_eq!(
            patch,
            "*** Begin Patch\n*** Add File: a.txt\n+one\n*** End Patch\n"
        );
    }

    #[test]
    fn a_word_without_a_tool_says_what_is_offered() {
        let error = call(&write(), &[tool("web_search", json!({}))], None).expect_err("no tool");
        assert!(error.contains("web_search"), "{error}");
    }
}
