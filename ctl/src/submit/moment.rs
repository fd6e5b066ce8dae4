//! Moments as people write them, in the time zone of the machine that `ctl` runs on.

use std::time::Duration;

use jiff::{Zoned, civil, tz::TimeZone};
use orchestra_types::{
    Recurrence, Timestamp,
    time::{millis, parse_duration},
};

/// Reads when a recurring task comes: `6h`, or `18:30` by the clock of this machine as it is now.
pub fn parse_rule(text: &str) -> Result<Recurrence, String> {
    // Of a period no clock is asked, and what is no rule is refused as such.
    match Recurrence::parse(text.trim(), 0) {
        Ok(Recurrence::Daily { .. }) => rule_by(text, &here()?),
        Ok(every @ Recurrence::Every(_)) => Ok(every),
        Err(error) => Err(error.to_string()),
    }
}

fn rule_by(text: &str, now: &Zoned) -> Result<Recurrence, String> {
    // What no clock is ahead by is the same time of day.
    let ahead = now.offset().seconds().div_euclid(60) % (24 * 60);
    let ahead = i16::try_from(ahead).unwrap_or_default();
    Recurrence::parse(text.trim(), ahead).map_err(|e| e.to_string())
}

/// Now, in the time zone of this machine.
fn here() -> Result<Zoned, String> {
    let zone = match TimeZone::try_system() {
        Ok(zone) => zone,
        // What is no zone is none for other programs either, and they take it for UTC. Nobody is to find that
        // out by a task that begins at another time.
        Err(_) => match std::env::var_os("TZ") {
            Some(named) => return Err(unknown_zone(&named.to_string_lossy())),
            None => TimeZone::UTC,
        },
    };
    Ok(jiff::Timestamp::now().to_zoned(zone))
}

fn unknown_zone(named: &str) -> String {
    let rules = match lacks_rules(named) {
        true => format!("TZ='{named},M3.5.0,M10.5.0/3', with the days of the change as in Europe"),
        false => "TZ='CET-1CEST,M3.5.0,M10.5.0/3'".to_owned(),
    };
    format!(
        "TZ={named} names no time zone that is known here: write TZ=Europe/Berlin, {rules}, or TZ=UTC; \
         RFC 3339 as 2026-11-21T18:30:00+01:00 and +2h need none"
    )
}

/// Whether it is as `CET-1CEST`, which does not say when the clock changes.
fn lacks_rules(named: &str) -> bool {
    let letters = |c: char| c.is_ascii_alphabetic();
    let begins = named.starts_with(letters) && named.ends_with(letters);
    begins && named.contains(|c: char| c.is_ascii_digit()) && !named.contains([',', '/'])
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
            Self::In(later) => Some(millis(later)),
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
    parse_at(text, here).map(Start::At)
}

