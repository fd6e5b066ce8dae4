//! What a CLI says in the agent's name when a turn went wrong.
//!
//! Only a whole message is one: an agent that quotes such words in the middle of its own is not.

use orchestra_types::{Failure, FailureCode};

use crate::cli::provider_error;

/// How such a message is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Mark {
    Begins(&'static str),
    Ends(&'static str),
}

/// A message of the CLI's own.
#[derive(Debug)]
pub(in crate::cli) struct Note {
    pub mark: Mark,
    /// What it means where the words of the provider in it say no more.
    pub means: FailureCode,
}

impl Note {
    fn is(&self, message: &str) -> bool {
        match self.mark {
            Mark::Begins(words) => message.starts_with(words),
            Mark::Ends(words) => message.ends_with(words),
        }
    }
}

/// The failure that the last message of a turn is.
pub(super) fn failure(notes: &[Note], message: &str) -> Option<Failure> {
    let message = message.trim();
    let note = notes.iter().find(|note| note.is(message))?;
    let said = message
        .strip_prefix("Ran into this error: ")
        .unwrap_or(message);
    let mut failure = provider_error::failure(None, said);
    if failure.code == FailureCode::AgentFailed {
        failure.code = note.means;
    }
    Some(failure)
}
