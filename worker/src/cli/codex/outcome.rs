//! What a failed turn means, and when a limit resets.

use orchestra_types::{Failure, FailureCode, Timestamp};
use serde_json::Value;

use crate::cli::{
    json::{at, number, text},
    provider_error,
};

/// The failure of a turn, from `codexErrorInfo` where it says something, else from the message.
pub(super) fn failure(error: &Value) -> Failure {
    let info = at(error, "/codexErrorInfo");
    let message = match text(error, "/message") {
        "" => "the turn failed without a reason",
        message => message,
    };
    let mut failure = provider_error::failure(status(info), &said(message));
    failure.code = match info.as_str().unwrap_or_default() {
        "contextWindowExceeded" => FailureCode::ContextTooLong,
        "usageLimitExceeded" | "sessionBudgetExceeded" => FailureCode::QuotaExhausted,
        "serverOverloaded" | "internalServerError" => FailureCode::ProviderUnavailable,
        "unauthorized" => FailureCode::Auth,
        "badRequest" => FailureCode::BadRequest,
        "cyberPolicy" => FailureCode::Refused,
        _ => match (failure.code, info) {
            // `{"responseStreamDisconnected": …}` and its kind, without a status.
            (FailureCode::AgentFailed, Value::Object(_)) => FailureCode::ProviderUnavailable,
            (code, _) => code,
        },
    };
    failure
}

/// When the limit that is reached resets; none while none is reached.
pub(super) fn resets_at(limits: &Value) -> Option<Timestamp> {
    let full = |window: &&&Value| at(window, "/usedPercent").as_f64().unwrap_or_default() >= 100.0;
    let windows = [at(limits, "/primary"), at(limits, "/secondary")];
    let window = windows.iter().find(full)?;
    provider_error::epoch_seconds(number(window, "/resetsAt"))
}

/// `{"responseTooManyFailedAttempts": {"httpStatusCode": 429}}`
pub(super) fn status(info: &Value) -> Option<u16> {
    let details = info.as_object()?.values().next()?;
    u16::try_from(at(details, "/httpStatusCode").as_u64()?).ok()
}

/// The message and what is said beside it, for people.
pub(super) fn words(error: &Value) -> String {
    let message = text(error, "/message");
    match text(error, "/additionalDetails") {
        "" => message.to_owned(),
        details => format!("{message}: {details}"),
    }
}

/// The words inside an error that is the provider's JSON as a text.
fn said(message: &str) -> String {
    let body: Option<Value> = serde_json::from_str(message).ok();
    let Some(body) = body else {
        return message.to_owned();
    };
    match (text(&body, "/error/message"), text(&body, "/error/type")) {
        ("", _) => message.to_owned(),
        (words, "") => words.to_owned(),
        (words, kind) => format!("{words} ({kind})"),
    }
}
