//! A worker's repository that the disk, or somebody, has damaged: found, and replaced.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::common::{BRANCH, World, git};
use orchestra_repo::{Cache, Error, Plan, Workspace};

struct Project {
    user: World,
    commit: String,
    bundle: PathBuf,
}

impl Project {
    fn new() -> Self {
        let user = World::with(&[("a.txt", "one\n"), ("d/b.txt", "two\n")]);
        let snapshot = user.checkout().snapshot().unwrap();
        let bundle = user.tmp.path().join("bundle");
        snapshot.bundle(&[], &bundle).unwrap();
        Self {
            commit: snapshot.commit,
            user,
            bundle,
        }
    }

    fn first(&self) -> PathBuf {
        self.user.tmp.path().join("caches/git-1")
    }

    fn open(&self) -> Cache {
        Cache::open(&self.first(), &self.commit).unwrap()
    }

    /// What a worker does for an attempt.
    fn prepare(&self, cache: &Cache, name: &str) -> Result<Workspace, Error> {
        if !cache.has(&self.commit)? {
            cache.fetch_bundles(std::slice::from_ref(&self.bundle), &self.commit)?;
        }
        let place = self.user.tmp.path().join(name);
        Workspace::create(&Plan {
            cache,
            commit: &self.commit,
            start: &self.commit,
            head: &self.commit,
            branch: BRANCH,
            others: &[],
            ignore_rules: "",
            dir: &place.join("agent"),
            git_dir: &place.join("own"),
        })
    }
}

fn packs(cache: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(cache.join("objects/pack")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.extension().unwrap() == "pack")
        .collect()
}

/// Writes over the file, whatever its mode.
fn rewrite(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Every file below.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let below = |path: PathBuf| match path.is_dir() {
        true => files(&path),
        false => vec![path],
    };
    entries.flat_map(below).collect()
}

#[test]
fn whatever_is_damaged_the_next_attempt_has_the_right_files() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 8] = [
        ("a flipped bit", |cache| {
            rewrite(&packs(cache)[0], |bytes| {
                // Behind the header of an object, whichever it is.
                for at in (16..bytes.len() - 20).step_by(7) {
                    bytes[at] ^= 4;
                }
            });
        }),
        ("a pack that lost its end", |cache| {
            rewrite(&packs(cache)[0], |bytes| bytes.truncate(bytes.len() / 2));
        }),
        ("a pack that is gone", |cache| {
            fs::remove_file(&packs(cache)[0]).unwrap();
        }),
        ("no objects at all", |cache| {
            fs::remove_dir_all(cache.join("objects/pack")).unwrap();
        }),
        ("refs that lost their text", |cache| {
            for file in files(&cache.join("refs")) {
                fs::write(file, "").unwrap();
            }
            fs::remove_dir_all(cache.join("objects/pack")).unwrap();
        }),
        ("no refs", |cache| {
            fs::remove_dir_all(cache.join("refs")).unwrap()
        }),
        ("a torn configuration", |cache| {
            fs::write(cache.join("config"), "[core\n").unwrap();
        }),
        ("a file in its place", |cache| {
            fs::remove_dir_all(cache).unwrap();
            fs::write(cache, "").unwrap();
        }),
    ];
    for (name, damage) in damages {
        let project = Project::new();
        project.prepare(&project.open(), "one").unwrap();
        damage(&project.first());
        let cache = project.open();
        let workspace = project.prepare(&cache, "two").or_else(|error| {
            assert!(error.may_be_damage(), "{name}: {error}");
            let damage = cache.replace_if_damaged(&project.commit).unwrap();
            assert!(damage.is_some(), "{name}: {error}");
            project.prepare(&project.open(), "three")
        });
        let workspace = workspace.unwrap_or_else(|error| panic!("{name}: {error}"));
        let dir = workspace.dir();
        assert_eq!(fs::read_to_string(dir.join("d/b.txt")).unwrap(), "two\n");
        assert_eq!(git(dir, &["status", "--porcelain"]), "", "{name}");
        assert_eq!(git(dir, &["log", "--format=%s"]), "first", "{name}");
    }
}

#[test]
fn a_sound_repository_stays_whatever_failed() {
    let project = Project::new();
    let cache = project.open();
    project.prepare(&cache, "one").unwrap();
    let other = "a".repeat(40);
    for commit in [&project.commit, &other] {
        assert_eq!(cache.replace_if_damaged(commit).unwrap(), None);
    }
    assert_eq!(project.open().path(), project.first());
}

#[test]
fn who_borrows_from_a_damaged_repository_keeps_it_and_another_that_failed_takes_the_new_one() {
    let project = Project::new();
    let (cache, also) = (project.open(), project.open());
    let running = project.prepare(&cache, "one").unwrap();
    fs::write(cache.path().join("packed-refs.lock"), "").unwrap();
    let damage = cache.replace_if_damaged(&project.commit).unwrap().unwrap();
    assert!(damage.contains("packed-refs.lock"), "{damage}");
    // The other one does not look again, nor replaces what is new.
    let damage = also.replace_if_damaged(&project.commit).unwrap().unwrap();
    assert_eq!(damage, "another task found it damaged");
    let next = project.open();
    assert_eq!(next.path(), project.first().with_file_name("git-1.gen2"));
    project.prepare(&next, "two").unwrap();
    assert_eq!(git(running.dir(), &["log", "--format=%s"]), "first");
    assert_eq!(git(running.dir(), &["status", "--porcelain"]), "");
}
