//! Why a run failed, in the codes of `docs/agent-format.md`.

/// The fixed words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The agent could not do it.
    AgentFailed,
    /// The key is missing or refused.
    Auth,
    /// Too many requests.
    RateLimited,
    /// The account has nothing left.
    QuotaExhausted,
    /// The service is down, overloaded or out of reach.
    ProviderUnavailable,
    /// The service does not take the request.
    BadRequest,
    /// The conversation is too long for the model.
    ContextTooLong,
    /// The model refused.
    Refused,
    /// Stopped by a signal.
    Cancelled,
    /// The service's answer makes no sense.
    Protocol,
    /// A fault of the agent itself.
    Internal,
}

impl Code {
    /// The word on the line.
    pub fn word(self) -> &'static str {
        match self {
            Self::AgentFailed => "agent_failed",
            Self::Auth => "auth",
            Self::RateLimited => "rate_limited",
            Self::QuotaExhausted => "quota_exhausted",
            Self::ProviderUnavailable => "provider_unavailable",
            Self::BadRequest => "bad_request",
            Self::ContextTooLong => "context_too_long",
            Self::Refused => "refused",
            Self::Cancelled => "cancelled",
            Self::Protocol => "protocol",
            Self::Internal => "internal",
        }
    }
}

/// Why a run failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The fixed word.
    pub code: Code,
    /// For people, with the next step.
    pub message: String,
    /// When the provider works again, in milliseconds since the Unix epoch.
    pub resets_at: Option<u64>,
}

impl Failure {
    /// A failure without a time.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            resets_at: None,
        }
    }
}
