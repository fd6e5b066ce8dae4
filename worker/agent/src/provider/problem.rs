//! What went wrong with one model call, and whether another try may help.

use std::time::Duration;

use serde_json::Value;

use crate::failure::{Code, Failure};

/// What went wrong with one model call.
#[derive(Clone, Debug)]
pub struct Problem {
    /// As it is told when no try is left.
    pub failure: Failure,
    /// Whether another try may help.
    pub retry: Retry,
}

/// Whether another try may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// It cannot.
    No,
    /// It may.
    Yes,
    /// It may after this time, says the service.
    After(Duration),
}

impl Problem {
    /// A problem that goes away by itself.
    pub fn passing(message: impl Into<String>) -> Self {
        Self {
            failure: Failure::new(Code::ProviderUnavailable, message),
            retry: Retry::Yes,
        }
    }

    /// A problem that stays.
    pub fn lasting(code: Code, message: impl Into<String>) -> Self {
        Self {
            failure: Failure::new(code, message),
            retry: Retry::No,
        }
    }

    /// The `phase` of the status line.
    pub fn phase(&self) -> &'static str {
        if self.failure.code == Code::RateLimited {
            "rate_limited"
        } else {
            "retrying"
        }
    }

    /// The problem that an HTTP status and the service's words mean.
    pub fn of_status(status: u16, retry_after: Option<Duration>, said: &str) -> Self {
        let message = format!("the model service answered {status}: {said}");
        let code = match status {
            401 | 403 => Code::Auth,
            429 if is_quota(said) => Code::QuotaExhausted,
            402 => Code::QuotaExhausted,
            429 | 529 => Code::RateLimited,
            408 | 500.. => Code::ProviderUnavailable,
            413 => Code::ContextTooLong,
            400..500 if is_too_long(said) => Code::ContextTooLong,
            _ => Code::BadRequest,
        };
        let retry = match (code, retry_after) {
            (Code::RateLimited | Code::ProviderUnavailable, Some(after)) => Retry::After(after),
            (Code::RateLimited | Code::ProviderUnavailable, None) => Retry::Yes,
            _ => Retry::No,
        };
        Self {
            failure: Failure::new(code, message),
            retry,
        }
    }

    /// The problem that an error inside a stream means.
    pub fn of_stream(error: &Value) -> Self {
        let kind = error
            .get("type")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let said = error.get("message").and_then(Value::as_str).unwrap_or(kind);
        let status = match kind {
            "overloaded_error" => 529,
            "rate_limit_error" | "rate_limit_exceeded" => 429,
            "authentication_error" => 401,
            "invalid_request_error" => 400,
            _ => 500,
        };
        Self::of_status(status, None, said)
    }
}

fn is_quota(said: &str) -> bool {
    ["insufficient_quota", "quota", "credit balance", "billing"]
        .iter()
        .any(|word| said.to_lowercase().contains(word))
}

fn is_too_long(said: &str) -> bool {
    [
        "too long",
        "context length",
        "context_length",
        "context window",
        "maximum context",
    ]
    .iter()
    .any(|word| said.to_lowercase().contains(word))
}

/// The service's own words in an error's body, else its beginning.
pub fn words(body: &str) -> String {
    const BYTES_MAX: usize = 2000;
    let json: Value = serde_json::from_str(body).unwrap_or_default();
    let message = json
        .pointer("/error/message")
        .or_else(|| json.get("message"));
    let code = json
        .pointer("/error/code")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let text = match message.and_then(Value::as_str) {
        Some(message) if code.is_empty() => message.to_owned(),
        Some(message) => format!("{message} ({code})"),
        None => body.trim().to_owned(),
    };
    text[..text.floor_char_boundary(BYTES_MAX)].to_owned()
}
