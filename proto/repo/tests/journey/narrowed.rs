//! An agent that narrows its own checkout deletes nothing with that.

use std::fs;

use crate::common::{World, apply, git, rows};

fn world() -> World {
    World::with(&[
        ("svc/s", "s\n"),
        ("lib/l", "l\n"),
        ("lib/m", "m\n"),
        ("top", "t\n"),
    ])
}

#[test]
fn what_a_sparse_checkout_of_the_agents_leaves_out_stays() {
    for (how, commits) in [
        (&["sparse-checkout", "set", "svc"][..], true),
        (&["sparse-checkout", "set", "--sparse-index", "svc"], true),
        (
            &["sparse-checkout", "set", "--no-cone", "/svc/", "/top"],
            false,
        ),
    ] {
        let user = world();
        let task = user.start();
        git(task.dir(), how);
        assert!(!task.dir().join("lib").exists());
        task.write("svc/s", "fix\n");
        if commits {
            git(task.dir(), &["commit", "-qam", "fix"]);
        }
        let collected = task.collect();
        assert_eq!(
            rows(&collected),
            [("svc/s".to_owned(), "modified", Some(1), Some(1))],
            "{how:?}"
        );
        apply(&user.checkout(), &task.change(&collected)).unwrap();
        let kept = fs::read_to_string(user.user().join("lib/l")).unwrap();
        assert_eq!(kept, "l\n", "{how:?}");
    }
}

#[test]
fn what_it_deleted_before_or_beside_that_is_deleted() {
    let user = world();
    let task = user.start();
    git(task.dir(), &["rm", "-q", "lib/l"]);
    git(task.dir(), &["commit", "-qm", "without l"]);
    git(task.dir(), &["sparse-checkout", "set", "svc"]);
    fs::remove_file(task.dir().join("top")).unwrap();
    let deleted = |path: &str| (path.to_owned(), "deleted", Some(0), Some(1));
    assert_eq!(rows(&task.collect()), [deleted("lib/l"), deleted("top")]);
}

#[test]
fn what_it_put_in_the_place_of_such_a_file_stays() {
    let user = world();
    let task = user.start();
    git(
        task.dir(),
        &["sparse-checkout", "set", "--no-cone", "/svc/"],
    );
    task.write("lib", "a file now\n");
    task.write("top/inside", "a directory now\n");
    let mut paths: Vec<String> = rows(&task.collect()).into_iter().map(|row| row.0).collect();
    paths.sort();
    assert_eq!(paths, ["lib", "lib/l", "lib/m", "top", "top/inside"]);
}

#[test]
fn what_its_git_was_told_to_overlook_and_is_gone_is_deleted() {
    let user = world();
    let task = user.start();
    git(task.dir(), &["update-index", "--skip-worktree", "lib/l"]);
    fs::remove_file(task.dir().join("lib/l")).unwrap();
    let deleted = ("lib/l".to_owned(), "deleted", Some(0), Some(1));
    assert_eq!(rows(&task.collect()), [deleted]);
}

#[test]
fn an_index_that_cannot_be_read_hides_nothing() {
    let user = world();
    let task = user.start();
    git(task.dir(), &["sparse-checkout", "set", "svc"]);
    let deleted = || {
        let rows = rows(&task.collect()).into_iter();
        rows.map(|row| row.0).collect::<Vec<String>>()
    };
    // Names in it may be longer than the file.
    git(task.dir(), &["update-index", "--index-version", "4"]);
    assert_eq!(deleted(), ["lib/l", "lib/m"]);
    fs::write(task.dir().join(".git/index"), "no index").unwrap();
    assert_eq!(deleted(), ["lib/l", "lib/m"]);
}
