//! For how long an attempt has its slot, and how long after that its end is known: what a prefetch is for.

use std::{sync::OnceLock, time::Instant};

use super::{run::Attempt, stage::Stage};
use crate::prefetch::Ran;

/// An attempt's time in its slot.
#[derive(Debug)]
pub(super) struct Slot {
    began: Instant,
    ended: OnceLock<Instant>,
    /// Whether it did what it was for.
    succeeded: bool,
}

impl Slot {
    pub fn begins() -> Self {
        Self {
            began: Instant::now(),
            ended: OnceLock::new(),
            succeeded: false,
        }
    }

    /// At a moment after which another one may begin: what is known of it then.
    fn ran(&self, now: Instant) -> Option<Ran> {
        let ended = self.ended.get().filter(|_| self.succeeded)?;
        Some(Ran {
            turn: ended.saturating_duration_since(self.began),
            pause: now.saturating_duration_since(*ended),
        })
    }
}

impl Attempt {
    /// Its CLI has ended, and another attempt may begin.
    pub fn free_slot(&self) {
        if let Some(slot) = &self.slot {
            slot.ended.get_or_init(Instant::now);
        }
        self.control.stage.send_replace(Stage::Delivering);
    }

    /// Its outcome is known.
    pub fn judge_slot(&mut self, succeeded: bool) {
        if let Some(slot) = &mut self.slot {
            slot.succeeded = succeeded;
        }
    }

    /// The head has acknowledged its end.
    pub fn note_slot(&self) {
        let runner = &self.order.runner;
        let known = self.shared.runners.borrow();
        let Some(info) = known.iter().find(|info| info.name == *runner) else {
            return;
        };
        let ran = self.slot.as_ref().and_then(|slot| slot.ran(Instant::now()));
        if let Some(ran) = ran {
            let slots = info.slots.min(self.shared.slots);
            self.shared.prefetch.ran(runner, ran, slots);
        }
    }
}
