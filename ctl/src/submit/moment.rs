//! Moments as people write them, in the time zone of the machine that `ctl` runs on.

use std::time::Duration;

use jiff::{Zoned, civil};
use orchestra_types::{Recurrence, Timestamp, time::parse_duration};

/// Reads when a recurring task comes: `6h`, or `18:30` by the clock of this machine as it is now.
pub fn parse_rule(text: &str) -> Result<Recurrence, String> {
    let ahead = Zoned::now()
        .offset()
        .seconds()
        .div_euclid(60)
        .rem_euclid(24 * 60);
    let ahead = u16::try_from(ahead).unwrap_or_default();
    Recurrence::parse(text.trim(), ahead).map_err(|e| e.to_string())
}

/// When a task may begin, as it was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At this moment.
    At(Timestamp),
    /// That long from when the head has it: the clock of this machine is not asked, which may be wrong.
    In(Duration),
}

impl Start {
    /// The moment, by the clock that says `now`.
    pub fn by(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::In(later) => now.plus(later),
        }
    }

    /// The moment that was named, if it was.
    pub fn at(self) -> Option<Timestamp> {
        match self {
            Self::At(at) => Some(at),
            Self::In(_) => None,
        }
    }

    /// How much later in milliseconds, if that was named.
    pub fn in_ms(self) -> Option<u64> {
        match self {
            Self::At(_) => None,
            Self::In(later) => Some(u64::try_from(later.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

/// 100 years: more is a mistake, and soon beyond what a date can say.
const LATER_MAX: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

/// Reads a moment: `+2h` from now, `18:30` (the next one), `2026-11-21 18:30` here, or RFC 3339.
pub fn parse_moment(text: &str) -> Result<Start, String> {
    let text = text.trim();
    if let Some(later) = text.strip_prefix('+') {
        let later = parse_duration(later).map_err(|e| e.to_string())?;
        return match later <= LATER_MAX {
            true => Ok(Start::In(later)),
            false => Err(format!("`{text}` is more than 100 years away")),
        };
    }
    parse_at(text, &Zoned::now()).map(Start::At)
}

fn parse_at(text: &str, now: &Zoned) -> Result<Timestamp, String> {
    if let Ok(instant) = text.parse::<jiff::Timestamp>() {
        return Ok(moment(instant));
    }
    let zone = now.time_zone();
    if let Some(time) = time_of_day(text) {
        let today = now.date().to_datetime(time).to_zoned(zone.clone());
        let next = today.and_then(|today| match today.timestamp() > now.timestamp() {
            true => Ok(today),
            false => now
                .date()
                .tomorrow()?
                .to_datetime(time)
                .to_zoned(zone.clone()),
        });
        return next
            .map(|next| moment(next.timestamp()))
            .map_err(|e| e.to_string());
    }
    if let Ok(here) = text.parse::<civil::DateTime>() {
        let here = here.to_zoned(zone.clone());
        return here
            .map(|here| moment(here.timestamp()))
            .map_err(|e| e.to_string());
    }
    Err(format!(
        "`{text}` is not a time (+2h, 18:30, \"2026-11-21 18:30\", 2026-11-21T18:30:00+01:00)"
    ))
}

/// `18:30` as a time of day.
fn time_of_day(text: &str) -> Option<civil::Time> {
    let (hour, minute) = text.split_once(':')?;
    let digits = |text: &str| text.len() <= 2 && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(hour) || minute.len() != 2 || !digits(minute) {
        return None;
    }
    civil::Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()
}

fn moment(instant: jiff::Timestamp) -> Timestamp {
    Timestamp(u64::try_from(instant.as_millisecond()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, String> {
        let now: Zoned = "2026-11-21T17:00:00+01:00[Europe/Paris]".parse().unwrap();
        parse_at(text, &now).map(|at| crate::json::time::Time(at).to_string())
    }

    #[test]
    fn a_moment_reads_as_people_write_it() {
        for (text, utc) in [
            ("18:30", "2026-11-21T17:30:00.000Z"),
            ("9:05", "2026-11-22T08:05:00.000Z"),
            ("2026-11-30 18:30", "2026-11-30T17:30:00.000Z"),
            ("2027-07-01T18:30:15", "2027-07-01T16:30:15.000Z"),
            ("2026-11-21T18:30:00-05:00", "2026-11-21T23:30:00.000Z"),
            ("2026-11-21T18:30:00Z", "2026-11-21T18:30:00.000Z"),
        ] {
            assert_eq!(read(text), Ok(utc.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_relative_one_stays_relative() {
        let later = parse_moment(" +2h ").unwrap();
        assert_eq!(later, Start::In(Duration::from_secs(7200)));
        assert_eq!((later.at(), later.in_ms()), (None, Some(7_200_000)));
        let never = parse_moment("+9999999d").unwrap_err();
        assert_eq!(never, "`+9999999d` is more than 100 years away");
        assert_eq!(later.by(Timestamp(5)), Timestamp(7_200_005));
        let named = parse_moment("1970-01-01T00:00:01Z").unwrap();
        assert_eq!((named.at(), named.in_ms()), (Some(Timestamp(1000)), None));
    }

    #[test]
    fn what_is_no_moment_is_refused_with_examples() {
        for text in ["", "soon", "25:00", "18:7", "+2", "tomorrow", "18:30:"] {
            let error = parse_moment(text).unwrap_err();
            assert!(error.contains("2h"), "{text}: {error}");
        }
    }
}
