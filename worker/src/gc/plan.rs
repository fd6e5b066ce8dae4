//! The decision: which of the things that lie there go, and why. Knows no clock and no disk.

use std::{fmt, path::PathBuf, time::Duration};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Above this, caches go before their time: 20 GiB.
pub const QUOTA_BYTES: u64 = 20 << 30;

/// What something is. In this order things go when there is too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// What a build left in a workspace that was put aside.
    BuildOutput,
    /// A work tree made in advance.
    Spare,
    /// Bytes fetched from the head.
    Bundle,
    /// A project's repository.
    Repository,
    /// An attempt that was put aside, with files that are nowhere else.
    Aside,
}

impl Kind {
    /// Its name, as JSON has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BuildOutput => "build_output",
            Self::Spare => "spare",
            Self::Bundle => "bundle",
            Self::Repository => "repository",
            Self::Aside => "aside",
        }
    }

    /// How long nobody may have used it before it goes.
    fn keeps(self) -> Duration {
        match self {
            Self::BuildOutput => DAY,
            Self::Spare | Self::Bundle => 7 * DAY,
            Self::Aside => 14 * DAY,
            Self::Repository => 30 * DAY,
        }
    }

    /// Whether it can be made or fetched again. What cannot be goes by its age alone.
    fn can_be_had_again(self) -> bool {
        match self {
            Self::BuildOutput | Self::Spare | Self::Bundle | Self::Repository => true,
            Self::Aside => false,
        }
    }
}

/// Something that lies in the worker's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Where.
    pub path: PathBuf,
    /// What.
    pub kind: Kind,
    /// How much disk it takes.
    pub bytes: u64,
    /// How long ago it was last used.
    pub idle: Duration,
    /// Whether an attempt needs it.
    pub in_use: bool,
}

/// Why something goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nobody used it for so long.
    Idle {
        /// How long things of its kind are kept.
        keeps: Duration,
    },
    /// There is more than the quota, and it is the next that can be had again.
    Quota,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idle { keeps } => {
                write!(f, "not used for {} days", keeps.as_secs() / DAY.as_secs())
            }
            Self::Quota => write!(f, "more than {} GiB are kept", QUOTA_BYTES >> 30),
        }
    }
}

/// Something that goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// What.
    pub item: Item,
    /// Why.
    pub why: Why,
}

/// What goes, in the order in which it does: by age first, then for the quota.
#[must_use]
pub fn plan(items: Vec<Item>) -> Vec<Removal> {
    let is_old = |item: &Item| !item.in_use && item.idle >= item.kind.keeps();
    let (old, mut rest): (Vec<_>, Vec<_>) = items.into_iter().partition(is_old);
    let mut removals: Vec<_> = old.into_iter().map(by_age).collect();
    let mut kept: u64 = rest.iter().map(|item| item.bytes).sum();
    rest.retain(|item| !item.in_use && item.kind.can_be_had_again());
    rest.sort_by(|a, b| (a.kind, b.idle, &a.path).cmp(&(b.kind, a.idle, &b.path)));
    for item in rest {
        if kept <= QUOTA_BYTES {
            break;
        }
        kept -= item.bytes;
        removals.push(Removal {
            item,
            why: Why::Quota,
        });
    }
    removals
}

fn by_age(item: Item) -> Removal {
    let keeps = item.kind.keeps();
    Removal {
        item,
        why: Why::Idle { keeps },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn item(name: &str, kind: Kind, bytes: u64, idle_days: u32) -> Item {
        Item {
            path: name.into(),
            kind,
            bytes,
            idle: idle_days * DAY,
            in_use: false,
        }
    }

    fn names(removals: &[Removal]) -> Vec<&str> {
        let name = |removal: &'_ Removal| removal.item.path.to_str().unwrap().to_owned();
        removals.iter().map(|r| name(r).leak() as &str).collect()
    }

    #[test]
    fn things_go_when_their_time_is_over_and_not_before() {
        let all = [
            (Kind::BuildOutput, 1),
            (Kind::Spare, 7),
            (Kind::Bundle, 7),
            (Kind::Aside, 14),
            (Kind::Repository, 30),
        ];
        for (kind, days) in all {
            assert_eq!(plan(vec![item("x", kind, 1, days - 1)]), [], "{kind:?}");
            let old = plan(vec![item("x", kind, 1, days)]);
            assert_eq!(names(&old), ["x"], "{kind:?}");
            assert_eq!(old[0].why.to_string(), format!("not used for {days} days"));
        }
    }

    #[test]
    fn what_an_attempt_needs_stays_whatever_its_age_and_size() {
        let mut needed = item("needed", Kind::Repository, 30 * GIB, 400);
        needed.in_use = true;
        assert_eq!(plan(vec![needed]), []);
    }

    #[test]
    fn above_the_quota_build_output_goes_first_then_the_longest_unused() {
        let items = vec![
            item("repository", Kind::Repository, 9 * GIB, 20),
            item("newer bundle", Kind::Bundle, 9 * GIB, 1),
            item("older bundle", Kind::Bundle, 9 * GIB, 3),
            item("build", Kind::BuildOutput, GIB, 0),
            item("spare", Kind::Spare, GIB, 0),
        ];
        let removals = plan(items.clone());
        assert_eq!(names(&removals), ["build", "spare", "older bundle"]);
        assert!(removals.iter().all(|removal| removal.why == Why::Quota));
        let fits = items.into_iter().take(2).collect();
        assert_eq!(plan(fits), []);
    }

    #[test]
    fn files_that_are_nowhere_else_never_go_for_the_quota() {
        let items = vec![
            item("aside", Kind::Aside, 50 * GIB, 13),
            item("bundle", Kind::Bundle, GIB, 0),
        ];
        assert_eq!(names(&plan(items)), ["bundle"]);
    }
}
