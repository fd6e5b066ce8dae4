//! What strangers can make the head log: a few lines, and short ones.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Lines in one stretch of time, where nothing else is said.
const LINES_MAX: u32 = 10;
/// How long such a stretch is.
const STRETCH: Duration = Duration::from_secs(10);
/// How long one is of which a single line is left.
const MINUTE: Duration = Duration::from_secs(60);

/// Decides what is logged. Clones share what they have let through.
#[derive(Clone, Debug, Default)]
pub struct Sparing {
    inner: Arc<Mutex<Limiter>>,
}

impl Sparing {
    /// One line a minute: for what need not be told apart.
    #[must_use]
    pub fn one_a_minute() -> Self {
        let limiter = Limiter {
            lines_max: 1,
            stretch: MINUTE,
            ..Limiter::default()
        };
        Self {
            inner: Arc::new(Mutex::new(limiter)),
        }
    }

    /// Whether a line may be written now; then, how many were left out before it.
    #[must_use]
    pub fn may(&self) -> Option<u64> {
        let mut limiter = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        limiter.may(Instant::now())
    }
}

#[derive(Debug)]
struct Limiter {
    lines_max: u32,
    stretch: Duration,
    begun: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl Default for Limiter {
    fn default() -> Self {
        Self {
            lines_max: LINES_MAX,
            stretch: STRETCH,
            begun: None,
            lines: 0,
            left_out: 0,
        }
    }
}

impl Limiter {
    fn may(&mut self, now: Instant) -> Option<u64> {
        let begun = *self.begun.get_or_insert(now);
        if now.duration_since(begun) >= self.stretch {
            self.begun = Some(now);
            self.lines = 0;
        }
        if self.lines >= self.lines_max {
            self.left_out += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

/// A stranger's text for the log: at most `max` bytes of it, and nothing in it that a terminal obeys.
#[must_use]
pub fn shown(text: &str, max: usize) -> String {
    orchestra_types::limits::cut(text, max)
        .escape_debug()
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_flood_ten_lines_are_left_and_the_next_one_says_how_many_are_not() {
        let start = Instant::now();
        let mut limiter = Limiter::default();
        let lines: Vec<u64> = (0..1000).filter_map(|_| limiter.may(start)).collect();
        assert_eq!(lines, [0; LINES_MAX as usize]);
        assert_eq!(limiter.may(start + STRETCH / 2), None);
        assert_eq!(limiter.may(start + STRETCH), Some(991));
        assert_eq!(limiter.may(start + STRETCH), Some(0));
    }

    #[test]
    fn a_strangers_text_is_cut_and_escaped() {
        let shown = shown(&"\u{1b}[2J\n".repeat(10_000), 128);
        assert!(shown.len() < 1024, "{}", shown.len());
        assert!(!shown.contains(char::is_control), "{shown}");
    }
}
