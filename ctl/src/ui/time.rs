//! Times and amounts as people say them: `2m ago`, `1h 5m`, `12.4k`, `$0.03`.

use std::time::Duration;

use orchestra_types::{Timestamp, Usage, time::write_duration};

/// How long ago `then` was.
pub fn ago(then: Timestamp, now: Timestamp) -> String {
    match now.since(then).as_secs() {
        0 => "now".to_owned(),
        seconds => format!("{} ago", coarse(seconds)),
    }
}

/// A duration in its two largest units: `420ms`, `1.4s`, `42s`, `3m 5s`, `2h 10m`, `4d 1h`. What is left is cut off.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (large, small) = match seconds {
        0 if duration.as_millis() == 0 => return "0s".to_owned(),
        0 => return format!("{}ms", duration.as_millis()),
        1..10 => return format!("{seconds}.{}s", duration.subsec_millis() / 100),
        10..60 => return format!("{seconds}s"),
        60..3600 => ((seconds / 60, "m"), (seconds % 60, "s")),
        3600..86_400 => ((seconds / 3600, "h"), (seconds % 3600 / 60, "m")),
        86_400.. => ((seconds / 86_400, "d"), (seconds % 86_400 / 3600, "h")),
    };
    if small.0 == 0 {
        format!("{}{}", large.0, large.1)
    } else {
        format!("{}{} {}{}", large.0, large.1, small.0, small.1)
    }
}

/// A limit that somebody has given, exactly and as it can be given again: `1d2h30m`.
pub fn limit(seconds: f64) -> String {
    write_duration(Duration::from_secs_f64(seconds))
}

/// A count in at most four characters or so: `950`, `12.4k`, `3.1M`.
pub fn amount(count: u64) -> String {
    let scaled = |unit: u64, letter: char| {
        let tenths = count / (unit / 10);
        if tenths >= 1000 {
            format!("{}{letter}", tenths / 10)
        } else {
            format!("{}.{}{letter}", tenths / 10, tenths % 10)
        }
    };
    match count {
        0..1000 => count.to_string(),
        1000..1_000_000 => scaled(1000, 'k'),
        1_000_000..1_000_000_000 => scaled(1_000_000, 'M'),
        1_000_000_000.. => scaled(1_000_000_000, 'G'),
    }
}

/// Bytes: `950 B`, `12.4 KiB`, `3.1 MiB`.
pub fn bytes(count: u64) -> String {
    let scaled = |unit: u64, name: &str| {
        let tenths = u128::from(count) * 10 / u128::from(unit);
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    };
    match count {
        0..1024 => format!("{count} B"),
        1024..0x10_0000 => scaled(1024, "KiB"),
        0x10_0000..0x4000_0000 => scaled(0x10_0000, "MiB"),
        0x4000_0000.. => scaled(0x4000_0000, "GiB"),
    }
}

/// Tokens and cost in a few words; empty when nothing is known.
pub fn usage(usage: &Usage) -> String {
    let mut parts = Vec::new();
    if usage.input_tokens > 0 || usage.output_tokens > 0 {
        parts.push(format!(
            "{} in · {} out",
            amount(usage.input_tokens),
            amount(usage.output_tokens)
        ));
    }
    if let Some(cost) = usage.cost_microusd {
        parts.push(dollars(cost));
    }
    parts.join(" · ")
}

/// A cost in millionths of a US dollar.
pub fn dollars(microusd: u64) -> String {
    if microusd > 0 && microusd < 10_000 {
        return format!(
            "${}.{:04}",
            microusd / 1_000_000,
            microusd % 1_000_000 / 100
        );
    }
    format!(
        "${}.{:02}",
        microusd / 1_000_000,
        microusd % 1_000_000 / 10_000
    )
}

/// `1 file`, `2 files`.
pub fn counted(count: u64, one: &str) -> String {
    if count == 1 {
        format!("1 {one}")
    } else {
        format!("{count} {one}s")
    }
}

fn coarse(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..172_800 => format!("{}h", seconds / 3600),
        172_800.. => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        let now = Timestamp(1_000_000_000);
        let before = |ms| ago(Timestamp(now.0 - ms), now);
        assert_eq!(before(0), "now");
        assert_eq!(before(59_000), "59s ago");
        assert_eq!(before(125_000), "2m ago");
        assert_eq!(before(47 * 3_600_000), "47h ago");
        assert_eq!(before(5 * 86_400_000), "5d ago");
        assert_eq!(
            ago(Timestamp(now.0 + 5000), now),
            "now",
            "a clock ahead of ours is not an error"
        );
        let shown = |s| duration(Duration::from_millis(s));
        assert_eq!(
            [shown(420), shown(42_000), shown(185_000), shown(7_200_000)],
            ["420ms", "42s", "3m 5s", "2h"]
        );
        assert_eq!([shown(0), shown(1), shown(1400)], ["0s", "1ms", "1.4s"]);
        assert_eq!([limit(95_400.0), limit(90.5)], ["1d2h30m", "1m30s500ms"]);
        assert_eq!([shown(1000), shown(9999)], ["1.0s", "9.9s"]);
    }

    #[test]
    fn amounts_are_short() {
        let shown = [0, 999, 1000, 12_449, 999_999, 3_100_000].map(amount);
        assert_eq!(shown, ["0", "999", "1.0k", "12.4k", "999k", "3.1M"]);
        assert_eq!(
            [bytes(12), bytes(1536), bytes(5 << 20)],
            ["12 B", "1.5 KiB", "5.0 MiB"]
        );
    }

    #[test]
    fn usage_says_tokens_and_cost_where_known() {
        let used = Usage {
            input_tokens: 12_400,
            output_tokens: 90,
            cost_microusd: Some(31_000),
            ..Usage::default()
        };
        assert_eq!(usage(&used), "12.4k in · 90 out · $0.03");
        assert_eq!(
            usage(&Usage {
                cost_microusd: Some(1_200),
                ..Usage::default()
            }),
            "$0.0012"
        );
        assert_eq!(usage(&Usage::default()), "");
    }
}
