//! The one error of `ctl`: what was tried, why it failed, what to do next, how to exit.

use std::{borrow::Cow, error::Error as StdError, fmt};

use orchestra_config::open_files;
use orchestra_types::TaskId;

use crate::{exit::Exit, surroundings, ui::again::Again};

/// What every fallible function here gives.
pub type Result<T> = std::result::Result<T, Error>;

type Source = Box<dyn StdError + Send + Sync>;

/// Why a command could not do what was asked.
#[derive(Debug)]
pub struct Error {
    exit: Exit,
    message: String,
    hint: Option<Hint>,
    source: Option<Source>,
    unprinted: Option<Unprinted>,
    missing: Option<Box<Missing>>,
    task: Option<TaskId>,
}

/// What the head does not know, by its kind and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// As `orchestra_proto::RUNNER`.
    pub kind: String,
    /// As it was said.
    pub name: String,
}

/// Why standard output did not take what was printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unprinted {
    /// Nobody reads it any more.
    ReaderGone,
    /// It could not be written, for example to a full disk.
    Unwritten,
}

/// The next step, and where its commands are typed.
#[derive(Debug)]
enum Hint {
    /// Here: they repeat the options that were given.
    Here(String),
    /// On another machine, where those mean something else.
    Elsewhere(String),
}

impl Error {
    /// An error that exits as `exit`. `message` is a lower-case fragment that says what was tried.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            hint: None,
            source: None,
            unprinted: None,
            missing: None,
            task: None,
        }
    }

    /// An error that exits with 1.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// An error of the command line.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// The reader of standard output went away: nothing to say, and no failure.
    pub fn reader_gone() -> Self {
        Self {
            unprinted: Some(Unprinted::ReaderGone),
            ..Self::new(Exit::Ok, "the reader of the output went away")
        }
    }

    /// Standard output could not be written, and that is all that failed.
    pub fn unwritten(source: std::io::Error) -> Self {
        Self {
            unprinted: Some(Unprinted::Unwritten),
            ..Self::new(Exit::Untold, "failed to write to standard output").because(source)
        }
    }

    /// What came of writing to standard output.
    pub fn of_stdout(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::reader_gone(),
            _ => Self::unwritten(error),
        }
    }

    /// With the next step.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(Hint::Here(hint.into()));
        self
    }

    /// With the next step, whose commands are typed on another machine.
    #[must_use]
    pub fn hint_elsewhere(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(Hint::Elsewhere(hint.into()));
        self
    }

    /// With the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// With other words for the same.
    #[must_use]
    pub fn saying(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    /// With the place in a file that it is about.
    #[must_use]
    pub fn at(mut self, place: &str) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// With what the head does not know.
    #[must_use]
    pub fn of_missing(mut self, missing: Option<Missing>) -> Self {
        let is_task = |missing: &&Missing| missing.kind == orchestra_proto::TASK;
        let task = missing.as_ref().filter(is_task);
        self.task = task.and_then(|task| task.name.parse().ok());
        self.missing = missing.map(Box::new);
        self
    }

    /// With the task that it is about, where none is known yet. A head that is away is away for all.
    #[must_use]
    pub fn about(mut self, task: TaskId) -> Self {
        let is_of_one = match self.exit {
            Exit::Failed | Exit::NotFound | Exit::Refused | Exit::Untold => true,
            Exit::Ok
            | Exit::Usage
            | Exit::HeadNotRunning
            | Exit::TaskFailed
            | Exit::NeedsReview
            | Exit::Damaged
            | Exit::Unanswered
            | Exit::TimedOut
            | Exit::Interrupted
            | Exit::Bug => false,
        };
        if is_of_one {
            self.task.get_or_insert(task);
        }
        self
    }

    /// The one task that it is about.
    pub fn task(&self) -> Option<TaskId> {
        self.task
    }

    /// The name of what the head does not know, where it is of that kind.
    pub fn missing(&self, kind: &str) -> Option<&str> {
        let missing = self.missing.as_deref()?;
        (missing.kind == kind).then_some(missing.name.as_str())
    }

    /// How to exit.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// Whether there is nothing to say.
    pub fn is_reader_gone(&self) -> bool {
        self.unprinted == Some(Unprinted::ReaderGone)
    }

    /// Whether standard output could not be written: nobody was told what it was to say.
    pub fn is_unwritten(&self) -> bool {
        self.unprinted == Some(Unprinted::Unwritten)
    }

    /// The next step, if one is known, with the options that its commands repeat.
    pub fn next_step(&self, again: Again) -> Option<Cow<'_, str>> {
        // Whatever else could be done would fail for the same.
        let lack = self.source.as_deref().and_then(|source| {
            open_files::advice(source).or_else(|| surroundings::advice(source, &self.chain()))
        });
        if let Some(advice) = lack {
            return Some(Cow::Owned(advice));
        }
        self.hint.as_ref().map(|hint| match hint {
            Hint::Here(text) => again.spell(text),
            Hint::Elsewhere(text) => Cow::Borrowed(text.as_str()),
        })
    }

    /// The message with its whole chain of causes, each said once.
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut cause = self.source.as_deref().map(|s| s as &dyn StdError);
        while let Some(error) = cause {
            let said = error.to_string();
            if !text.contains(&said) {
                text.push_str(": ");
                text.push_str(&said);
            }
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source
            .as_deref()
            .map(|s| s as &(dyn StdError + 'static))
    }
}

/// What came of printing, where the exit code is the answer: that its reader went away is no end.
pub fn heard_or_not(printed: Result<()>) -> Result<()> {
    match printed {
        Err(error) if error.is_reader_gone() => Ok(()),
        printed => printed,
    }
}

/// What came of printing that something was done. Where it could not be written, `what` was: to do it
/// again may do it twice.
pub fn or_untold<T>(printed: Result<T>, what: impl FnOnce() -> String) -> Result<T> {
    printed.map_err(|error| match error.is_unwritten() {
        true => Error::new(Exit::Untold, what() + ", and that could not be told").because(error),
        false => error,
    })
}

/// Gives a foreign error its message.
pub trait OrFailed<T> {
    /// Turns the error into one that says what was tried and exits with 1.
    fn or_failed(self, message: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Source>> OrFailed<T> for std::result::Result<T, E> {
    fn or_failed(self, message: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::failed(message()).because(source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_names_every_cause_once() {
        let inner = std::io::Error::other("disk on fire");
        let error = Error::failed("failed to read `a.yaml`").because(inner);
        assert_eq!(error.chain(), "failed to read `a.yaml`: disk on fire");
        let repeated =
            Error::failed("it broke: disk on fire").because(std::io::Error::other("disk on fire"));
        assert_eq!(repeated.chain(), "it broke: disk on fire");
    }

    #[test]
    fn who_has_too_few_open_files_is_told_that_before_anything_else() {
        let lack = std::io::Error::from_raw_os_error(24);
        let error = Error::failed("it broke")
            .because(lack)
            .hint("start it with `ctl start`");
        let hint = error.next_step(Again::default()).unwrap();
        assert!(hint.contains("`ulimit -n 1024`"), "{hint}");
    }

    #[test]
    fn only_commands_that_are_typed_here_repeat_the_options() {
        let again = Again::in_state("/s".as_ref());
        let error = Error::failed("it broke").hint("`ctl status`");
        let hint = error.next_step(again).map(Cow::into_owned);
        assert_eq!(hint.as_deref(), Some("`ctl --state /s status`"));
        let error = error.hint_elsewhere("`ctl status` there");
        assert_eq!(
            error.next_step(again).as_deref(),
            Some("`ctl status` there")
        );
    }
}
