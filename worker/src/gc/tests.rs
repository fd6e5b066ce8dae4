use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use orchestra_config::KeepConfig;
use orchestra_repo::Cache;

use super::{Kind, Places, Removal, Swept, collect, listed};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A worker's directory with one project that an attempt works on.
struct World {
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        fs::create_dir_all(world.places().bundles).unwrap();
        Cache::open(&world.repository(), &"a".repeat(40)).unwrap();
        world.age(&world.repository().join("orchestra-ready"), 40);
        world
    }

    fn places(&self) -> Places {
        Places::below(self.dir.path(), None)
    }

    fn repository(&self) -> PathBuf {
        self.places().repositories.join("git-1")
    }

    /// A file that was last used so many days ago.
    fn file(&self, path: PathBuf, days: u32) -> PathBuf {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "x").unwrap();
        self.age(&path, days);
        path
    }

    fn age(&self, path: &Path, days: u32) {
        let at = SystemTime::now() - days * DAY;
        File::open(path).unwrap().set_modified(at).unwrap();
    }

    /// As a worker leaves it that has run for so many days.
    fn clock_goes_evenly_for(&self, days: u32) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let (now, day) = (now.unwrap().as_secs(), DAY.as_secs());
        let known = format!("{now} {}\n", now - u64::from(days) * day);
        fs::write(self.places().clock, known).unwrap();
    }

    /// An attempt's directory, in `attempts` or `aside`, that borrows from the project.
    fn borrow(&self, dir: &Path) {
        let info = dir.join("git/objects/info");
        fs::create_dir_all(&info).unwrap();
        let text = format!("\"{}\"\n", self.repository().join("objects").display());
        fs::write(info.join("alternates"), text).unwrap();
    }
}

/// By the default rules, on a disk with room.
fn look(places: &Places) -> Vec<Removal> {
    super::look(places, &KeepConfig::default(), 0)
}

/// Whether it is gone.
fn sweep(removal: &Removal) -> bool {
    super::sweep(removal) == Swept::Gone
}

fn kinds(removals: &[Removal]) -> Vec<Kind> {
    removals.iter().map(|removal| removal.item.kind).collect()
}

#[test]
fn what_nobody_used_for_long_goes_and_what_an_attempt_borrows_from_stays() {
    let world = World::new();
    let old = world.file(world.places().bundles.join("old"), 8);
    let new = world.file(world.places().bundles.join("new"), 6);
    let attempt = world.places().attempts.join("task_001.1");
    world.borrow(&attempt);
    let removals = look(&world.places());
    assert_eq!(kinds(&removals), [Kind::Bundle]);
    assert!(old.exists(), "to look removes nothing");
    assert!(removals.iter().all(sweep));
    assert!(!old.exists() && new.exists() && world.repository().exists());
    fs::remove_dir_all(attempt).unwrap();
    let removals = look(&world.places());
    assert_eq!(kinds(&removals), [Kind::Repository]);
    assert!(removals.iter().all(sweep));
    assert!(!world.repository().exists());
}

#[test]
fn a_damaged_repository_stays_as_long_as_an_attempt_borrows_from_it_and_its_successor_with_it() {
    let world = World::new();
    let attempt = world.places().attempts.join("task_001.1");
    world.borrow(&attempt);
    let next = world.places().repositories.join("git-1.gen2");
    let commit = "a".repeat(40);
    fs::create_dir(&next).unwrap();
    let used = Cache::open(&world.repository(), &commit).unwrap();
    assert_eq!(used.path(), next, "the newest one is used");
    world.age(&next.join("orchestra-ready"), 40);
    let keep = KeepConfig::default();
    let would = collect(&world.places(), &keep, true);
    assert!(would.removals.is_empty());
    let [kept] = would.kept.as_slice() else {
        panic!("{would:?}");
    };
    assert_eq!(kept.path, world.repository().to_string_lossy());
    assert_eq!(
        (&*kept.kind, &*kept.why),
        ("damaged", "task_001.1 borrows from it")
    );
    fs::remove_dir_all(attempt).unwrap();
    let did = collect(&world.places(), &keep, false);
    assert_eq!(did.removals[0].kind, "damaged");
    assert!(did.kept.is_empty() && !world.repository().exists() && next.exists());
    let used = Cache::open(&world.repository(), &commit).unwrap();
    assert_eq!(used.path(), next, "whatever became of the first one");
}

