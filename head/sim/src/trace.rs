//! What happened in a world, for people. Nothing is written unless it is asked for.

/// Lines of what happened.
#[derive(Debug, Default)]
pub struct Trace {
    on: bool,
    began: Option<u64>,
    lines: Vec<String>,
}

impl Trace {
    /// One that writes.
    #[must_use]
    pub fn on() -> Self {
        Self {
            on: true,
            ..Self::default()
        }
    }

    /// Adds a line, if lines are wanted.
    pub fn line(&mut self, clock: u64, words: impl FnOnce() -> String) {
        if self.on {
            let began = *self.began.get_or_insert(clock);
            let ms = clock.saturating_sub(began);
            self.lines.push(format!("{ms:>9} ms  {}", words()));
        }
    }

    /// All lines.
    pub fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }
}
