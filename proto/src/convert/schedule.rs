//! Recurring tasks.

use std::time::Duration;

use orchestra_types::Recurrence;

use super::{Refused, Result, millis};
use crate::v1::{self, recurrence::Rule};

const DAY_MINUTES: u16 = 24 * 60;
/// Where nobody says whether a clock is ahead or a day behind that: most people live by one that is no
/// farther ahead than this.
const FARTHEST_AHEAD: u16 = 13 * 60;

/// Reads when a recurring task comes.
pub fn recurrence(wire: Option<v1::Recurrence>) -> Result<Recurrence> {
    let refused = |why| Refused::new("every", why);
    let rule = wire.and_then(|wire| wire.rule);
    match rule.ok_or_else(|| refused("is missing"))? {
        Rule::EveryMs(0) => Err(refused("must be more than zero")),
        Rule::EveryMs(ms) => Ok(Recurrence::Every(Duration::from_millis(ms))),
        Rule::Daily(daily) => {
            let of_day = |wire: u32| u16::try_from(wire).ok().filter(|n| *n < DAY_MINUTES);
            let parts = of_day(daily.minute).zip(of_day(daily.ahead));
            let (minute, ahead) = parts.ok_or_else(|| refused("a day has 1440 minutes"))?;
            let offset = match daily.offset {
                None => likely(ahead),
                Some(said) => same(said, ahead).ok_or_else(|| refused("has two offsets"))?,
            };
            Ok(Recurrence::Daily {
                minute,
                ahead: offset,
            })
        }
    }
}

/// The offset of a clock that is so far ahead in its day.
fn likely(ahead: u16) -> i16 {
    match ahead {
        0..=FARTHEST_AHEAD => ahead.cast_signed(),
        _ => ahead.cast_signed() - DAY_MINUTES.cast_signed(),
    }
}

/// The offset that was said, where it is less than a day and means the same time of day.
fn same(said: i32, ahead: u16) -> Option<i16> {
    let said = i16::try_from(said).ok()?;
    let fits = said.unsigned_abs() < DAY_MINUTES && Recurrence::round(said) == ahead;
    fits.then_some(said)
}

/// When a recurring task comes, as wire.
#[must_use]
pub fn recurrence_to_wire(every: Recurrence) -> v1::Recurrence {
    let rule = match every {
        Recurrence::Every(every) => Rule::EveryMs(millis(every)),
        Recurrence::Daily { minute, ahead } => Rule::Daily(v1::recurrence::Daily {
            minute: minute.into(),
            ahead: Recurrence::round(ahead).into(),
            offset: Some(ahead.into()),
        }),
    };
    v1::Recurrence { rule: Some(rule) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn daily(ahead: u32, offset: Option<i32>) -> v1::Recurrence {
        let minute = 360;
        let daily = v1::recurrence::Daily {
            minute,
            ahead,
            offset,
        };
        v1::Recurrence {
            rule: Some(Rule::Daily(daily)),
        }
    }

    #[test]
    fn a_clock_of_a_day_is_what_was_said_and_else_the_likely_one() {
        for (ahead, offset, shown) in [
            (840, Some(840), "+14:00"),
            (840, Some(-600), "-10:00"),
            (840, None, "-10:00"),
            (780, Some(-660), "-11:00"),
            (780, None, "+13:00"),
            (1140, None, "-05:00"),
            (330, None, "+05:30"),
        ] {
            let rule = recurrence(Some(daily(ahead, offset))).unwrap();
            assert_eq!(rule.to_string(), format!("daily at 06:00 {shown}"));
            assert_eq!(recurrence(Some(recurrence_to_wire(rule))), Ok(rule));
        }
        for (ahead, offset) in [(60, 61), (60, -1500), (1440, 0), (60, 70_000)] {
            assert!(recurrence(Some(daily(ahead, Some(offset)))).is_err());
        }
    }
}
