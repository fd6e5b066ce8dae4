//! The wall clock beside the head's time, and what goes back with it.

use orchestra_types::TaskId;

use super::{Judge, moves::Move};
use crate::{
    cover::Point,
    event::Event,
    rule::{Checked, hold},
    shadow::{At, Shade},
};

/// What the judge knows of the wall clock.
#[derive(Debug, Default)]
pub(super) struct Wall {
    ahead: i64,
    /// By how much it was set back with this event.
    back: u64,
    /// The earlier of what it showed before this event and after it, when it was set.
    earlier: Option<u64>,
    /// What queued tasks must wait for after this event.
    expected: Vec<(TaskId, u64)>,
}

impl Judge {
    /// What the wall clock shows.
    pub(super) fn wall(&self) -> u64 {
        self.now.saturating_add_signed(self.calendar.ahead)
    }

    /// When it shows this.
    pub(super) fn steady(&self, wall: u64) -> u64 {
        wall.saturating_add_signed(-self.calendar.ahead)
    }

    /// Where a task stands in the queue that may begin at `start_at`.
    pub(super) fn place_since(&self, shade: &Shade) -> u64 {
        shade.created_at.max(self.steady(shade.start_at))
    }

    /// The earlier of what the wall clock showed before this event and after it, when it was set.
    pub(super) fn set_with_event(&self) -> Option<u64> {
        self.calendar.earlier
    }

    /// Whether the wall clock was set back with this event.
    pub(super) fn is_set_back(&self) -> bool {
        self.calendar.back > 0
    }

    pub(super) fn note_clock(&mut self, event: &Event) {
        self.calendar.back = 0;
        self.calendar.earlier = None;
        self.calendar.expected.clear();
        let Event::ClockSet(ahead) = event else {
            return;
        };
        self.confuse_calls();
        // A day that began until now has begun.
        self.begin_day();
        let before = self.wall();
        self.calendar.ahead = *ahead;
        let wall = self.wall();
        self.calendar.earlier = Some(before.min(wall));
        self.calendar.back = before.saturating_sub(wall);
        self.cover.hit(match self.is_set_back() {
            true => Point::SetBack,
            false => Point::SetForward,
        });
        let tasks = self.shadow.tasks();
        let expected = tasks.filter_map(|(id, shade)| Some((id, self.delay_back(shade)?)));
        self.calendar.expected = expected.collect();
    }

    /// The end of an interval once the wall clock was set back.
    pub(super) fn shifted(&self, at: u64) -> u64 {
        if at <= self.wall() {
            return at;
        }
        at.saturating_sub(self.calendar.back)
    }

    /// What a queued task waits for then: a time to start at stays.
    fn delay_back(&self, shade: &Shade) -> Option<u64> {
        match shade.at {
            At::Queued { not_before, .. } if not_before > shade.start_at => {
                Some(self.shifted(not_before).max(shade.start_at))
            }
            At::Queued { not_before, .. } => Some(not_before),
            _ => None,
        }
    }

    /// Whether this is a queued task that waits for the same by the wall clock that was set back.
    pub(super) fn goes_back(&self, change: &Move<'_>) -> bool {
        let (
            At::Queued { since, .. },
            At::Queued {
                since: s,
                not_before,
            },
        ) = (change.old.at, change.new.at)
        else {
            return false;
        };
        self.is_set_back() && since == s && self.delay_back(&change.old) == Some(not_before)
    }

    /// Until when it waits for another worker then.
    pub(super) fn avoids_back(&self, old: &Shade, new: &Shade) -> Option<(u8, u64)> {
        let (worker, until) = old.avoids?;
        let earliest = match new.at {
            At::Queued { not_before, .. } => not_before,
            _ => 0,
        };
        Some((worker, self.shifted(until).max(earliest.min(until))))
    }

    /// After each step no delay has become longer because the wall clock was set back.
    pub(super) fn went_back(&mut self) -> Checked {
        let expected = std::mem::take(&mut self.calendar.expected);
        for (id, delay) in expected {
            if let At::Queued { not_before, .. } = self.shadow.task(id).at {
                hold!(
                    Delays,
                    not_before == delay,
                    "{id} waits until {not_before}, not {delay}"
                );
            }
        }
        Ok(())
    }
}
