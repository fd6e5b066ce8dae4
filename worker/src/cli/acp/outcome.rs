//! What the answer to the prompt means.
//!
//! `end_turn` is not always success: some agents tell the provider's error as the agent's text and end the
//! turn as if nothing had happened.

use orchestra_types::{Failure, FailureCode};
use serde_json::Value;

use super::notes::{self, Note};
use crate::cli::{
    json::{at, shown, text},
    provider_error,
    story::{Ending, Story},
};

/// `Authentication required`, as the protocol numbers it.
const AUTH_REQUIRED: i64 = -32000;

/// What the agent said last.
pub(super) struct Said<'a> {
    pub last_message: &'a str,
    pub last_piece: &'a str,
    pub speaks_for_the_agent: bool,
    pub notes: &'a [Note],
    pub counted: bool,
}

/// A result with its stop reason.
pub(super) fn on_result(result: &Value, said: &Said<'_>) -> Ending {
    let failed = |code, why: &str| Ending::Failed(Failure::new(code, why));
    match text(result, "/stopReason") {
        "end_turn" => said.failure().map_or(Ending::Success, Ending::Failed),
        "cancelled" => failed(FailureCode::Cancelled, "it was interrupted"),
        "refusal" => failed(FailureCode::Refused, "the model refused to do it"),
        "max_tokens" => failed(
            FailureCode::AgentFailed,
            "the model's answer became too long",
        ),
        "max_turn_requests" => failed(FailureCode::AgentFailed, "the most model calls were made"),
        other => {
            let why = format!("the turn ended with an unknown reason: `{other}`");
            failed(FailureCode::Protocol, &why)
        }
    }
}

/// An error in place of a result. Some agents answer a cancel with one.
pub(super) fn on_error(error: &Value, how_to_log_in: &str, story: &Story) -> Ending {
    if story.is_cancelled() {
        return Ending::Failed(Failure::new(FailureCode::Cancelled, "it was interrupted"));
    }
    Ending::Failed(of_error(error, how_to_log_in))
}

/// The failure that an error of the protocol means.
pub(super) fn of_error(error: &Value, how_to_log_in: &str) -> Failure {
    let code = at(error, "/code").as_i64().unwrap_or_default();
    let status = u16::try_from(code).ok().filter(|s| (400..600).contains(s));
    let mut failure = provider_error::failure(status, &words(error));
    if code == AUTH_REQUIRED && failure.code == FailureCode::AgentFailed {
        failure.code = FailureCode::Auth;
    }
    // goose says the kind of some errors beside their words.
    if text(error, "/data/reason") == "credits_exhausted" {
        failure.code = FailureCode::QuotaExhausted;
    }
    if failure.code == FailureCode::Auth && !how_to_log_in.is_empty() {
        failure.message = format!("{} ({how_to_log_in})", failure.message);
    }
    failure
}

/// The message, the words inside a message that is the provider's JSON, and the details.
fn words(error: &Value) -> String {
    let message = text(error, "/message");
    let inner: Option<Value> = serde_json::from_str(message).ok();
    let message = match inner.as_ref().map(|body| text(body, "/error/message")) {
        None | Some("") => message.to_owned(),
        Some(inner) => inner.to_owned(),
    };
    let details = match at(error, "/data") {
        Value::String(details) => details.clone(),
        data => shown(at(data, "/details")),
    };
    match details.as_str() {
        "" => message,
        details if message.contains(details) => message,
        details => format!("{message}: {details}"),
    }
}

impl Said<'_> {
    /// The failure, if that is what the last words are.
    pub(super) fn failure(&self) -> Option<Failure> {
        let by_piece = || {
            let error = self.provider_error()?;
            Some(provider_error::failure(None, &error))
        };
        notes::failure(self.notes, self.last_message).or_else(by_piece)
    }

    /// The provider's error, passed on as the last piece of what the agent says.
    fn provider_error(&self) -> Option<String> {
        if self.counted {
            return None;
        }
        if self.speaks_for_the_agent
            && let Some(error) = self.last_piece.strip_prefix("Error: ")
        {
            return Some(error.to_owned());
        }
        // codex-acp passes on the provider's JSON.
        let json: Option<Value> = serde_json::from_str(self.last_piece.trim()).ok();
        let error = json.as_ref()?.get("error")?;
        Some(error.to_string())
    }
}
