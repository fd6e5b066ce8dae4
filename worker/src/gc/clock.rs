//! Whether the clock can be trusted with what is nowhere else. A machine that starts with a wrong clock, or
//! one that was off for weeks, has not kept it for as long as its dates say.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use orchestra_config::durable::{self, Access};

/// A clock that goes on by more than this between two looks has jumped. They are an hour apart while a
/// worker runs.
const JUMP: Duration = Duration::from_secs(7 * 24 * 3600);
/// It may be set back by this much.
const BACK: Duration = Duration::from_secs(3600);

/// What is known of the clock, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    /// When it was looked at last.
    at: u64,
    /// Since when it goes on evenly.
    since: u64,
}

impl Known {
    fn next(before: Option<Self>, now: u64) -> Self {
        let evenly = before.filter(|before| {
            now + BACK.as_secs() >= before.at && now <= before.at.saturating_add(JUMP.as_secs())
        });
        Self {
            at: now,
            since: evenly.map_or(now, |before| before.since),
        }
    }

    fn read(file: &Path) -> Option<Self> {
        let text = fs::read_to_string(file).ok()?;
        let (at, since) = text.trim().split_once(' ')?;
        let (at, since) = (at.parse().ok()?, since.parse().ok()?);
        (since <= at).then_some(Self { at, since })
    }
}

/// For how long the clock has gone on evenly, as `file` remembers; `note` has it remember this look.
pub fn evenly_for(file: &Path, note: bool) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default().as_secs();
    let known = Known::next(Known::read(file), now);
    if note {
        let text = format!("{} {}\n", known.at, known.since);
        if let Err(error) = durable::replace(file, text.as_bytes(), Access::Private) {
            // Without it the time begins anew: things stay for longer.
            tracing::debug!(%error, "the time cannot be noted");
        }
    }
    Duration::from_secs(known.at.saturating_sub(known.since))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 3600;

    #[test]
    fn a_jump_in_either_direction_begins_the_time_anew() {
        let first = Known::next(None, 100 * DAY);
        assert_eq!(first.since, 100 * DAY);
        let later = Known::next(Some(first), 106 * DAY);
        assert_eq!((later.at, later.since), (106 * DAY, 100 * DAY));
        let jumped = Known::next(Some(later), 114 * DAY);
        assert_eq!(jumped.since, 114 * DAY);
        let back = Known::next(Some(jumped), 107 * DAY);
        assert_eq!(back.since, 107 * DAY);
        let a_little = Known::next(Some(later), 106 * DAY - 60);
        assert_eq!(a_little.since, 100 * DAY);
    }

    #[test]
    fn it_is_remembered_where_that_is_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("clock");
        assert_eq!(evenly_for(&file, false), Duration::ZERO);
        assert!(!file.exists());
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        fs::write(&file, format!("{} {}\n", now - DAY, now - 20 * DAY)).unwrap();
        assert!(evenly_for(&file, true).as_secs() >= 20 * DAY);
        fs::write(&file, format!("{} {}\n", now - 15 * DAY, now - 20 * DAY)).unwrap();
        assert!(evenly_for(&file, true).as_secs() < DAY);
        fs::write(&file, "what is this").unwrap();
        assert!(evenly_for(&file, true).as_secs() < DAY);
    }
}
