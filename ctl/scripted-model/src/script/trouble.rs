//! Misbehaviour on request.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer};

/// How the server misbehaves, and for how many requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// How.
    pub kind: TroubleKind,
    /// Only for the first so many requests. Default: all.
    pub times: Option<u64>,
}

/// How the server misbehaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TroubleKind {
    /// It answers with an HTTP error.
    Status {
        /// The status, 400 to 599.
        code: u16,
        /// Seconds for the `retry-after` header.
        retry_after: Option<u64>,
        /// The error's text.
        message: Option<String>,
    },
    /// It closes the connection in the middle of the answer.
    Cut,
    /// It stops in the middle of the answer and keeps the connection open.
    Stall,
    /// It takes the request and never answers.
    Hang,
    /// It waits between the pieces of the answer.
    Slow {
        /// Milliseconds between the pieces.
        delay_ms: u64,
    },
}

/// A trouble word that nobody knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownTrouble(String);

impl fmt::Display for UnknownTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "unknown trouble `{}`: known are a status from 400 to 599 (`429`, with retry-after \
             `429:2`), `cut`, `stall`, `hang`, `slow` and `slow:MS`, each with `Nx` before it for \
             the first N requests only (`2x529`)",
            self.0
        )
    }
}

impl std::error::Error for UnknownTrouble {}

impl FromStr for Trouble {
    type Err = UnknownTrouble;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let unknown = || UnknownTrouble(word.to_owned());
        let (times, rest) = match word.split_once('x') {
            Some((count, rest)) if count.bytes().all(|b| b.is_ascii_digit()) => {
                (Some(count.parse().map_err(|_| unknown())?), rest)
            }
            Some(_) | None => (None, word),
        };
        let (name, number) = match rest.split_once(':') {
            Some((name, number)) => (name, Some(number.parse().map_err(|_| unknown())?)),
            None => (rest, None),
        };
        let kind = TroubleKind::from_word(name, number).ok_or_else(unknown)?;
        Ok(Self { kind, times })
    }
}

impl TroubleKind {
    fn from_word(name: &str, number: Option<u64>) -> Option<Self> {
        match (name, number) {
            ("cut", None) => Some(Self::Cut),
            ("stall", None) => Some(Self::Stall),
            ("hang", None) => Some(Self::Hang),
            ("slow", delay) => Some(Self::Slow {
                delay_ms: delay.unwrap_or(200),
            }),
            (code, retry_after) => {
                let code = code.parse().ok().filter(|code| (400..600).contains(code))?;
                Some(Self::Status {
                    code,
                    retry_after,
                    message: None,
                })
            }
        }
    }
}

/// The long form: `{status: 429, retry_after: 2, message: …, times: 1}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LongForm {
    status: u16,
    #[serde(default)]
    retry_after: Option<u64>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    times: Option<u64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum AnyForm {
    Number(u16),
    Word(String),
    Long(LongForm),
}

impl<'de> Deserialize<'de> for Trouble {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match AnyForm::deserialize(deserializer)? {
            AnyForm::Number(code) => code.to_string().parse().map_err(serde::de::Error::custom),
            AnyForm::Word(word) => word.parse().map_err(serde::de::Error::custom),
            AnyForm::Long(long) => Ok(Self {
                kind: TroubleKind::Status {
                    code: long.status,
                    retry_after: long.retry_after,
                    message: long.message,
                },
                times: long.times,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_word_says_how_and_how_often() {
        let limited: Trouble = "2x429:7".parse().expect("known");
        assert_eq!(limited.times, Some(2));
        assert_eq!(
            limited.kind,
            TroubleKind::Status {
                code: 429,
                retry_after: Some(7),
                message: None
            }
        );
        assert_eq!(
            "cut".parse::<Trouble>().expect("known").kind,
            TroubleKind::Cut
        );
        assert!("200".parse::<Trouble>().is_err(), "200 is no trouble");
        assert!("explode".parse::<Trouble>().is_err());
    }
}
