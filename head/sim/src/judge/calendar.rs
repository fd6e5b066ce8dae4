//! The wall clock beside the head's time, and what goes back with it.

use orchestra_types::TaskId;

use super::{Judge, moves::Move};
use crate::{
    cover::Point,
    event::Event,
    rule::{Checked, hold},
    shadow::{Account, At, Shade},
};

/// What the judge knows of the wall clock.
#[derive(Debug, Default)]
pub(super) struct Wall {
    ahead: i64,
    /// By how much it was set back with this event.
    back: u64,
    /// Whether this event is the first after a start.
    taken: bool,
    /// The earlier of what it showed before this event and after it, when it was set.
    earlier: Option<u64>,
    /// What queued tasks must wait for after this event.
    expected: Vec<(TaskId, u64)>,
    /// Until when accounts are parked after this event, unless they are open.
    parks: Vec<(usize, u64)>,
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
        self.calendar.taken = matches!(event, Event::ClockTaken);
        self.calendar.earlier = None;
        self.calendar.expected.clear();
        if let Event::ClockSet(ahead) = event {
            self.note_set(*ahead);
        }
        if self.moves_waits() {
            let tasks = self.shadow.tasks();
            let expected = tasks.filter_map(|(id, shade)| Some((id, self.delay_then(shade)?)));
            self.calendar.expected = expected.collect();
        }
        self.calendar.parks.clear();
        if self.calendar.taken {
            let accounts = self.shadow.accounts.iter().enumerate();
            let parks = accounts.filter_map(|(n, row)| Some((n, self.park_then(*row)?)));
            self.calendar.parks = parks.collect();
        }
    }

    /// Until when an account is parked after a start: not as long as an earlier clock was ahead.
    pub(super) fn park_then(&self, row: Account) -> Option<u64> {
        let wall = self.wall();
        let by = row.limited_at.unwrap_or(0).saturating_sub(wall);
        let until = row.parked_until?;
        Some(match until > wall {
            true => until - by,
            false => until,
        })
    }

    fn note_set(&mut self, ahead: i64) {
        self.confuse_calls();
        // A day that began until now has begun.
        self.begin_day();
        let before = self.wall();
        self.calendar.ahead = ahead;
        let wall = self.wall();
        self.calendar.earlier = Some(before.min(wall));
        self.calendar.back = before.saturating_sub(wall);
        self.cover.hit(match self.is_set_back() {
            true => Point::SetBack,
            false => Point::SetForward,
        });
    }

    /// The end of an interval once the wall clock was set back.
    pub(super) fn shifted(&self, at: u64) -> u64 {
        if at <= self.wall() {
            return at;
        }
        at.saturating_sub(self.calendar.back)
    }

    /// What a queued task waits for then: a time to start at stays.
    fn delay_then(&self, shade: &Shade) -> Option<u64> {
        match shade.at {
            At::Queued { not_before, .. } if not_before > shade.start_at => {
                let then = match self.calendar.taken {
                    true => not_before.min(self.wall() + self.longest_delay(shade)),
                    false => self.shifted(not_before),
                };
                Some(then.max(shade.start_at))
            }
            At::Queued { not_before, .. } => Some(not_before),
            _ => None,
        }
    }

    /// How long a retry that begins to wait now waits at most.
    fn longest_delay(&self, shade: &Shade) -> u64 {
        self.backoff(shade.failures + shade.losses) * 5 / 4
    }

    /// Whether this is a queued task that waits for the same by the wall clock that was set back, or that is
    /// another one since a start.
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
        self.moves_waits() && since == s && self.delay_then(&change.old) == Some(not_before)
    }

    /// Whether this event changes how long is waited for.
    pub(super) fn moves_waits(&self) -> bool {
        self.is_set_back() || self.calendar.taken
    }

    /// Whether this event is the first after a start.
    pub(super) fn is_taken(&self) -> bool {
        self.calendar.taken
    }

    /// Until when it waits for another worker then.
    pub(super) fn avoids_then(&self, old: &Shade, new: &Shade) -> Option<(u8, u64)> {
        let (worker, until) = old.avoids?;
        let earliest = match new.at {
            At::Queued { not_before, .. } => not_before,
            _ => 0,
        };
        if self.calendar.taken {
            let moved_for = u64::try_from(self.config.moved_for.as_millis()).unwrap_or(u64::MAX);
            let wait = self.longest_delay(old).max(moved_for);
            return Some((worker, until.min(earliest.max(self.wall()) + wait)));
        }
        Some((worker, self.shifted(until).max(earliest.min(until))))
    }

    /// After each step no delay has become longer because the wall clock was set back, or was ahead before a start.
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
        for (account, until) in std::mem::take(&mut self.calendar.parks) {
            let parked = self.shadow.accounts[account].parked_until;
            let right = parked.is_none_or(|at| at == until);
            hold!(
                Delays,
                right,
                "account {account} is parked until {parked:?}, not {until}"
            );
        }
        Ok(())
    }
}
