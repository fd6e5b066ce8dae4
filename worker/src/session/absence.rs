//! What is said of a head that is away: at once, then ever more rarely, and once when it is back. Pure.

use std::time::Duration;

/// From the first line to the second; twice as long from each further one to the next.
const FIRST: Duration = Duration::from_secs(30);
/// The longest time between two lines.
const LONGEST: Duration = Duration::from_secs(600);
/// A stream that lived this long was a good one: what comes after it is another absence.
pub(super) const GOOD_AFTER: Duration = Duration::from_secs(30);

/// What is known of an absence. Times are since the machine's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Absence {
    /// None while none is known, or a good stream has followed it.
    known: Option<Known>,
    /// Since when the head is away, and how many dials have failed; none when it is there.
    away: Option<Away>,
    /// Whether the head was there before.
    met: bool,
}

/// What a welcome ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// Nothing: it is the first one.
    First,
    /// An absence that was said.
    Said(Away),
    /// An absence that nobody was told of, as it was short and soon after another one.
    Unsaid,
}

/// When the next line comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    again_at: Duration,
    pause: Duration,
    urgent: bool,
}

/// How long a head is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Away {
    since: Duration,
    /// How many dials have failed.
    pub dials: u32,
    said: bool,
}

impl Away {
    /// For how long.
    pub fn lasted(self, now: Duration) -> Duration {
        now.saturating_sub(self.since)
    }
}

impl Absence {
    /// A stream that began at `began` has ended, or was never there; whether that is said. What is `urgent`
    /// needs a person, and is said even if something else was a moment ago.
    pub fn ended(&mut self, began: Duration, now: Duration, urgent: bool) -> Option<Away> {
        if now.saturating_sub(began) > GOOD_AFTER {
            self.known = None;
        }
        let mut away = self.away.unwrap_or(Away {
            since: now,
            dials: 0,
            said: false,
        });
        away.dials = away.dials.saturating_add(1);
        let pause = match self.known {
            None => Some(FIRST),
            Some(known) if urgent && !known.urgent => Some(FIRST),
            Some(known) if now >= known.again_at => Some((known.pause * 2).min(LONGEST)),
            Some(_) => None,
        };
        if let Some(pause) = pause {
            let again_at = now + pause;
            self.known = Some(Known {
                again_at,
                pause,
                urgent,
            });
            away.said = true;
        }
        self.away = Some(away);
        pause.map(|_| away)
    }

    /// The head has welcomed the worker.
    pub fn over(&mut self) -> Over {
        let first = !std::mem::replace(&mut self.met, true);
        match self.away.take() {
            Some(away) if away.said => Over::Said(away),
            Some(_) | None if first => Over::First,
            Some(_) | None => Over::Unsaid,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_head_that_stays_away_is_said_ever_more_rarely_and_at_least_every_ten_minutes() {
        let mut absence = Absence::default();
        let dials = (0..4000).filter(|at| absence.ended(s(*at), s(*at), false).is_some());
        let said: Vec<u64> = dials.collect();
        assert_eq!(
            said,
            [0, 30, 90, 210, 450, 930, 1530, 2130, 2730, 3330, 3930]
        );
        let Over::Said(away) = absence.over() else {
            panic!("it was said");
        };
        assert_eq!((away.dials, away.lasted(s(4000))), (4000, s(4000)));
        assert_eq!(absence.over(), Over::Unsaid);
    }

    #[test]
    fn a_stream_that_breaks_again_and_again_is_no_new_absence_each_time() {
        let mut absence = Absence::default();
        assert_eq!(absence.over(), Over::First);
        assert!(absence.ended(s(0), s(0), false).is_some());
        assert!(matches!(absence.over(), Over::Said(_)));
        for at in 1..20 {
            assert_eq!(absence.ended(s(at), s(at), false), None);
            assert_eq!(absence.over(), Over::Unsaid);
        }
        let (began, broke) = (s(20), s(20) + GOOD_AFTER + s(1));
        assert!(absence.ended(began, broke, false).is_some());
    }

    #[test]
    fn what_needs_a_person_is_said_at_once_and_then_as_rarely() {
        let mut absence = Absence::default();
        assert!(absence.ended(s(0), s(0), false).is_some());
        assert!(absence.ended(s(1), s(1), true).is_some());
        assert_eq!(absence.ended(s(2), s(2), true), None);
        assert!(absence.ended(s(31), s(31), true).is_some());
    }
}
