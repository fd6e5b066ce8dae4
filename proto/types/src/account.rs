//! An account at a provider of models, which several workers may share.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{RunnerName, Timestamp, WorkerId, id::ParseIdError, limits};

/// An account: the provider and a fingerprint of the credential (`anthropic-3f9a01c2b4d5`), a name
/// of the configuration, or `claude@worker` where a worker cannot know it. Never a secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountName(Arc<str>);

impl AccountName {
    /// The text of it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The account of a runner whose worker does not name one: nobody else has it.
    #[must_use]
    pub fn of_worker(runner: &RunnerName, worker: &WorkerId) -> Self {
        let text = format!("{runner}@{worker}");
        // Two names of full length do not fit; the worker's end tells workers apart no less.
        let skip = text.len().saturating_sub(limits::NAME_BYTES_MAX);
        Self(text[skip..].into())
    }
}

impl fmt::Display for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for AccountName {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'@');
        let fits = (1..=limits::NAME_BYTES_MAX).contains(&text.len());
        if fits && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(ParseIdError {
                text: text.chars().take(64).collect(),
                wanted: "account name (1 to 128 of A-Z a-z 0-9 . _ - @)",
            })
        }
    }
}

impl Serialize for AccountName {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AccountName {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A CLI says, while it runs or at its end, that its account has reached a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limited {
    /// When the provider says that it works again.
    pub resets_at: Option<Timestamp>,
    /// What exactly, in a person's words.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_name_may_have_an_at_sign_and_nothing_that_a_shell_or_path_minds() {
        for text in ["anthropic-3f9a", "claude@box.lan", "team_2"] {
            assert_eq!(text.parse::<AccountName>().unwrap().as_str(), text);
        }
        for text in ["", "a b", "a/b", "é", &"x".repeat(129)] {
            assert!(text.parse::<AccountName>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_account_of_a_worker_always_reads_again() {
        let (runner, worker) = ("r".repeat(128), "w".repeat(128));
        let name = AccountName::of_worker(&runner.parse().unwrap(), &worker.parse().unwrap());
        assert_eq!(name.to_string().parse(), Ok(name));
    }
}
