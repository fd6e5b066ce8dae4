//! How the values of a task's keys are read from a file. `null` is as good as a key that is not there: that is
//! what programs write for what is not set.

use std::{fmt::Display, time::Duration};

use orchestra_types::{Recurrence, RunnerName, ShellCommand, time::parse_duration};
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::submit::moment::{Start, parse_moment, parse_rule};

/// A value, or what stands for one that is not set.
pub(super) fn or_default<'de, D, T>(d: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(d)?.unwrap_or_default())
}

/// What a text says.
fn text<'de, D, T, E>(d: D, parse: impl FnOnce(&str) -> Result<T, E>) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    E: Display,
{
    let text = Option::<String>::deserialize(d)?;
    let parsed = text.map(|text| parse(&text)).transpose();
    parsed.map_err(D::Error::custom)
}

/// One word of a file, as YAML and JSON have it. `y`, `yes`, `on` and their opposites are no texts
/// there.
#[derive(Deserialize)]
#[serde(untagged)]
enum Word {
    Bool(bool),
    Number(u64),
    Text(String),
}

/// One word or a list of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Words {
    One(Word),
    Many(Vec<Word>),
}

pub(super) fn one_or_many<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    let wrong = |_| D::Error::custom("`after` is a task or a list of tasks");
    let task = |word| match word {
        Word::Bool(value) => Err(D::Error::custom(unquoted("after", value))),
        Word::Number(number) => Ok(number.to_string()),
        Word::Text(text) => Ok(text),
    };
    match Option::<Words>::deserialize(d).map_err(wrong)? {
        None => Ok(Vec::new()),
        Some(Words::One(word)) => Ok(vec![task(word)?]),
        Some(Words::Many(words)) => words.into_iter().map(task).collect(),
    }
}

pub(super) fn command<'de, D: Deserializer<'de>>(d: D) -> Result<Option<ShellCommand>, D::Error> {
    let wrong = |_| D::Error::custom("`command` is a text or a list of texts");
    let text = |word| match word {
        Word::Bool(value) => Err(D::Error::custom(unquoted("command", value))),
        Word::Number(number) => Err(D::Error::custom(format!(
            "`command`: {number} is a number here and not a text; quote it: \"{number}\""
        ))),
        Word::Text(text) => Ok(text),
    };
    Ok(match Option::<Words>::deserialize(d).map_err(wrong)? {
        None => None,
        Some(Words::One(word)) => Some(ShellCommand::Line(text(word)?)),
        Some(Words::Many(words)) => {
            let words = words.into_iter().map(text).collect::<Result<_, _>>();
            Some(ShellCommand::Argv(words?))
        }
    })
}

/// What is said of a text that YAML takes for a truth value.
fn unquoted(key: &str, value: bool) -> String {
    let (words, example) = match value {
        true => ("`true`, `yes`, `y` or `on`", "\"y\""),
        false => ("`false`, `no`, `n` or `off`", "\"n\""),
    };
    format!("`{key}`: {words} without quotes is no text in YAML; quote it, as {example}")
}

pub(super) fn rule<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Recurrence>, D::Error> {
    text(d, parse_rule)
}

pub(super) fn moment<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Start>, D::Error> {
    text(d, parse_moment)
}

/// One runner or a list of them.
pub(super) fn runners<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<RunnerName>, D::Error> {
    let wrong = || D::Error::custom("`fallback` is a runner or a list of runners");
    let runner = |word| match word {
        Word::Bool(value) => Err(D::Error::custom(unquoted("fallback", value))),
        Word::Number(number) => number.to_string().parse().map_err(|_| wrong()),
        Word::Text(text) => text.parse().map_err(|_| wrong()),
    };
    match Option::<Words>::deserialize(d).map_err(|_| wrong())? {
        None => Ok(Vec::new()),
        Some(Words::One(word)) => Ok(vec![runner(word)?]),
        Some(Words::Many(words)) => words.into_iter().map(runner).collect(),
    }
}

pub(super) fn duration<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Duration>, D::Error> {
    text(d, parse_duration)
}
