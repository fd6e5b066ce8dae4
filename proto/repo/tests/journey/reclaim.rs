//! Room taken back on a full disk: no result has less for it.

use std::fs;

use crate::common::{World, git, rows};

#[test]
fn what_is_ignored_goes_and_the_result_is_the_same() {
    let user = World::with(&[
        (".gitignore", "target/\n*.log\ndist/\n"),
        ("src/a.rs", "a\n"),
    ]);
    user.write("tracked.log", "tracked\n");
    git(&user.user(), &["add", "-f", "tracked.log"]);
    user.commit("a log");
    let task = user.start();
    for path in ["target/debug/big", "run.log", "src/more/b.log", "dist/left"] {
        task.write(path, "ignored\n");
    }
    task.write("dist/released", "released\n");
    git(task.dir(), &["add", "-f", "dist/released"]);
    git(task.dir(), &["commit", "-q", "-m", "a release"]);
    task.write("src/a.rs", "b\n");
    task.write("src/new.rs", "new\n");
    task.write("tracked.log", "changed\n");
    let before = task.collect();

    assert_eq!(task.workspace.reclaim().unwrap(), 4);

    let there = |path: &str| task.dir().join(path).exists();
    for path in ["target/debug/big", "run.log", "src/more/b.log", "dist/left"] {
        assert!(!there(path), "{path}");
    }
    let after = task.collect();
    assert_eq!(after.manifest, before.manifest);
    assert_eq!(after.commit, before.commit);
    let files: Vec<_> = rows(&after).into_iter().map(|row| row.0).collect();
    assert_eq!(
        files,
        ["dist/released", "src/a.rs", "src/new.rs", "tracked.log"]
    );
    assert_eq!(task.workspace.reclaim().unwrap(), 0);
}

#[test]
fn nothing_behind_a_link_goes() {
    let user = World::with(&[(".gitignore", "target\n"), ("a", "a\n")]);
    let task = user.start();
    let outside = user.tmp.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "the user's\n").unwrap();
    std::os::unix::fs::symlink(&outside, task.dir().join("target")).unwrap();
    assert_eq!(task.workspace.reclaim().unwrap(), 1, "the link");
    assert!(outside.join("file").exists());
}
