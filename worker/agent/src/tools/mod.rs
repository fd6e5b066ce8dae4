//! The tools: what the model is offered, and what each of them does.

mod bash;
mod files;
mod output;
mod path;
mod todo;

use std::{path::Path, time::Duration};

use serde_json::{Value, json};

use crate::{chat::ToolSpec, events::Events, instructions::Role};

/// The tool that starts a child agent. The loop does it itself.
pub const TASK: &str = "task";

/// What a tool returns: text for the model, or what went wrong.
pub type Done = Result<String, String>;

/// What tools work with.
pub struct Toolbox<'a> {
    /// The working directory, absolute and without links.
    pub root: &'a Path,
    /// Where plans are told.
    pub events: &'a Events,
    /// How long a command may run when the model names no limit.
    pub command_timeout: Duration,
}

impl Toolbox<'_> {
    /// Does one call.
    pub async fn call(&self, tool: &str, args: &Value) -> Done {
        match tool {
            "bash" => bash::run(self, args).await,
            "read" => files::read(self.root, args),
            "write" => files::write(self.root, args),
            "edit" => files::edit(self.root, args),
            "todo" => todo::set(self.events, args),
            _ => Err(format!(
                "there is no tool `{tool}`; there are bash, read, write, edit, todo"
            )),
        }
    }
}

/// The tools that an agent is offered. A child starts no children.
pub fn specs(role: Role) -> Vec<ToolSpec> {
    let mut specs = vec![
        bash::spec(),
        files::read_spec(),
        files::write_spec(),
        files::edit_spec(),
    ];
    specs.push(todo::spec());
    if role == Role::Main {
        specs.push(task_spec());
    }
    specs
}

fn task_spec() -> ToolSpec {
    ToolSpec {
        name: TASK,
        description: "Give a self-contained job to a child agent with the same tools and a fresh \
                      conversation. It sees only the prompt, and only its final text comes back. \
                      Good for searches and side jobs of which the details do not matter here.",
        schema: object(
            &[
                (
                    "description",
                    json!({ "type": "string", "description": "A few words for people" }),
                ),
                (
                    "prompt",
                    json!({ "type": "string", "description": "All that the child must know" }),
                ),
            ],
            &["prompt"],
        ),
    }
}

/// The schema of an object.
fn object(properties: &[(&str, Value)], required: &[&str]) -> Value {
    let properties: serde_json::Map<String, Value> = properties
        .iter()
        .map(|(name, schema)| ((*name).to_owned(), schema.clone()))
        .collect();
    json!({ "type": "object", "properties": properties, "required": required })
}

/// A text argument that must be there.
pub fn text<'a>(args: &'a Value, name: &str) -> Result<&'a str, String> {
    let value = args
        .get(name)
        .ok_or_else(|| format!("the argument `{name}` is missing"))?;
    value
        .as_str()
        .ok_or_else(|| format!("the argument `{name}` must be a text"))
}

/// A whole number that may be left out.
fn number(args: &Value, name: &str) -> Result<Option<u64>, String> {
    match args.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64() {
            Some(number) => Ok(Some(number)),
            None => Err(format!("the argument `{name}` must be a whole number")),
        },
    }
}
