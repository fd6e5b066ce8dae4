//! Identifiers: newtypes, never bare integers or strings.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::limits;

/// Why a text is not an identifier of the wanted kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {} {wanted}", article(.wanted))]
pub struct ParseIdError {
    /// What was given.
    pub text: String,
    /// What it should have been, with the expected form.
    pub wanted: &'static str,
}

/// `an` before a vowel, as it is written; no kind is one in which it sounds otherwise.
fn article(word: &str) -> &'static str {
    match word.starts_with(['a', 'e', 'i', 'o', 'u']) {
        true => "an",
        false => "a",
    }
}

/// A task, counted by the head from 1. Shown as `task_001`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub u64);

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task_{:03}", self.0)
    }
}

impl FromStr for TaskId {
    type Err = ParseIdError;

    /// Reads `task_001`, `001` or `1`.
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let digits = text.strip_prefix("task_").unwrap_or(text);
        let refused = || ParseIdError {
            text: text.chars().take(64).collect(),
            wanted: "task id (`task_001` or `1`)",
        };
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(refused());
        }
        match digits.parse() {
            Ok(0) | Err(_) => Err(refused()),
            Ok(number) => Ok(Self(number)),
        }
    }
}

/// A recurring task, counted by the head from 1. Shown as `schedule_001`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScheduleId(pub u64);

impl fmt::Display for ScheduleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "schedule_{:03}", self.0)
    }
}

impl FromStr for ScheduleId {
    type Err = ParseIdError;

    /// Reads `schedule_001`, `001` or `1`.
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let digits = text.strip_prefix("schedule_").unwrap_or(text);
        match digits.parse() {
            Ok(number) if number > 0 && digits.bytes().all(|b| b.is_ascii_digit()) => {
                Ok(Self(number))
            }
            Ok(_) | Err(_) => Err(ParseIdError {
                text: text.chars().take(64).collect(),
                wanted: "schedule id (`schedule_001` or `1`)",
            }),
        }
    }
}

/// One run of a task on one worker. The number is the fencing token: it only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId {
    /// The task that is attempted.
    pub task: TaskId,
    /// 1 for the first attempt.
    pub number: u32,
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.task, self.number)
    }
}

impl FromStr for AttemptId {
    type Err = ParseIdError;

    /// Reads `task_001.2`.
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let refused = || ParseIdError {
            text: text.chars().take(64).collect(),
            wanted: "attempt id (`task_001.1`)",
        };
        let (task, number) = text.split_once('.').ok_or_else(refused)?;
        let number: u32 = number.parse().map_err(|_| refused())?;
        if number == 0 {
            return Err(refused());
        }
        Ok(Self {
            task: task.parse()?,
            number,
        })
    }
}

macro_rules! serde_as_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = String::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
serde_as_text!(TaskId);
serde_as_text!(AttemptId);
serde_as_text!(ScheduleId);

macro_rules! name_id {
    ($(#[$doc:meta])* $name:ident, $wanted:literal) => {
        $(#[$doc])*
        ///
        /// A clone shares the text.
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text of it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                if is_name(text) {
                    Ok(Self(Arc::from(text)))
                } else {
                    Err(ParseIdError { text: text.chars().take(64).collect(), wanted: $wanted })
                }
            }
        }
        serde_as_text!($name);
    };
}

name_id!(
    /// A worker: one daemon on one machine. Made once and kept on its disk.
    WorkerId,
    "worker id (1 to 128 of A-Z a-z 0-9 . _ -)"
);
name_id!(
    /// A kind of CLI and how to drive it: `claude`, `codex`, `agent`, `shell`, …
    RunnerName,
    "runner name (1 to 128 of A-Z a-z 0-9 . _ -)"
);
name_id!(
    /// A project: a repository by its root commit (`git-<hex>`), or a directory (`dir-<hex>`).
    ProjectId,
    "project id (1 to 128 of A-Z a-z 0-9 . _ -)"
);
name_id!(
    /// A machine, so that in-place work runs where the directory is.
    MachineId,
    "machine id (1 to 128 of A-Z a-z 0-9 . _ -)"
);

/// Whether `text` may be a name or a label key: it can stand in a path, a log line and a metric.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=limits::NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(allowed)
        && text != "."
        && text != ".."
}

impl ProjectId {
    /// How ids of places begin.
    pub const PLACE: &'static str = "dir-";

    /// Whether the project is known by where it is: it has no commit, or is no repository.
    #[must_use]
    pub fn is_of_place(&self) -> bool {
        self.as_str().starts_with(Self::PLACE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_id_reads_both_forms_and_shows_three_digits() {
        for text in ["1", "001", "task_1", "task_001"] {
            assert_eq!(text.parse(), Ok(TaskId(1)), "{text}");
        }
        assert_eq!(TaskId(7).to_string(), "task_007");
        assert_eq!(TaskId(12345).to_string(), "task_12345");
    }

    #[test]
    fn what_is_not_a_task_id_is_refused() {
        for text in [
            "",
            "0",
            "task_",
            "task_0",
            "-1",
            "+1",
            "1.0",
            "99999999999999999999",
            "１",
        ] {
            assert!(text.parse::<TaskId>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_can_always_stand_in_a_path() {
        for text in ["", ".", "..", "a/b", "a b", "é", "a\0", &"x".repeat(129)] {
            assert!(!is_name(text), "{text:?}");
        }
        assert!(is_name("gpt-5.1_codex"));
    }

    #[test]
    fn an_attempt_id_survives_a_round_trip() {
        let id = AttemptId {
            task: TaskId(3),
            number: 2,
        };
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("task_003.0".parse::<AttemptId>().is_err());
    }
}
