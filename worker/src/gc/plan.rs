//! The decision: which of the things that lie there go, and why. Knows no clock and no disk.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use orchestra_config::KeepConfig;
use orchestra_types::time::write_duration;

/// An attempt that has opened a repository may not have borrowed from it yet.
const DAMAGED_FOR: Duration = Duration::from_secs(3600);

/// What something is. In this order things go when there is too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// What a build left in a workspace that was put aside.
    BuildOutput,
    /// A work tree made in advance.
    Spare,
    /// Bytes fetched from the head.
    Bundle,
    /// A project's repository that was found damaged; another one is used.
    Damaged,
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
            Self::Damaged => "damaged",
            Self::Repository => "repository",
            Self::Aside => "aside",
        }
    }

    /// How long nobody may have used it before it goes.
    fn keeps(self, keep: &KeepConfig) -> Duration {
        match self {
            Self::BuildOutput => keep.build_output,
            Self::Spare => keep.spares,
            Self::Bundle => keep.bundles,
            Self::Aside => keep.aside,
            Self::Repository => keep.repositories,
            Self::Damaged => DAMAGED_FOR,
        }
    }

    /// Whether it can be made or fetched again. What cannot be goes by its age alone.
    fn can_be_had_again(self) -> bool {
        match self {
            Self::BuildOutput | Self::Spare | Self::Bundle | Self::Damaged | Self::Repository => {
                true
            }
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
    /// Who needs it, for people; none when nobody does.
    pub needed_by: Option<String>,
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
    Quota {
        /// How many bytes are kept.
        bytes: u64,
    },
    /// The disk has no room for anything new, and it is the next that can be had again.
    DiskFull,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idle { keeps } => write!(f, "not used for {}", write_duration(*keeps)),
            Self::Quota { bytes } => write!(f, "more than {} are kept", size(*bytes)),
            Self::DiskFull => f.write_str("the disk is full"),
        }
    }
}

