//! Whether the clock of a start is believed when it says that something is old.
//!
//! A clock that is wrong once, by weeks, would have everything forgotten at once that is kept for
//! weeks. So a clock that is far ahead of the newest that is known is not believed for a day: a person
//! is told and can put it right. How much there may be of anything holds all the same.

use std::time::Duration;

use orchestra_types::Timestamp;

use crate::{
    Rows,
    row::{State, TaskRow},
};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// A head that was off for so long, or had nothing to do, is nothing unusual.
const AHEAD_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// A clock that is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// By how much it is ahead of the newest that is known.
    pub ahead: Duration,
    /// Until then nothing goes for its age.
    pub until: Timestamp,
}

/// Whether a clock that shows `now` is to be doubted at a start, where the newest that is known is of
/// `newest`.
#[must_use]
pub fn doubt(newest: Option<Timestamp>, now: Timestamp) -> Option<Doubt> {
    let ahead = now.since(newest?);
    (ahead > AHEAD_MAX).then(|| Doubt {
        ahead,
        until: now.plus(DAY),
    })
}

impl Rows {
    /// When the newest of all tasks was made, began or ended.
    #[must_use]
    pub fn newest(&self) -> Option<Timestamp> {
        let keys = self.keys.iter().map(|key| key.at);
        self.tasks.iter().map(newest).chain(keys).max()
    }
}

fn newest(row: &TaskRow) -> Timestamp {
    let at = match &row.state {
        State::Assigned { at, .. } | State::Running { at, .. } | State::Ended { at, .. } => *at,
        State::Blocked | State::Queued { .. } | State::Closing { .. } => row.created_at,
    };
    at.max(row.created_at)
        .max(row.started_at.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clock_that_is_far_ahead_of_what_is_known_is_doubted() {
        let now = Timestamp(0).plus(20_000 * DAY);
        let before = |days: u32| Some(Timestamp(0).plus((20_000 - days) * DAY));
        assert_eq!(doubt(None, now), None);
        assert_eq!(doubt(before(0), now), None);
        assert_eq!(doubt(before(7), now), None);
        let found = doubt(before(40), now);
        let until = now.plus(DAY);
        let ahead = 40 * DAY;
        assert_eq!(found, Some(Doubt { ahead, until }));
        let later = Some(now.plus(40 * DAY));
        assert_eq!(
            doubt(later, now),
            None,
            "a clock that is behind drops nothing"
        );
    }
}
