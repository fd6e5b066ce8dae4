//! Times in documents: RFC 3339, UTC, milliseconds.

use orchestra_types::Timestamp;
use serde::{Serialize, Serializer};

/// A moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Timestamp);

impl Time {
    /// The moment that the wire gives in milliseconds.
    pub fn from_ms(ms: u64) -> Self {
        Self(Timestamp(ms))
    }
}

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let moment = i64::try_from(self.0.0)
            .ok()
            .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        write!(f, "{:.3}", moment.unwrap_or(jiff::Timestamp::MAX))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_in_utc_whatever_the_number() {
        assert_eq!(
            Time::from_ms(1_790_000_000_123).to_string(),
            "2026-09-21T14:13:20.123Z"
        );
        assert_eq!(Time::from_ms(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert!(Time::from_ms(u64::MAX).to_string().ends_with('Z'));
    }
}