/// A size as the configuration has it: `20GiB`.
fn size(bytes: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let whole = |(_, shift): &(&str, u32)| bytes.trailing_zeros() >= *shift;
    match units.into_iter().find(whole) {
        Some((unit, shift)) if bytes > 0 => format!("{}{unit}", bytes >> shift),
        Some(_) | None => format!("{bytes} bytes"),
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

/// What goes, in the order in which it does: by age first, then for the quota, then until `wanted`
/// bytes of a full disk are free.
#[must_use]
pub fn plan(items: Vec<Item>, keep: &KeepConfig, wanted: u64) -> Vec<Removal> {
    let is_old = |item: &Item| item.needed_by.is_none() && item.idle >= item.kind.keeps(keep);
    let (old, mut rest): (Vec<_>, Vec<_>) = items.into_iter().partition(is_old);
    let mut kept: u64 = rest.iter().map(|item| item.bytes).sum();
    let mut freed: u64 = old.iter().map(|item| item.bytes).sum();
    let mut removals: Vec<_> = old.into_iter().map(|item| by_age(item, keep)).collect();
    rest.retain(|item| item.needed_by.is_none() && item.kind.can_be_had_again());
    rest.sort_by(|a, b| (a.kind, b.idle, &a.path).cmp(&(b.kind, a.idle, &b.path)));
    for item in rest {
        let why = match (kept > keep.quota, freed < wanted) {
            (true, _) => Why::Quota { bytes: keep.quota },
            (false, true) => Why::DiskFull,
            (false, false) => break,
        };
        kept -= item.bytes;
        freed += item.bytes;
        removals.push(Removal { item, why });
    }
    removals
}

/// The damaged repositories that stay, and why: a person who has heard of the damage asks for them.
#[must_use]
pub fn damaged_that_stay(items: &[Item], removals: &[Removal]) -> Vec<(Item, String)> {
    let stays = |item: &&Item| {
        item.kind == Kind::Damaged
            && removals
                .iter()
                .all(|removal| removal.item.path != item.path)
    };
    let with_why = |item: &Item| {
        let recent = || format!("used within {}", write_duration(DAMAGED_FOR));
        (item.clone(), item.needed_by.clone().unwrap_or_else(recent))
    };
    items.iter().filter(stays).map(with_why).collect()
}

/// What was put aside and stays, with what stays of its build output, and for how long: what goes soonest first.
#[must_use]
pub fn aside_that_stays(
    items: &[Item],
    removals: &[Removal],
    keep: &KeepConfig,
) -> Vec<(Item, Duration)> {
    let gone: HashSet<&Path> = removals.iter().map(|r| r.item.path.as_path()).collect();
    let staying = items.iter().filter(|item| !gone.contains(&*item.path));
    // With what lies in each: what of that goes is not of it.
    let mut bytes: HashMap<&Path, u64> = HashMap::new();
    for item in staying.clone() {
        for dir in item.path.ancestors() {
            *bytes.entry(dir).or_default() += item.bytes;
        }
    }
    let whole = |item: &Item| Item {
        bytes: bytes.get(&*item.path).copied().unwrap_or(0),
        ..item.clone()
    };
    let mut found: Vec<_> = staying
        .filter(|item| item.kind == Kind::Aside)
        .map(|item| (whole(item), keep.aside.saturating_sub(item.idle)))
        .collect();
    found.sort_by(|(a, left), (b, later)| (left, &a.path).cmp(&(later, &b.path)));
    found
}

fn by_age(item: Item, keep: &KeepConfig) -> Removal {
    let keeps = item.kind.keeps(keep);
    Removal {
        item,
        why: Why::Idle { keeps },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;
    const DAY: Duration = Duration::from_secs(24 * 3600);

    /// By the default rules, on a disk with room.
    fn by_default(items: Vec<Item>) -> Vec<Removal> {
        plan(items, &KeepConfig::default(), 0)
    }

    fn item(name: &str, kind: Kind, bytes: u64, idle_days: u32) -> Item {
        Item {
            path: name.into(),
            kind,
            bytes,
            idle: idle_days * DAY,
            needed_by: None,
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
            assert_eq!(
                by_default(vec![item("x", kind, 1, days - 1)]),
                [],
                "{kind:?}"
            );
            let old = by_default(vec![item("x", kind, 1, days)]);
            assert_eq!(names(&old), ["x"], "{kind:?}");
            assert_eq!(old[0].why.to_string(), format!("not used for {days}d"));
        }
    }

    #[test]
    fn what_an_attempt_needs_stays_whatever_its_age_and_size() {
        let mut needed = item("needed", Kind::Repository, 30 * GIB, 400);
        needed.needed_by = Some("task_001.1".to_owned());
        assert_eq!(by_default(vec![needed]), []);
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
        let removals = by_default(items.clone());
        assert_eq!(names(&removals), ["build", "spare", "older bundle"]);
        assert!(
            removals
                .iter()
                .all(|removal| removal.why.to_string() == "more than 20GiB are kept")
        );
        let fits = items.into_iter().take(2).collect();
        assert_eq!(by_default(fits), []);
    }

    #[test]
    fn a_damaged_repository_goes_soon_unless_an_attempt_borrows_from_it() {
        let mut lent = item("lent", Kind::Damaged, GIB, 9);
        lent.needed_by = Some("task_001.1 borrows from it".to_owned());
        let items = vec![
            lent,
            item("old", Kind::Damaged, GIB, 1),
            item("new", Kind::Damaged, GIB, 0),
        ];
        let removals = by_default(items.clone());
        assert_eq!(names(&removals), ["old"]);
        let stay = damaged_that_stay(&items, &removals);
        let whys: Vec<_> = stay.iter().map(|(_, why)| why.as_str()).collect();
        assert_eq!(whys, ["task_001.1 borrows from it", "used within 1h"]);
    }

    #[test]
    fn files_that_are_nowhere_else_never_go_for_the_quota() {
        let items = vec![
            item("aside", Kind::Aside, 50 * GIB, 13),
            item("bundle", Kind::Bundle, GIB, 0),
        ];
        assert_eq!(names(&by_default(items)), ["bundle"]);
    }

    #[test]
    fn what_was_put_aside_and_stays_is_told_with_its_size_and_the_time_that_is_left() {
        let items = vec![
            item("a/task_001.1", Kind::Aside, 1, 2),
            item("a/task_001.1/workspace/target", Kind::BuildOutput, 8, 0),
            item("a/task_001.10", Kind::Aside, 4, 13),
            item("a/task_001.10/workspace/target", Kind::BuildOutput, 8, 2),
            item("a/task_002.1", Kind::Aside, 1, 15),
            item("b", Kind::Bundle, 1, 0),
        ];
        let keep = KeepConfig::default();
        let removals = plan(items.clone(), &keep, 0);
        let aside = aside_that_stays(&items, &removals, &keep);
        let told = aside
            .iter()
            .map(|(item, left)| (item.path.to_str().unwrap(), item.bytes, *left));
        let expected = [("a/task_001.10", 4, DAY), ("a/task_001.1", 9, 12 * DAY)];
        assert_eq!(told.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn quota_and_ages_are_those_of_the_configuration() {
        let keep = KeepConfig {
            quota: 5 << 20,
            aside: Duration::from_secs(90 * 60),
            ..KeepConfig::default()
        };
        let mut aside = item("aside", Kind::Aside, 1, 0);
        aside.idle = keep.aside;
        let items = vec![aside, item("bundle", Kind::Bundle, 6 << 20, 0)];
        let removals = plan(items, &keep, 0);
        let whys: Vec<_> = removals.iter().map(|r| r.why.to_string()).collect();
        assert_eq!(names(&removals), ["aside", "bundle"]);
        assert_eq!(whys, ["not used for 1h30m", "more than 5MiB are kept"]);
        let none = KeepConfig { quota: 0, ..keep };
        let removals = plan(vec![item("bundle", Kind::Bundle, 1, 0)], &none, 0);
        assert_eq!(removals[0].why.to_string(), "more than 0 bytes are kept");
    }

    #[test]
    fn on_a_full_disk_what_can_be_had_again_goes_until_there_is_room() {
        let mut needed = item("needed", Kind::Bundle, GIB, 5);
        needed.needed_by = Some("task_001.1".to_owned());
        let items = vec![
            item("repository", Kind::Repository, GIB, 1),
            item("bundle", Kind::Bundle, GIB, 1),
            item("old", Kind::Bundle, GIB, 7),
            item("aside", Kind::Aside, GIB, 1),
            needed,
        ];
        let removals = |wanted| plan(items.clone(), &KeepConfig::default(), wanted);
        assert_eq!(names(&removals(GIB)), ["old"]);
        assert_eq!(names(&removals(GIB + 1)), ["old", "bundle"]);
        let all = removals(100 * GIB);
        assert_eq!(names(&all), ["old", "bundle", "repository"]);
        assert_eq!(all[2].why.to_string(), "the disk is full");
    }
}
