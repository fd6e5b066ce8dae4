//! Whether something has begun that is not taken back: a checkout is written to, a submission is sent.
//! Ctrl-C before that calls it off.
//!
//! ```text
//! NotYet -- begin --> Begun -- end_part --> Between       of several tasks, one after the other
//!    |                  |  `<---- begin ------'  |
//! call_off           call_off                call_off
//!    v                  v                       v
//! CalledOff <-end_part- Last                 CalledOff       nothing more may be written
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
    /// A part is written, and the next one not begun.
    Between,
    /// Something is, and is the last part: it was called off meanwhile.
    Last,
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
    /// A part had been written, and the next one will not be.
    Between,
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
        let before = self.pass(|state| match state {
            State::NotYet | State::Begun | State::Between => State::Begun,
            State::Last | State::CalledOff => state,
        });
        match before {
            State::NotYet | State::Begun | State::Between | State::Last => Begin::Now,
            State::CalledOff => Begin::Never,
        }
    }

    /// One of several parts is written: before the next one it can be called off.
    pub fn end_part(&self) {
        self.pass(|state| match state {
            State::Begun => State::Between,
            State::Last => State::CalledOff,
            State::NotYet | State::Between | State::CalledOff => state,
        });
    }

    /// Calls it off, where it has not begun.
    pub fn call_off(&self) -> CallOff {
        let before = self.pass(|state| match state {
            State::NotYet | State::Between | State::CalledOff => State::CalledOff,
            State::Begun | State::Last => State::Last,
        });
        match before {
            State::NotYet | State::CalledOff => CallOff::InTime,
            State::Between => CallOff::Between,
            State::Begun | State::Last => CallOff::TooLate,
        }
    }

    /// Passes on to the next state; gives what held before.
    fn pass(&self, next: impl FnOnce(State) -> State) -> State {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *state;
        *state = next(before);
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

    #[test]
    fn between_two_parts_the_next_one_is_called_off() {
        let writing = Writing::default();
        assert_eq!(writing.begin(), Begin::Now);
        writing.end_part();
        assert_eq!(writing.call_off(), CallOff::Between);
        assert_eq!(writing.begin(), Begin::Never);
        let writing = Writing::default();
        assert_eq!(writing.begin(), Begin::Now);
        assert_eq!(writing.call_off(), CallOff::TooLate);
        assert_eq!(writing.begin(), Begin::Now, "of the same part");
        writing.end_part();
        assert_eq!(writing.begin(), Begin::Never);
    }
}
