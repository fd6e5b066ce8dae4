//! Tokens and cost, which every agent counts in its own place: in the answer to the prompt, in its `_meta`,
//! with every message, or in an update that may come after the answer.

use orchestra_types::Usage;
use serde_json::Value;

use crate::cli::{
    json::{at, microusd, number, text},
    story::Story,
};

/// What is known so far.
#[derive(Debug, Default)]
pub(super) struct Counter {
    exact: bool,
    settled: bool,
    context: u64,
    /// For agents whose `usage_update` tells what the last model call used.
    calls: Option<PerCall>,
}

/// The model call that is being counted: the one that the last message came of.
#[derive(Debug, Default)]
struct PerCall {
    message_id: String,
    counted: u64,
    is_over: bool,
}

impl Counter {
    /// For an agent whose `usage_update` tells what the last model call used.
    pub(super) fn per_call() -> Self {
        Self {
            calls: Some(PerCall::default()),
            ..Self::default()
        }
    }

    /// The agent said or did something, by the model call that `update` names.
    pub(super) fn on_output(&mut self, update: &Value) {
        let id = match text(update, "/messageId") {
            "" => text(update, "/_meta/goose/messageId"),
            id => id,
        };
        if let Some(call) = &mut self.calls
            && !id.is_empty()
            && call.message_id != id
        {
            id.clone_into(&mut call.message_id);
            call.counted = 0;
        }
    }

    /// `session_info_update`: goose's run is over, and what it used last is only repeated.
    pub(super) fn on_info(&mut self, update: &Value) {
        let run = update.pointer("/_meta/goose/activeRunId");
        if let (Some(call), Some(run)) = (&mut self.calls, run) {
            call.is_over = run.is_null();
        }
    }

    /// `usage_update`: the cost so far, and how full the context is. The latter stands in for the tokens
    /// when nothing better ever comes.
    pub(super) fn on_update(&mut self, story: &mut Story, update: &Value) {
        self.context = self.context.max(number(update, "/used"));
        if text(update, "/cost/currency") == "USD" {
            let cost_microusd = microusd(update, "/cost/amount").filter(|&cost| cost > 0);
            let so_far = story.usage();
            story.used(Usage {
                cost_microusd: cost_microusd.or(so_far.cost_microusd),
                ..so_far
            });
        }
        self.on_used(story, number(update, "/used"));
        if self.settled {
            self.settle(story);
        }
    }

    /// Sums what model calls used. One that is told of more than once is counted once, and one without a
    /// name not at all.
    fn on_used(&mut self, story: &mut Story, used: u64) {
        let Some(call) = &mut self.calls else {
            return;
        };
        if call.is_over || call.message_id.is_empty() || used <= call.counted {
            return;
        }
        self.exact = true;
        let step = Usage {
            input_tokens: used - call.counted,
            turns: u64::from(call.counted == 0),
            ..Usage::default()
        };
        call.counted = used;
        story.used(story.usage().plus(step));
    }

    /// What one model call used, beside a message (qwen): summed.
    pub(super) fn on_call(&mut self, story: &mut Story, update: &Value) {
        let step = tokens(at(update, "/_meta/usage"));
        if step.input_tokens + step.output_tokens > 0 {
            self.exact = true;
            story.used(story.usage().plus(Usage { turns: 1, ..step }));
        }
    }

    /// The answer to the prompt. Says whether it counts anything, as only model calls that worked do.
    pub(super) fn on_result(&mut self, story: &mut Story, result: &Value) -> bool {
        let quota = at(result, "/_meta/quota/token_count");
        let counted = [tokens(at(result, "/usage")), of_quota(quota)]
            .into_iter()
            .find(|u| u.input_tokens + u.output_tokens > 0);
        if let Some(counted) = counted {
            self.exact = true;
            let so_far = story.usage();
            let counted = match self.calls {
                Some(_) => of_last_call(counted, so_far),
                None => counted,
            };
            story.used(Usage {
                cost_microusd: so_far.cost_microusd,
                turns: so_far.turns,
                ..counted
            });
        }
        counted.is_some()
    }

    /// The run succeeded: what was counted by then must do, unless more comes.
    pub(super) fn settle(&mut self, story: &mut Story) {
        self.settled = true;
        if !self.exact && self.context > 0 {
            let so_far = story.usage();
            story.used(Usage {
                input_tokens: self.context,
                ..so_far
            });
        }
    }
}

/// Some agents count cached and thought tokens inside their wholes (copilot), some beside them
/// (opencode): the total tells which.
fn tokens(usage: &Value) -> Usage {
    let (input, output) = (
        number(usage, "/inputTokens"),
        number(usage, "/outputTokens"),
    );
    let cached = number(usage, "/cachedReadTokens");
    let beside = cached + number(usage, "/cachedWriteTokens");
    let thought = number(usage, "/thoughtTokens");
    let total = number(usage, "/totalTokens");
    let is_beside = total > 0 && total == input + output + beside + thought;
    Usage {
        input_tokens: if is_beside { input + beside } else { input },
        output_tokens: if is_beside { output + thought } else { output },
        cached_tokens: cached,
        ..Usage::default()
    }
}

/// The sum of all calls, of which the last one tells how much was output.
fn of_last_call(last: Usage, all: Usage) -> Usage {
    let sum = all
        .input_tokens
        .max(last.input_tokens.saturating_add(last.output_tokens));
    Usage {
        input_tokens: sum - last.output_tokens,
        ..last
    }
}

/// gemini's own place.
fn of_quota(count: &Value) -> Usage {
    Usage {
        input_tokens: number(count, "/input_tokens"),
        output_tokens: number(count, "/output_tokens"),
        ..Usage::default()
    }
}
