//! What an error of a model provider means, from its status and its words.
//!
//! CLIs wrap the same few provider errors in words of their own and seldom pass on more than a text.
//! The words that are looked for are the providers' own, which change least.

use orchestra_types::{Failure, FailureCode, Timestamp, limits};

/// Longest message of a failure in bytes.
const MESSAGE_BYTES_MAX: usize = 2 * 1024;

const QUOTA: [&str; 14] = [
    "credit balance",
    "insufficient_quota",
    "insufficient quota",
    "exceeded your current quota",
    "quota exceeded",
    "billing",
    "payment required",
    "usage limit reached",
    "hit your usage limit",
    "hit your limit",
    "maximum budget",
    "out of credits",
    "more credits",
    "add credits",
];
const TOO_LONG: [&str; 7] = [
    "prompt is too long",
    "context_length_exceeded",
    "context length",
    "context window",
    "maximum context",
    "input is too long",
    "too many tokens",
];
const REFUSED: [&str; 3] = ["usage policy", "content policy", "content_filter"];
const RATE: [&str; 6] = [
    "overloaded",
    "rate limit",
    "rate_limit",
    "too many requests",
    "resource_exhausted",
    "resource exhausted",
];
const AUTH: [&str; 12] = [
    "unauthorized",
    "unauthenticated",
    "authentication",
    "invalid api key",
    "invalid x-api-key",
    "api key not valid",
    "incorrect api key",
    "not logged in",
    "please run /login",
    "log in",
    "permission_denied",
    "forbidden",
];
const UNAVAILABLE: [&str; 19] = [
    "at capacity",
    "internal server error",
    "internal error encountered",
    "server_error",
    "server error",
    "server-side issue",
    "service unavailable",
    "bad gateway",
    "gateway timeout",
    "unable to connect",
    "connection refused",
    "connectionrefused",
    "connection error",
    "connection reset",
    "connection was closed",
    "cannot connect to api",
    "error sending request",
    "stream disconnected",
    "fetch failed",
];
const BAD_REQUEST: [&str; 6] = [
    "invalid_request",
    "invalid request",
    "bad request",
    "invalid_argument",
    "not_found_error",
    "model not found",
];

/// A failure from a provider's HTTP status, where the CLI tells it, and its message.
pub(super) fn failure(status: Option<u16>, message: &str) -> Failure {
    let status = status.or_else(|| status_in(message));
    let code = code(status, &message.to_lowercase());
    let failure = Failure::new(code, limits::cut(message.trim(), MESSAGE_BYTES_MAX));
    with_reset(failure, reset_in(message))
}

/// The failure with the moment when it is over. An empty quota that fills again by itself is a limit
/// to wait for.
pub(super) fn with_reset(mut failure: Failure, resets_at: Option<Timestamp>) -> Failure {
    failure.resets_at = failure.resets_at.or(resets_at);
    if failure.resets_at.is_some() && failure.code == FailureCode::QuotaExhausted {
        failure.code = FailureCode::RateLimited;
    }
    failure
}

/// The moment in epoch seconds as a timestamp; 0 means none.
pub(super) fn epoch_seconds(seconds: u64) -> Option<Timestamp> {
    (seconds > 0).then(|| Timestamp(seconds.saturating_mul(1000)))
}

/// Words first where they say more than the status: an empty account is a 400 with one provider and
/// a 429 with another.
fn code(status: Option<u16>, words: &str) -> FailureCode {
    let says = |marks: &[&str]| marks.iter().any(|mark| words.contains(mark));
    if says(&QUOTA) {
        return FailureCode::QuotaExhausted;
    }
    if says(&TOO_LONG) {
        return FailureCode::ContextTooLong;
    }
    if says(&REFUSED) {
        return FailureCode::Refused;
    }
    match status {
        Some(status) => of_status(status),
        None if says(&RATE) => FailureCode::RateLimited,
        None if says(&AUTH) => FailureCode::Auth,
        None if says(&UNAVAILABLE) => FailureCode::ProviderUnavailable,
        None if says(&BAD_REQUEST) => FailureCode::BadRequest,
        None => FailureCode::AgentFailed,
    }
}

