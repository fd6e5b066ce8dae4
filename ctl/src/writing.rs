//! Whether something has begun that is not taken back: a checkout is written to, a submission is sent.
//! Ctrl-C before that calls it off.
//!
//! ```text
//! NotYet -- begin --> Begun        call_off: too late, as long as the command runs
//!    `----- call_off --> CalledOff    begin: nothing may be written
//! ```

use std::sync::{Arc, Mutex, PoisonError};

/// How far the command is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Nothing is written.
    #[default]
    NotYet,
    /// Something is, or was.
    Begun,
    /// Nothing is, and nothing will be.
    CalledOff,
}

/// Whether the one who writes may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// It may, and Ctrl-C waits for the end from now on.
    Now,
    /// It was called off.
    Never,
}

/// What came of calling it off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallOff {
    /// Nothing was written, and nothing will be.
    InTime,
    /// It had begun.
    TooLate,
}

/// Shared between who writes, on a thread of its own, and who hears of Ctrl-C.
#[derive(Clone, Debug, Default)]
pub struct Writing {
    state: Arc<Mutex<State>>,
}

impl Writing {
    /// Asked right before the first thing is written or sent.
    pub fn begin(&self) -> Begin {
        match self.passed_to(State::Begun) {
            State::NotYet | State::Begun => Begin::Now,
            State::CalledOff => Begin::Never,
        }
    }

    /// Calls it off, where it has not begun.
    pub fn call_off(&self) -> CallOff {
        match self.passed_to(State::CalledOff) {
            State::NotYet | State::CalledOff => CallOff::InTime,
            State::Begun => CallOff::TooLate,
        }
    }

    /// The first one decides; gives what held before.
    fn passed_to(&self, next: State) -> State {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *state;
        if before == State::NotYet {
            *state = next;
        }
        before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_one_decides() {
        let writing = Writing::default();
        assert_eq!(writing.begin(), Begin::Now);
        assert_eq!(writing.clone().call_off(), CallOff::TooLate);
        assert_eq!(writing.begin(), Begin::Now, "of another task");
        let writing = Writing::default();
        assert_eq!(writing.clone().call_off(), CallOff::InTime);
        assert_eq!(writing.begin(), Begin::Never);
        assert_eq!(writing.call_off(), CallOff::InTime);
    }
}