/// A time that the clock leaves out is as much later as it jumps; of one that comes twice the first is meant.
fn parse_at(text: &str, now: impl FnOnce() -> Result<Zoned, String>) -> Result<Timestamp, String> {
    if let Ok(instant) = text.parse::<jiff::Timestamp>() {
        return Ok(moment(instant));
    }
    if let Some(time) = time_of_day(text) {
        let now = now()?;
        let zone = now.time_zone();
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
        let here = here.to_zoned(now()?.time_zone().clone());
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
        read_at("2026-11-21T17:00:00+01:00[Europe/Paris]", text)
    }

    fn read_at(now: &str, text: &str) -> Result<String, String> {
        let now: Zoned = now.parse().unwrap();
        parse_at(text, || Ok(now)).map(|at| crate::json::time::Time(at).to_string())
    }

    #[test]
    fn a_time_that_the_clock_leaves_out_is_later_and_of_two_the_first_is_meant() {
        for (now, text, utc) in [
            (
                "2026-03-28T12:00:00+01:00",
                "02:30",
                "2026-03-29T01:30:00.000Z",
            ),
            (
                "2026-03-28T12:00:00+01:00",
                "2026-03-29 02:30",
                "2026-03-29T01:30:00.000Z",
            ),
            (
                "2026-10-24T12:00:00+02:00",
                "02:30",
                "2026-10-25T00:30:00.000Z",
            ),
            (
                "2026-10-24T12:00:00+02:00",
                "2026-10-25 02:30",
                "2026-10-25T00:30:00.000Z",
            ),
            // The first of the two is over.
            (
                "2026-10-25T02:40:00+02:00",
                "02:30",
                "2026-10-26T01:30:00.000Z",
            ),
        ] {
            let now = format!("{now}[Europe/Paris]");
            assert_eq!(read_at(&now, text), Ok(utc.to_owned()), "{now} {text}");
        }
    }

    #[test]
    fn a_daily_rule_has_the_offset_of_the_clock_here_also_at_the_ends_of_the_world() {
        for (now, offset) in [
            ("2026-11-21T17:00:00+14:00[Pacific/Kiritimati]", "+14:00"),
            ("2026-01-21T17:00:00+13:45[Pacific/Chatham]", "+13:45"),
            ("2026-11-21T17:00:00-10:00[Pacific/Honolulu]", "-10:00"),
            ("2026-11-21T17:00:00-11:00[Pacific/Pago_Pago]", "-11:00"),
        ] {
            let now: Zoned = now.parse().unwrap();
            let rule = rule_by("18:30", &now).unwrap();
            assert_eq!(rule.to_string(), format!("daily at 18:30 {offset}"));
            let next = rule.next(moment(now.timestamp()), moment(now.timestamp()));
            let due = now.with().hour(18).minute(30).build().unwrap();
            assert_eq!(next, moment(due.timestamp()));
        }
    }

    #[test]
    fn a_daily_rule_keeps_its_offset_over_a_jump_of_the_clock() {
        let runs = |added: &str, day: &str| {
            let added: Zoned = format!("{added}[Europe/Paris]").parse().unwrap();
            let rule = rule_by("02:30", &added).unwrap();
            let before: jiff::Timestamp = format!("{day}T12:00:00Z").parse().unwrap();
            let first = rule.next(moment(before), moment(before));
            let here = |at: Timestamp| {
                let at = jiff::Timestamp::from_millisecond(i64::try_from(at.0).unwrap()).unwrap();
                let at = at.to_zoned(added.time_zone().clone());
                at.strftime("%d %H:%M %:z").to_string()
            };
            [here(first), here(rule.next(first, first))]
        };
        let (winter, summer) = ("2026-02-01T12:00:00+01:00", "2026-07-01T12:00:00+02:00");
        let march = "2026-03-28";
        assert_eq!(runs(winter, march), ["29 03:30 +02:00", "30 03:30 +02:00"]);
        assert_eq!(runs(summer, march), ["29 01:30 +01:00", "30 02:30 +02:00"]);
        let october = "2026-10-24";
        assert_eq!(
            runs(summer, october),
            ["25 02:30 +02:00", "26 01:30 +01:00"]
        );
        assert_eq!(
            runs(winter, october),
            ["25 02:30 +01:00", "26 02:30 +01:00"]
        );
    }

    #[test]
    fn a_zone_that_is_not_known_is_refused_with_what_to_write_and_only_where_it_is_needed() {
        let said = unknown_zone("CET-1CEST");
        assert!(said.contains("TZ='CET-1CEST,M3.5.0,M10.5.0/3'"), "{said}");
        let said = unknown_zone("Nowhere/City");
        assert!(said.contains("write TZ=Europe/Berlin"), "{said}");
        assert!(!said.contains("Nowhere/City,"), "{said}");
        let none = |text: &str| parse_at(text, || Err("no zone".to_owned()));
        assert_eq!(none("18:30"), Err("no zone".to_owned()));
        assert_eq!(none("2026-11-21 18:30"), Err("no zone".to_owned()));
        assert!(none("2026-11-21T18:30:00+01:00").is_ok());
        assert!(none("soon").unwrap_err().contains("is not a time"));
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