fn of_status(status: u16) -> FailureCode {
    match status {
        401 | 403 => FailureCode::Auth,
        402 => FailureCode::QuotaExhausted,
        413 => FailureCode::ContextTooLong,
        429 | 529 => FailureCode::RateLimited,
        408 | 500..=599 => FailureCode::ProviderUnavailable,
        400..=499 => FailureCode::BadRequest,
        _ => FailureCode::AgentFailed,
    }
}

/// The HTTP status that stands in a text as a number of its own: `API Error: 400 …`, `(429)`,
/// `"code":401`, `HTTP 503`.
fn status_in(message: &str) -> Option<u16> {
    const BEFORE: [&str; 9] = [
        "error: ",
        "error ",
        "status ",
        "status: ",
        "status code ",
        "statuscode\":",
        "http ",
        "code\":",
        "(",
    ];
    let words = message.to_lowercase();
    let found = |mark: &str| {
        words
            .match_indices(mark)
            .find_map(|(at, _)| leading_status(&words[at + mark.len()..]))
    };
    BEFORE
        .iter()
        .find_map(|mark| found(mark))
        .or_else(|| leading_status(&words))
}

fn leading_status(text: &str) -> Option<u16> {
    let text = text.trim_start();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let status: u16 = text[..digits].parse().ok()?;
    (digits == 3 && (400..600).contains(&status)).then_some(status)
}

/// Claude Code says `…limit reached|1749924000` when a subscription's limit is used up.
fn reset_in(message: &str) -> Option<Timestamp> {
    let (_, after) = message.split_once("limit reached|")?;
    let digits = after.bytes().take_while(u8::is_ascii_digit).count();
    epoch_seconds(after[..digits].parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recorded_provider_error_has_its_code() {
        let cases = [
            (
                Some(400),
                "Credit balance is too low",
                FailureCode::QuotaExhausted,
            ),
            (
                None,
                "API Error: 400 scripted bad request",
                FailureCode::BadRequest,
            ),
            (
                None,
                "API Error: Request rejected (429) · scripted rate limit",
                FailureCode::RateLimited,
            ),
            (
                None,
                "Invalid API key · Fix external API key",
                FailureCode::Auth,
            ),
            (Some(529), "Overloaded", FailureCode::RateLimited),
            (
                None,
                "API Error: Unable to connect to API (ConnectionRefused)",
                FailureCode::ProviderUnavailable,
            ),
            (
                None,
                "prompt is too long: 210000 tokens > 200000 maximum",
                FailureCode::ContextTooLong,
            ),
            (
                None,
                r#"{"error":{"code":401,"message":"no","status":"UNAUTHENTICATED"}}"#,
                FailureCode::Auth,
            ),
            (
                None,
                "Authentication failed with provider at http://127.0.0.1:1/v1 (HTTP 401).",
                FailureCode::Auth,
            ),
            (
                None,
                "Rate limit exceeded: Resource exhausted, rate limited.",
                FailureCode::RateLimited,
            ),
            (
                None,
                r#"{"error": {"message": "x", "type": "invalid_request_error"}}"#,
                FailureCode::BadRequest,
            ),
            (
                None,
                "Selected model is at capacity. Please try a different model.",
                FailureCode::ProviderUnavailable,
            ),
            (
                None,
                "Please check your account with your provider to add more credits, then go on.",
                FailureCode::QuotaExhausted,
            ),
            (
                None,
                "Internal error: Cannot connect to API: The socket is gone",
                FailureCode::ProviderUnavailable,
            ),
            (
                None,
                "The socket connection was closed unexpectedly.",
                FailureCode::ProviderUnavailable,
            ),
            (
                None,
                "Internal error: scripted error 401",
                FailureCode::Auth,
            ),
            (
                None,
                "the tests fail in 404 places",
                FailureCode::AgentFailed,
            ),
        ];
        for (status, message, code) in cases {
            assert_eq!(failure(status, message).code, code, "{message}");
        }
    }

    #[test]
    fn a_quota_that_resets_by_itself_is_a_limit_to_wait_for() {
        let failure = failure(None, "Claude AI usage limit reached|1749924000");
        assert_eq!(failure.code, FailureCode::RateLimited);
        assert_eq!(failure.resets_at, Some(Timestamp(1_749_924_000_000)));
    }
}
