//! What a `result` means: success, or which failure; and what the run used.

use orchestra_types::{Failure, FailureCode, Timestamp, Usage};
use serde_json::Value;

use crate::cli::{
    json::{at, list, microusd, number, shown, text},
    provider_error,
    story::Ending,
};

/// What the lines before the `result` said about its reasons.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    error: String,
    said: String,
    resets_at: Option<Timestamp>,
}

impl Outcome {
    /// A message that Claude Code made itself, to tell an error of the provider.
    pub(super) fn on_synthetic(&mut self, message: &Value) {
        self.error = text(message, "/error").to_owned();
        self.said = text(message, "/message/content/0/text").to_owned();
    }

    /// `rate_limit_event`: when a subscription's limit resets.
    pub(super) fn on_rate_limit(&mut self, info: &Value) {
        self.resets_at = match text(info, "/status") {
            "rejected" => provider_error::epoch_seconds(number(info, "/resetsAt")),
            _ => None,
        };
    }

    /// How it ended.
    pub(super) fn ending(&self, result: &Value, cancelled: bool) -> Ending {
        let is_error = at(result, "/is_error").as_bool().unwrap_or(true);
        match text(result, "/subtype") {
            "success" if !is_error => Ending::Success,
            _ if cancelled => {
                Ending::Failed(Failure::new(FailureCode::Cancelled, "it was interrupted"))
            }
            "success" => Ending::Failed(self.provider_failure(result)),
            subtype => Ending::Failed(own_failure(subtype, result)),
        }
    }

    /// An error of the provider: subtype `success` with `is_error`.
    fn provider_failure(&self, result: &Value) -> Failure {
        let message = match text(result, "/result") {
            "" => self.said.as_str(),
            said => said,
        };
        let status = at(result, "/api_error_status").as_u64();
        let status = status.and_then(|s| u16::try_from(s).ok());
        let mut failure = provider_error::failure(status, message);
        failure.code = match (self.error.as_str(), text(result, "/stop_reason")) {
            (_, "refusal") => FailureCode::Refused,
            ("billing_error", _) => FailureCode::QuotaExhausted,
            ("authentication_failed", _) => FailureCode::Auth,
            ("server_error", _) if failure.code == FailureCode::AgentFailed => {
                FailureCode::ProviderUnavailable
            }
            _ => failure.code,
        };
        provider_error::with_reset(failure, self.resets_at)
    }
}

/// An error of Claude Code itself: too many turns, budget used up, session not found, …
fn own_failure(subtype: &str, result: &Value) -> Failure {
    let errors: Vec<String> = list(result, "/errors").iter().map(shown).collect();
    let why = match errors.as_slice() {
        [] => subtype.replace('_', " "),
        errors => errors.join("; "),
    };
    match subtype {
        "error_max_budget_usd" => Failure::new(FailureCode::QuotaExhausted, why),
        _ => Failure::new(FailureCode::AgentFailed, why),
    }
}

/// What the run used: sub-agents are in `modelUsage` only. An interrupted stream reports 0 tokens,
/// then `so_far` is what is known, and a cost of 0, which is none that is known.
pub(super) fn usage(result: &Value, so_far: Usage) -> Usage {
    let by_model = at(result, "/modelUsage").as_object();
    let of_models = by_model
        .into_iter()
        .flat_map(serde_json::Map::values)
        .map(of_model)
        .fold(Usage::default(), Usage::plus);
    let of_main = main_usage(at(result, "/usage"));
    let tokens = [of_models, of_main, so_far]
        .into_iter()
        .find(|u| u.input_tokens + u.output_tokens > 0)
        .unwrap_or_default();
    Usage {
        cost_microusd: microusd(result, "/total_cost_usd").filter(|&cost| cost > 0),
        turns: number(result, "/num_turns"),
        ..tokens
    }
}

fn of_model(model: &Value) -> Usage {
    let cached = number(model, "/cacheReadInputTokens");
    let created = number(model, "/cacheCreationInputTokens");
    Usage {
        input_tokens: number(model, "/inputTokens") + created + cached,
        output_tokens: number(model, "/outputTokens"),
        cached_tokens: cached,
        ..Usage::default()
    }
}

fn main_usage(usage: &Value) -> Usage {
    let cached = number(usage, "/cache_read_input_tokens");
    let created = number(usage, "/cache_creation_input_tokens");
    Usage {
        input_tokens: number(usage, "/input_tokens") + created + cached,
        output_tokens: number(usage, "/output_tokens"),
        cached_tokens: cached,
        ..Usage::default()
    }
}