#[test]
fn a_dry_run_says_what_would_go_and_removes_nothing() {
    let world = World::new();
    let bundle = world.file(world.places().bundles.join("old"), 8);
    let would = collect(&world.places(), &KeepConfig::default(), true);
    let kinds: Vec<_> = would.removals.iter().map(|r| r.kind.as_str()).collect();
    assert_eq!(kinds, ["bundle", "repository"]);
    assert_eq!(would.removals[0].path, bundle.to_string_lossy());
    assert!(bundle.exists() && would.bytes > 0 && would.unlisted == 0);
    let did = collect(&world.places(), &KeepConfig::default(), false);
    assert_eq!((did.bytes, &did.removals), (would.bytes, &would.removals));
    assert!(!bundle.exists() && !world.repository().exists());
}

#[test]
fn what_came_into_use_since_it_was_looked_at_stays() {
    let world = World::new();
    let bundle = world.file(world.places().bundles.join("old"), 8);
    let removals = look(&world.places());
    assert_eq!(kinds(&removals), [Kind::Bundle, Kind::Repository]);
    Cache::open(&world.repository(), &"a".repeat(40)).unwrap();
    world.age(&bundle, 0);
    assert!(!removals.iter().any(sweep));
    assert!(bundle.exists() && world.repository().join("objects").exists());
}

#[test]
fn of_what_was_put_aside_the_build_output_goes_first() {
    let world = World::new();
    let aside = world.places().aside.join("task_001.1");
    world.borrow(&aside);
    let kept = world.file(aside.join("workspace/kept.txt"), 2);
    let tag = world.file(aside.join("workspace/target/CACHEDIR.TAG"), 2);
    let module = world.file(aside.join("workspace/a/node_modules/x.js"), 2);
    for dir in [&tag, &module].map(|file| file.parent().unwrap()) {
        world.age(dir, 2);
    }
    let removals = look(&world.places());
    assert_eq!(kinds(&removals), [Kind::BuildOutput; 2]);
    assert!(removals.iter().all(sweep));
    assert!(kept.exists() && !tag.exists() && !module.exists());
    world.age(&aside, 14);
    let removals = look(&world.places());
    assert_eq!(kinds(&removals), [Kind::Aside]);
    assert!(removals.iter().all(sweep));
    assert!(!aside.exists());
}

#[test]
fn what_was_put_aside_stays_where_the_clock_has_jumped() {
    let world = World::new();
    let aside = world.places().aside.join("task_001.1");
    world.file(aside.join("workspace/only.txt"), 20);
    world.age(&aside, 20);
    let collect = || {
        let mut gone = collect(&world.places(), &KeepConfig::default(), false).removals;
        gone.retain(|removal| removal.kind == "aside");
        gone
    };
    // As on the first start, or after weeks without a look.
    assert_eq!(collect(), []);
    let seconds = |days: u32| {
        let at = SystemTime::now() - days * DAY;
        let since_epoch = at.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        since_epoch.as_secs()
    };
    let known = format!("{} {}\n", seconds(15), seconds(40));
    fs::write(world.places().clock, known).unwrap();
    assert_eq!(collect(), []);
    assert!(aside.exists());
    fs::write(
        world.places().clock,
        format!("{} {}\n", seconds(0), seconds(15)),
    )
    .unwrap();
    let gone = collect();
    assert_eq!(gone.len(), 1, "{gone:?}");
    assert!(!aside.exists());
}

#[test]
fn what_could_not_be_removed_is_named_with_the_reason() {
    let world = World::new();
    let bundle = world.file(world.places().bundles.join("old"), 8);
    // A directory is expected there, and so nothing else is taken away.
    let stray = world.file(world.places().aside.join("task_001.1"), 20);
    world.clock_goes_evenly_for(20);
    let would = collect(&world.places(), &KeepConfig::default(), true);
    assert_eq!((would.removals.len(), would.failed.len()), (3, 0));
    let did = collect(&world.places(), &KeepConfig::default(), false);
    let [failed] = did.failed.as_slice() else {
        panic!("{did:?}");
    };
    let named = (&*failed.kind, failed.path.as_str());
    assert_eq!(named, ("aside", stray.to_str().unwrap()));
    assert!(failed.why.starts_with("Not a directory"), "{failed:?}");
    assert!(stray.exists() && !bundle.exists());
    assert_eq!((did.removals.len(), did.aside.len()), (2, 0));
    assert_eq!(did.bytes, would.bytes - failed.bytes);
}

#[test]
fn what_is_beyond_a_list_is_counted() {
    assert_eq!(listed(vec![1, 2]), (vec![1, 2], 0));
    let (some, more) = listed(vec![(); 1234]);
    assert_eq!((some.len(), more), (1000, 234));
    let world = World::new();
    for task in 0..1003 {
        let aside = world.places().aside.join(format!("task_{task}.1"));
        fs::create_dir_all(aside).unwrap();
    }
    let told = collect(&world.places(), &KeepConfig::default(), true);
    assert_eq!((told.aside.len(), told.unlisted_aside), (1000, 3));
}
