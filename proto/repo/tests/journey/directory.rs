//! Directories that are in no repository: to an agent, and the change back.

use std::{
    fs::{self, File},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use orchestra_repo::{ApplyError, Checkout, Error};

use crate::common::{Task, World, apply, write};

struct Plain {
    world: World,
}

impl Plain {
    fn new() -> Self {
        let plain = Self {
            world: World {
                tmp: tempfile::tempdir().unwrap(),
            },
        };
        fs::create_dir(plain.dir()).unwrap();
        plain.write("a.txt", "one\ntwo\nthree\n");
        plain
    }

    fn dir(&self) -> PathBuf {
        self.world.tmp.path().join("plain")
    }

    fn keep(&self) -> PathBuf {
        self.world.tmp.path().join("keep.git")
    }

    fn write(&self, name: &str, text: &str) {
        write(&self.dir(), name, text);
    }

    fn take(&self) -> Checkout {
        self.take_with_warnings().0
    }

    fn take_with_warnings(&self) -> (Checkout, Vec<String>) {
        Checkout::of_directory(&self.dir(), &self.keep(), &["context"]).unwrap()
    }

    fn again(&self) -> Checkout {
        let kept = Checkout::of_kept_directory(&self.dir(), &self.keep()).unwrap();
        kept.expect("it was taken before").0
    }

    fn start(&self) -> Task {
        self.world.start_from(&self.take().snapshot().unwrap())
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir().join(name)).unwrap()
    }
}

#[test]
fn an_agent_gets_what_is_not_ignored_and_its_change_comes_back() {
    let plain = Plain::new();
    plain.write(".gitignore", "*.log\n");
    for ignored in ["x.log", ".env", "sub/node_modules/m.js", "context/c.md"] {
        plain.write(ignored, "ignored\n");
    }
    plain.write("sub/run.sh", "#!/bin/sh\n");
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(plain.dir().join("sub/run.sh"), executable).unwrap();
    symlink("a.txt", plain.dir().join("link")).unwrap();

    let task = plain.start();
    let there = |name: &str| task.dir().join(name).symlink_metadata();
    for name in ["x.log", ".env", "sub/node_modules", "context/c.md"] {
        assert!(there(name).is_err(), "{name} is in the copy");
    }
    assert_eq!(
        there("sub/run.sh").unwrap().permissions().mode() & 0o111,
        0o111
    );
    assert!(there("link").unwrap().is_symlink());

    task.write("a.txt", "one\ntwo\nthree\nfour\n");
    task.write("new/b.txt", "new\n");
    let collected = task.collect();
    assert!(!plain.dir().join(".git").exists());
    let checkout = plain.again();
    assert!(!checkout.has_own_repository());
    assert_eq!(apply(&checkout, &task.change(&collected)).unwrap().files, 2);
    assert_eq!(plain.read("a.txt"), "one\ntwo\nthree\nfour\n");
    assert_eq!(plain.read("new/b.txt"), "new\n");
    assert_eq!(
        apply(&plain.again(), &task.change(&collected))
            .unwrap()
            .files,
        0,
        "it is there already"
    );
}

#[test]
fn what_is_ignored_there_is_ignored_at_the_agent_too() {
    let plain = Plain::new();
    plain.write(".env", "KEY=mine\n");
    let task = plain.start();
    for ignored in [".env", "sub/__pycache__/m.pyc", "node_modules/m.js"] {
        task.write(ignored, "the agent's\n");
    }
    task.write("b.txt", "new\n");
    let collected = task.collect();
    assert_eq!(collected.manifest.entries.len(), 1);
    apply(&plain.again(), &task.change(&collected)).unwrap();
    assert_eq!(plain.read("b.txt"), "new\n");
    assert_eq!(plain.read(".env"), "KEY=mine\n");
}

