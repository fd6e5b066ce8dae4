//! Time as a number that the caller passes in.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch, by the clock of whoever made it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// This moment plus `duration`, stopping at the end of time instead of wrapping.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// How long after `earlier` this is; zero when it is not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// A duration in milliseconds, as they are written and sent.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Reads a duration as people write it: `250ms`, `90s`, `30m`, `2h`, `7d`, or a sum as `1h30m`.
pub fn parse_duration(text: &str) -> Result<Duration, crate::id::ParseIdError> {
    let refused = || crate::id::ParseIdError {
        text: text.chars().take(64).collect(),
        wanted: "duration (250ms, 90s, 30m, 2h, 7d, 1h30m)",
    };
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(refused());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().map_err(|_| refused())?;
        let after = &rest[digits..];
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let ms = match &after[..letters] {
            "ms" => Some(number),
            "s" => number.checked_mul(1000),
            "m" => number.checked_mul(60_000),
            "h" => number.checked_mul(3_600_000),
            "d" => number.checked_mul(86_400_000),
            _ => None,
        };
        let part = Duration::from_millis(ms.ok_or_else(refused)?);
        total = total.checked_add(part).ok_or_else(refused)?;
        rest = &after[letters..];
    }
    Ok(total)
}

/// A duration in the words in which it is read: `1h30m`. Exact to the millisecond.
#[must_use]
pub fn write_duration(duration: Duration) -> String {
    let mut rest = millis(duration);
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, name) in [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "m"),
        (1000, "s"),
        (1, "ms"),
    ] {
        if rest >= unit {
            text += &format!("{}{name}", rest / unit);
            rest %= unit;
        }
    }
    text
}

/// A duration in a few words: `2 h`, `36 h 5 min`, `5 min`, `90 s`, `1.5 s`, `250 ms`. What is short is told to the
/// millisecond, what is longer to the second.
#[derive(Clone, Copy, Debug)]
pub struct Words(pub Duration);

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            0 if !self.0.is_zero() => write!(f, "{} ms", self.0.as_millis()),
            s if s < 10 && self.0.subsec_millis() > 0 => {
                let thousandths = format!("{:03}", self.0.subsec_millis());
                write!(f, "{s}.{} s", thousandths.trim_end_matches('0'))
            }
            s if s < 120 && s != 60 => write!(f, "{s} s"),
            s => f.write_str(&in_units(s)),
        }
    }
}

/// As `36 h 5 min`, without the units of which there is nothing.
fn in_units(seconds: u64) -> String {
    let units = [
        (seconds / 3600, "h"),
        (seconds % 3600 / 60, "min"),
        (seconds % 60, "s"),
    ];
    let some = units.into_iter().filter(|(number, _)| *number > 0);
    let words: Vec<String> = some
        .map(|(number, unit)| format!("{number} {unit}"))
        .collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_write_them() {
        let ms = |text| parse_duration(text).map(|d| d.as_millis());
        assert_eq!(ms("250ms"), Ok(250));
        assert_eq!(ms("1h30m"), Ok(5_400_000));
        for text in [
            "",
            "5",
            "m",
            "1.5h",
            "-1s",
            "1w",
            "99999999999999999999s",
            "é",
            "1é",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_as_the_same() {
        for (ms, text) in [
            (0, "0s"),
            (250, "250ms"),
            (90_000, "1m30s"),
            (95_400_001, "1d2h30m1ms"),
        ] {
            let duration = Duration::from_millis(ms);
            assert_eq!(write_duration(duration), text);
            assert_eq!(parse_duration(text), Ok(duration));
        }
    }

    #[test]
    fn a_long_duration_is_told_in_its_units() {
        let said = |s| Words(Duration::from_secs(s)).to_string();
        assert_eq!([said(60), said(119)], ["1 min", "119 s"]);
        assert_eq!([said(121), said(129_900)], ["2 min 1 s", "36 h 5 min"]);
        assert_eq!([said(5401), said(3601)], ["1 h 30 min 1 s", "1 h 1 s"]);
    }

    #[test]
    fn a_duration_below_a_second_is_told_in_milliseconds() {
        let said = |ms| Words(Duration::from_millis(ms)).to_string();
        assert_eq!(said(0), "0 s");
        assert_eq!(said(1), "1 ms");
        assert_eq!(said(999), "999 ms");
        assert_eq!(said(1_000), "1 s");
        assert_eq!(said(1_050), "1.05 s");
        assert_eq!(said(10_500), "10 s");
        assert_eq!(said(90_000), "90 s");
        assert_eq!(said(120_000), "2 min");
        assert_eq!(said(7_200_000), "2 h");
    }
}
