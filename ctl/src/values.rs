//! Values of arguments that have names: shells complete them. Others may be allowed as well.

use std::{error::Error, ffi::OsStr, marker::PhantomData, str::FromStr, time::Duration};

use clap::{
    Arg, Command,
    builder::{PossibleValue, StringValueParser, TypedValueParser},
};
use orchestra_types::{
    OnDependencyFailure, Priority, RunnerName, runner::KNOWN_RUNNERS, time::parse_duration,
};

/// Reads a `T`, and knows some words that are one.
#[derive(Clone)]
pub struct Named<T> {
    words: Vec<&'static str>,
    value: PhantomData<fn() -> T>,
}

impl<T> Named<T> {
    /// With these words.
    pub fn new(words: impl IntoIterator<Item = &'static str>) -> Self {
        Self {
            words: words.into_iter().collect(),
            value: PhantomData,
        }
    }

    /// The words.
    pub fn into_words(self) -> Vec<&'static str> {
        self.words
    }
}

/// A duration, as `90s`, `30m` or `2h`.
pub fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| error.to_string())
}

/// A priority.
pub fn priority() -> Named<Priority> {
    Named::new(Priority::ALL.map(Priority::as_str))
}

/// What becomes of a task when one before it fails.
pub fn on_dependency_failure() -> Named<OnDependencyFailure> {
    Named::new(OnDependencyFailure::ALL.map(OnDependencyFailure::as_str))
}

/// A runner: a known one, or one of the configuration.
pub fn runner() -> Named<RunnerName> {
    Named::new(KNOWN_RUNNERS)
}

impl<T> TypedValueParser for Named<T>
where
    T: FromStr<Err: Into<Box<dyn Error + Send + Sync>>> + Clone + Send + Sync + 'static,
{
    type Value = T;

    fn parse_ref(
        &self,
        command: &Command,
        argument: Option<&Arg>,
        value: &OsStr,
    ) -> Result<T, clap::Error> {
        let parse = |text: String| text.parse::<T>();
        let parser = StringValueParser::new().try_map(parse);
        parser.parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.words.iter().map(PossibleValue::new)))
    }
}