#[test]
fn nobody_is_told_to_commit_where_there_is_no_repository() {
    let plain = Plain::new();
    let task = plain.start();
    task.write("b.txt", "new\n");
    let collected = task.collect();
    plain.write("b.txt", "PRECIOUS\n");
    let refused = apply(&plain.again(), &task.change(&collected)).unwrap_err();
    let said = refused.to_string();
    assert!(said.contains("b.txt") && !said.contains("commit"), "{said}");
    assert_eq!(plain.read("b.txt"), "PRECIOUS\n");
}

#[test]
fn edits_since_are_merged_or_named_and_nothing_is_touched() {
    let plain = Plain::new();
    let task = plain.start();
    task.write("a.txt", "ONE\ntwo\nthree\n");
    let collected = task.collect();

    plain.write("a.txt", "uno\ntwo\nthree\n");
    let error = apply(&plain.again(), &task.change(&collected)).unwrap_err();
    assert!(
        matches!(&error, ApplyError::Conflict { paths, branch: None, .. } if paths == &["a.txt"]),
        "{error:?}"
    );
    let said = "the change conflicts with what the directory has now in `a.txt`";
    assert_eq!(error.to_string(), said);
    assert_eq!(plain.read("a.txt"), "uno\ntwo\nthree\n");

    plain.write("a.txt", "one\ntwo\nthree\nvier\n");
    apply(&plain.again(), &task.change(&collected)).unwrap();
    assert_eq!(plain.read("a.txt"), "ONE\ntwo\nthree\nvier\n");
}

#[test]
fn what_was_taken_before_is_not_taken_or_sent_again() {
    let plain = Plain::new();
    let noise: String = (0..20_000_u64)
        .map(|n| format!("{:x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
        .collect();
    plain.write("large.txt", &noise);
    let first = plain.take();
    assert_eq!(plain.take().head(), first.head(), "nothing is new");
    plain.write("a.txt", "changed\n");
    let second = plain.take();
    assert_ne!(second.head(), first.head());

    let (whole, more) = (plain.dir().join("../whole"), plain.dir().join("../more"));
    let snapshot = second.snapshot().unwrap();
    assert!(!snapshot.dirty, "all of it is in HEAD");
    snapshot.bundle(&[], &whole).unwrap();
    let have = vec![first.head().unwrap().to_owned()];
    snapshot.bundle(&have, &more).unwrap();
    let size = |path: &Path| path.metadata().unwrap().len();
    assert!(size(&more) * 20 < size(&whole), "{}", size(&more));
}

#[test]
fn a_directory_that_is_too_large_is_refused_whatever_is_ignored() {
    let plain = Plain::new();
    let sparse = |name: &str| {
        let file = File::create(plain.dir().join(name)).unwrap();
        file.set_len(2 << 30).unwrap();
    };
    plain.write(".gitignore", "*.iso\n");
    sparse("disk.iso");
    plain.take();
    sparse("disk.img");
    let refused = Checkout::of_directory(&plain.dir(), &plain.keep(), &[]).unwrap_err();
    assert!(matches!(refused, Error::LargeDirectory { .. }), "{refused}");
}

#[test]
fn a_git_that_was_killed_and_a_repository_below_are_no_trouble() {
    let plain = Plain::new();
    plain.take();
    for lock in ["index.lock", "refs/heads/directory.lock"] {
        fs::write(plain.keep().join(lock), "").unwrap();
    }
    crate::common::git(&plain.dir(), &["init", "-q", "inner"]);
    plain.write("inner/x.txt", "x\n");
    plain.write("b.txt", "b\n");
    let (_, warnings) = plain.take_with_warnings();
    assert!(
        warnings.iter().any(|warning| warning.contains("`inner`")),
        "{warnings:?}"
    );
    let task = plain.start();
    assert!(task.dir().join("b.txt").exists() && !task.dir().join("inner").exists());
}

#[test]
fn a_directory_that_nobody_took_is_none() {
    let plain = Plain::new();
    let kept = Checkout::of_kept_directory(&plain.dir(), &plain.keep()).unwrap();
    assert!(kept.is_none());
}
