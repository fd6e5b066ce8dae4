//! Partial messages: which content block a piece belongs to, and what each model call used.
//!
//! A whole block comes as an `assistant` line of its own, without its index and before the block's stop
//! event. Its id is therefore the block that is open; without partial messages, blocks are counted.

use std::collections::HashMap;

use orchestra_types::Usage;
use serde_json::Value;

use crate::cli::json::{at, number, text};

/// The message that each agent is writing.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    by_agent: HashMap<String, Current>,
}

#[derive(Debug, Default)]
struct Current {
    message: String,
    index: u64,
    streamed: bool,
    started: Value,
}

impl Blocks {
    /// `message_start`.
    pub(super) fn on_start(&mut self, agent: &str, event: &Value) {
        let current = Current {
            message: text(event, "/message/id").to_owned(),
            index: 0,
            streamed: true,
            started: at(event, "/message/usage").clone(),
        };
        self.by_agent.insert(agent.to_owned(), current);
    }

    /// `content_block_start`.
    pub(super) fn on_block(&mut self, agent: &str, event: &Value) {
        if let Some(current) = self.by_agent.get_mut(agent) {
            current.index = number(event, "/index");
        }
    }

    /// `message_delta`: what this model call used.
    pub(super) fn on_usage(&mut self, agent: &str, event: &Value) -> Usage {
        let Some(current) = self.by_agent.get_mut(agent) else {
            return Usage::default();
        };
        let started = std::mem::take(&mut current.started);
        Usage {
            turns: u64::from(agent.is_empty()),
            ..call_usage(&started, at(event, "/usage"))
        }
    }

    /// What the model calls used that were broken off.
    pub(super) fn unfinished(&self) -> Usage {
        self.by_agent
            .values()
            .map(|current| call_usage(&current.started, &Value::Null))
            .fold(Usage::default(), Usage::plus)
    }

    /// The id of the block that pieces belong to now.
    pub(super) fn id_of_piece(&self, agent: &str) -> String {
        self.by_agent
            .get(agent)
            .map_or_else(String::new, |c| format!("{}:{}", c.message, c.index))
    }

    /// The id of a whole block of `message`.
    pub(super) fn id_of_whole(&mut self, agent: &str, message: &str) -> String {
        let current = self.by_agent.entry(agent.to_owned()).or_default();
        if current.message != message {
            *current = Current {
                message: message.to_owned(),
                ..Current::default()
            };
        }
        let id = format!("{message}:{}", current.index);
        if !current.streamed {
            current.index += 1;
        }
        id
    }
}

/// What one model call used. Its last report repeats the input of the first with some versions, and
/// leaves it out with others.
fn call_usage(first: &Value, last: &Value) -> Usage {
    if first.is_null() {
        return Usage::default();
    }
    let of = |field: &str| number(first, field).max(number(last, field));
    let cached = of("/cache_read_input_tokens");
    Usage {
        input_tokens: of("/input_tokens") + of("/cache_creation_input_tokens") + cached,
        output_tokens: of("/output_tokens"),
        cached_tokens: cached,
        ..Usage::default()
    }
}
