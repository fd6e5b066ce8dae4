//! The words of a script. `docs/scripted-model.md` explains them to people.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::Trouble;
use crate::Api;

/// A whole script.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// Model names that are listed besides the ones that requests name.
    #[serde(default)]
    pub models: Vec<String>,
    /// Token counts that each answer reports.
    #[serde(default)]
    pub usage: UsageNumbers,
    /// Milliseconds between the pieces of a streamed answer.
    #[serde(default)]
    pub delay_ms: u64,
    /// Troubles by name, asked for by the path prefix `/s/NAME`.
    #[serde(default)]
    pub scenarios: BTreeMap<String, Trouble>,
    /// The first rule that matches answers.
    pub rules: Vec<Rule>,
}

/// Token counts of one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UsageNumbers {
    /// Tokens sent, cached ones included.
    pub input: u64,
    /// Tokens received.
    pub output: u64,
    /// Those of `input` that were read from a cache.
    pub cached: u64,
}

impl Default for UsageNumbers {
    fn default() -> Self {
        Self {
            input: 100,
            output: 20,
            cached: 30,
        }
    }
}

/// What to do for one kind of conversation.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// A name for the record.
    #[serde(default)]
    pub name: String,
    /// Which conversations. Default: all.
    #[serde(default)]
    pub when: When,
    /// Misbehave.
    #[serde(default)]
    pub trouble: Option<Trouble>,
    /// How often the rule may answer; afterwards later rules are looked at.
    #[serde(default)]
    pub times: Option<u64>,
    /// Milliseconds between the pieces of a streamed answer, in place of the script's.
    #[serde(default)]
    pub delay_ms: Option<u64>,
    /// Token counts, in place of the script's.
    #[serde(default)]
    pub usage: Option<UsageNumbers>,
    /// One answer each; how many tool results there are says which one is next.
    #[serde(default)]
    pub steps: Vec<Step>,
}

/// Conditions; all that are given must hold.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct When {
    /// Texts that the latest prompt contains.
    pub prompt: OneOrMany,
    /// A text that the latest prompt ends with, spaces and a closing quote aside.
    pub prompt_ends: Option<String>,
    /// Texts that must not be in the latest prompt.
    pub prompt_lacks: OneOrMany,
    /// Texts that the system prompt contains.
    pub system: OneOrMany,
    /// Texts that the latest tool result contains.
    pub last_result: OneOrMany,
    /// Exactly this many tool results since the latest prompt.
    pub results: Option<usize>,
    /// At least this many tool results since the latest prompt.
    pub results_at_least: Option<usize>,
    /// A text that the model's name contains.
    pub model: Option<String>,
    /// The wire format of the request.
    pub api: Option<Api>,
    /// A tool that the request offers, by its own name.
    pub offers: Option<String>,
}

/// One text or a list of texts.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One.
    One(String),
    /// Many.
    Many(Vec<String>),
}

impl Default for OneOrMany {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl OneOrMany {
    /// The texts.
    #[must_use]
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Many(texts) => texts,
        }
    }
}

/// One answer: thinking, text, and tool calls.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Step {
    /// Thinking before the text.
    pub think: Option<String>,
    /// Text.
    pub say: Option<String>,
    /// One tool call.
    pub tool: Option<Action>,
    /// Several tool calls in one answer.
    pub tools: Vec<Action>,
}

impl Step {
    /// The tool calls, `tool` first.
    pub fn actions(&self) -> impl Iterator<Item = &Action> {
        self.tool.iter().chain(&self.tools)
    }
}

/// A tool call in words that no CLI owns; each request's own tools are found for it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Write a whole file.
    Write {
        /// The path, relative to the working directory.
        path: String,
        /// The content.
        content: String,
    },
    /// Read a file.
    Read {
        /// The path, relative to the working directory.
        path: String,
    },
    /// Replace one text by another.
    Edit {
        /// The path, relative to the working directory.
        path: String,
        /// What to replace.
        old: String,
        /// What by.
        new: String,
    },
    /// Run a shell command.
    Bash {
        /// The command.
        command: String,
    },
    /// Give a job to a child agent.
    Task {
        /// The child's prompt.
        prompt: String,
    },
    /// Call exactly this tool with exactly these arguments.
    Call {
        /// The tool's own name.
        name: String,
        /// Its arguments.
        args: Value,
    },
}
