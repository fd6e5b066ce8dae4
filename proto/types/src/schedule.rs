//! Tasks that come again and again.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    Timestamp,
    id::ParseIdError,
    limits,
    time::{millis, parse_duration, write_duration},
};

const DAY_MS: u64 = 24 * 3600 * 1000;
const MINUTE_MS: u64 = 60 * 1000;
const DAY_MINUTES: i16 = 24 * 60;

/// When a recurring task comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recurrence {
    /// Again after each such time, counted from the first run.
    Every(Duration),
    /// Once a day.
    Daily {
        /// The minute of the day, by a clock that is ahead of UTC.
        minute: u16,
        /// By so many minutes, less than a day; below zero where it is behind.
        ahead: i16,
    },
}

impl Recurrence {
    /// The first moment after `now` at which a run is due, where `slot` is one of them.
    #[must_use]
    pub fn next(self, slot: Timestamp, now: Timestamp) -> Timestamp {
        match self {
            Self::Every(every) => {
                let every = millis(every).max(1);
                if slot.0 > now.0 {
                    return Timestamp(slot.0 - (slot.0 - now.0 - 1) / every * every);
                }
                let steps = (now.0 - slot.0) / every + 1;
                Timestamp(slot.0.saturating_add(steps.saturating_mul(every)))
            }
            Self::Daily { minute, ahead } => {
                let ahead = u64::from(Self::round(ahead)) * MINUTE_MS;
                let due = u64::from(minute) * MINUTE_MS;
                let here = now.0.saturating_add(ahead);
                let today = here / DAY_MS * DAY_MS + due;
                let next = if today > here { today } else { today + DAY_MS };
                Timestamp(next.saturating_sub(ahead))
            }
        }
    }

    /// The minutes, 0 to 1439, by which a clock is ahead that shows the same time of day as one that is
    /// `ahead`.
    #[must_use]
    pub fn round(ahead: i16) -> u16 {
        ahead.rem_euclid(DAY_MINUTES).unsigned_abs()
    }

    /// Reads `6h` or `18:30`, the latter by a clock that is `ahead` minutes ahead of UTC.
    pub fn parse(text: &str, ahead: i16) -> Result<Self, ParseIdError> {
        let refused = || ParseIdError {
            text: text.chars().take(64).collect(),
            wanted: "rule (90s, 30m, 6h, 1d, or a time of day as 18:30)",
        };
        if let Some((hour, minute)) = text.split_once(':') {
            let part = |text: &str, below: u16| {
                let digits =
                    (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
                u16::from_str(text).ok().filter(|n| digits && *n < below)
            };
            let (hour, minute) = (part(hour, 24), part(minute, 60));
            let (hour, minute) = hour.zip(minute).ok_or_else(refused)?;
            return Ok(Self::Daily {
                minute: hour * 60 + minute,
                ahead,
            });
        }
        let every = parse_duration(text).map_err(|_| refused())?;
        if every < limits::EVERY_MIN || every > limits::EVERY_MAX {
            return Err(refused());
        }
        Ok(Self::Every(every))
    }
}

impl fmt::Display for Recurrence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(every) => write!(f, "every {}", write_duration(*every)),
            Self::Daily { minute, ahead } => {
                let sign = if *ahead < 0 { '-' } else { '+' };
                let clock = |minutes: u16| format!("{:02}:{:02}", minutes / 60, minutes % 60);
                write!(
                    f,
                    "daily at {} {sign}{}",
                    clock(*minute),
                    clock(ahead.unsigned_abs())
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_reads_and_shows_as_people_write_it() {
        for (text, shown) in [
            ("6h", "every 6h"),
            ("1h30m", "every 1h30m"),
            ("18:30", "daily at 18:30 +01:00"),
            ("7:05", "daily at 07:05 +01:00"),
        ] {
            assert_eq!(
                Recurrence::parse(text, 60).map(|r| r.to_string()),
                Ok(shown.to_owned())
            );
        }
        for (ahead, offset) in [
            (0, "+00:00"),
            (330, "+05:30"),
            (-300, "-05:00"),
            (-210, "-03:30"),
            (780, "+13:00"),
            (825, "+13:45"),
            (840, "+14:00"),
            (-600, "-10:00"),
            (-660, "-11:00"),
            (-720, "-12:00"),
        ] {
            let shown = Recurrence::parse("6:00", ahead).unwrap().to_string();
            assert_eq!(shown, format!("daily at 06:00 {offset}"));
        }
        for text in [
            "",
            "0s",
            "24:00",
            "1:60",
            "18:",
            "soon",
            "* * * * *",
            "400d",
            "+1:00",
        ] {
            assert!(Recurrence::parse(text, 0).is_err(), "{text}");
        }
    }

    #[test]
    fn missed_slots_are_one_and_the_grid_stays() {
        let every = Recurrence::Every(Duration::from_millis(100));
        let next = |now| every.next(Timestamp(1050), Timestamp(now)).0;
        assert_eq!(
            [next(1049), next(1050), next(1051), next(9999)],
            [1050, 1150, 1150, 10050]
        );
        assert_eq!(next(500), 550, "a slot far ahead has slots before it");
    }

    #[test]
    fn a_day_is_counted_by_the_clock_that_was_meant() {
        // 18:30 at two hours ahead of UTC is 16:30 UTC.
        let rule = Recurrence::parse("18:30", 120).unwrap();
        let at = |hour: u64, minute: u64| Timestamp(5 * DAY_MS + (hour * 60 + minute) * MINUTE_MS);
        assert_eq!(rule.next(at(0, 0), at(16, 29)), at(16, 30));
        assert_eq!(rule.next(at(0, 0), at(16, 30)), at(40, 30));
        assert_eq!(rule.next(at(0, 0), at(23, 30)), at(40, 30));
        // At ten hours behind it is 4:30 UTC of the next day.
        let behind = Recurrence::parse("18:30", -600).unwrap();
        assert_eq!(behind.next(at(0, 0), at(4, 29)), at(4, 30));
        assert_eq!(behind.next(at(0, 0), at(4, 30)), at(28, 30));
    }
}
