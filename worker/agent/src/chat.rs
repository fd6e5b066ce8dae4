//! A conversation with a model, in words that no provider owns.

use serde_json::Value;

/// One entry of a conversation.
#[derive(Clone, Debug)]
pub enum Message {
    /// The prompt, or a reminder.
    User(String),
    /// What the model answered.
    Assistant(Reply),
    /// What its tool calls returned.
    Results(Vec<ToolOutcome>),
}

/// A model's answer.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// Its thinking, which some providers want back as it was.
    pub thinking: Vec<Thinking>,
    /// Its text.
    pub text: String,
    /// Its tool calls.
    pub calls: Vec<ToolCall>,
    /// What it cost.
    pub usage: Tokens,
    /// Why it ended.
    pub stop: Stop,
}

/// A piece of thinking with the provider's signature.
#[derive(Clone, Debug, Default)]
pub struct Thinking {
    /// The text.
    pub text: String,
    /// The signature; empty for none.
    pub signature: String,
}

/// A call of a tool.
#[derive(Clone, Debug)]
pub struct ToolCall {
    /// Pairs it with its result.
    pub id: String,
    /// The tool.
    pub tool: String,
    /// The arguments, or the text that is not JSON.
    pub args: Result<Value, String>,
}

/// What a tool returned.
#[derive(Clone, Debug)]
pub struct ToolOutcome {
    /// The call.
    pub id: String,
    /// The text for the model.
    pub output: String,
    /// Whether it failed.
    pub failed: bool,
}

/// Token counts; `cached` are part of `input`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Sent.
    pub input: u64,
    /// Received.
    pub output: u64,
    /// Read from a cache.
    pub cached: u64,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stop {
    /// The model is done, or calls tools.
    #[default]
    Complete,
    /// The answer reached the limit of tokens.
    Length,
    /// The model refused.
    Refused,
}

/// A tool as it is offered to the model.
#[derive(Clone, Debug)]
pub struct ToolSpec {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub description: &'static str,
    /// JSON schema of its arguments.
    pub schema: Value,
}

/// What is asked of a model.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The instructions.
    pub system: &'a str,
    /// The conversation.
    pub messages: &'a [Message],
    /// The tools.
    pub tools: &'a [ToolSpec],
}
