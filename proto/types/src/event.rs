//! One normalised, numbered line of what an attempt did.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Tokens and cost, summed over an attempt. Subset counts are not added to their whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens sent, cached ones included.
    pub input_tokens: u64,
    /// Tokens received, reasoning included.
    pub output_tokens: u64,
    /// Those of `input_tokens` that were read from a cache.
    pub cached_tokens: u64,
    /// Cost in millionths of a US dollar, where the CLI says it.
    pub cost_microusd: Option<u64>,
    /// Model calls or turns, where the CLI says it.
    pub turns: u64,
}

impl Usage {
    /// The sum of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
            cached_tokens: self.cached_tokens.saturating_add(other.cached_tokens),
            cost_microusd: match (self.cost_microusd, other.cost_microusd) {
                (None, None) => None,
                (a, b) => Some(a.unwrap_or(0).saturating_add(b.unwrap_or(0))),
            },
            turns: self.turns.saturating_add(other.turns),
        }
    }

    /// The same without a cost of 0 for tokens that were used: a CLI that was stopped within an
    /// answer says that, and what the provider charges is then unknown.
    #[must_use]
    pub fn with_known_cost(mut self) -> Self {
        let has_tokens = self.input_tokens > 0 || self.output_tokens > 0;
        self.cost_microusd = self.cost_microusd.filter(|cost| *cost > 0 || !has_tokens);
        self
    }
}

/// Whether a text is a piece to append or the whole so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextForm {
    /// A piece: append it to the message with the same id.
    Delta,
    /// The whole message.
    Snapshot,
}

/// How a tool call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolStatus {
    /// It worked.
    Ok,
    /// It failed.
    Error,
    /// The attempt was stopped before it ended.
    Aborted,
}

/// Why events are not there any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// They were older than `events.max_age`.
    Age,
    /// All events together were more than `events.max_bytes`.
    Total,
    /// The attempt had more than `events.max_attempt_bytes`.
    Attempt,
    /// The head's disk does not hold what was written.
    Damaged,
}

impl GapReason {
    /// Its fixed word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Total => "total",
            Self::Attempt => "attempt",
            Self::Damaged => "damaged",
        }
    }

    /// In words, to follow "because".
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Age => "they were older than `events.max_age`",
            Self::Total => "all events together were more than `events.max_bytes`",
            Self::Attempt => "the attempt had more than `events.max_attempt_bytes`",
            Self::Damaged => "the head's disk does not hold what was written",
        }
    }
}

/// Events of an attempt that are not there any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The number of the first one.
    pub from: u64,
    /// The number of the last one.
    pub to: u64,
    /// Why.
    pub why: GapReason,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum EventKind {
    /// The CLI's session began.
    SessionStarted {
        /// The CLI's session id; empty when unknown.
        session: String,
        /// The model; empty when unknown.
        model: String,
    },
    /// The agent says something.
    Message {
        /// The message that a delta belongs to; empty when the CLI gives none.
        message_id: String,
        /// The text.
        text: String,
        /// Piece or whole.
        form: TextForm,
    },
    /// The agent thinks.
    Thinking {
        /// The message that a delta belongs to; empty when the CLI gives none.
        message_id: String,
        /// The text.
        text: String,
        /// Piece or whole.
        form: TextForm,
    },
    /// The agent calls a tool.
    ToolCall {
        /// The call, which its result names too.
        call_id: String,
        /// The tool's own name.
        tool: String,
        /// One line for people: a command, a path.
        title: String,
        /// The arguments as JSON text.
        input: String,
    },
    /// A tool call ended.
    ToolResult {
        /// The call.
        call_id: String,
        /// How it ended.
        status: ToolStatus,
        /// What it returned, cut.
        output: String,
    },
    /// What has been used so far in the attempt, in all.
    Usage(Usage),
    /// The CLI asks for permission.
    PermissionRequest {
        /// The request.
        request_id: String,
        /// The tool.
        tool: String,
        /// What for.
        title: String,
        /// What was answered: `allowed`, `denied`.
        decision: String,
    },
    /// The agent's plan or to-do list.
    Plan {
        /// Entries with their state, one a line.
        text: String,
    },
    /// Something that an operator would notice: a retry, a rate limit, a phase of the attempt.
    Status {
        /// A fixed word: `preparing`, `started`, `retrying`, `rate_limited`, `collecting`, …
        phase: String,
        /// In words.
        text: String,
        /// Facts as values.
        fields: BTreeMap<String, String>,
    },
    /// The agent's final text.
    Final {
        /// The text.
        text: String,
    },
    /// A line that no adapter understands; it stands in `raw`.
    Raw,
}

/// One normalised, numbered line of what an attempt did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Counts from 1 within the attempt, without gaps.
    pub seq: u64,
    /// When, by the worker's clock.
    pub time: Timestamp,
    /// The sub-agent that did it; empty for the main one.
    pub agent: String,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
    /// The CLI's own line, cut to `EVENT_RAW_BYTES_MAX`; empty when there is none.
    pub raw: String,
}
