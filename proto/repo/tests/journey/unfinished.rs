//! What an agent leaves in the middle of a merge, a rebase or a cherry-pick.

use std::process::Command;

use crate::common::{Task, World, git};

/// The plain git of an agent, which may fail.
fn agent(task: &Task, args: &[&str]) -> bool {
    let name = ["-c", "user.name=A", "-c", "user.email=a@example.org"];
    let mut git = Command::new("git");
    git.current_dir(task.dir())
        .env("GIT_CONFIG_GLOBAL", "/dev/null");
    git.args(name).args(args).output().unwrap().status.success()
}

/// A task whose agent has two commits that conflict in `f`: one on its own branch, one on `other`.
fn conflicting(user: &World) -> Task {
    let task = user.start();
    git(task.dir(), &["checkout", "-q", "-b", "other"]);
    task.write("f", "theirs\n");
    task.write("clean", "x\n");
    git(task.dir(), &["add", "-A"]);
    git(task.dir(), &["commit", "-q", "-m", "theirs"]);
    git(task.dir(), &["checkout", "-q", "-"]);
    task.write("f", "ours\n");
    git(task.dir(), &["commit", "-q", "-a", "-m", "ours"]);
    task
}

/// The first warning of what such an agent leaves.
fn first_warning(task: &Task) -> String {
    let warnings = task.collect().manifest.warnings;
    warnings.into_iter().next().unwrap_or_default()
}

#[test]
fn what_was_not_finished_is_said_first_with_the_files_that_have_its_marks() {
    let cases = [
        ("merge", "a merge"),
        ("rebase", "a rebase"),
        ("cherry-pick", "a cherry-pick"),
    ];
    for (command, what) in cases {
        let user = World::with(&[("f", "1\n")]);
        let task = conflicting(&user);
        assert!(!agent(&task, &[command, "other"]));
        let said = first_warning(&task);
        let begin = format!("the agent ended in the middle of {what}, and");
        assert!(said.starts_with(&begin), "{said}");
        assert!(
            said.contains("marks of its conflicts in `f`: settle"),
            "{said}"
        );
        // Settled, and still not gone on with.
        task.write("f", "both\n");
        git(task.dir(), &["add", "f"]);
        let said = first_warning(&task);
        let begin = format!("the agent ended in the middle of {what}: the result");
        assert!(said.starts_with(&begin), "{said}");
    }
}

#[test]
fn one_that_finishes_what_it_began_hears_nothing_of_it() {
    let user = World::with(&[("f", "1\n")]);
    let task = conflicting(&user);
    assert!(!agent(&task, &["merge", "other"]));
    task.write("f", "both\n");
    assert!(agent(&task, &["commit", "-q", "-a", "-m", "merged"]));
    assert_eq!(first_warning(&task), "");
}

#[test]
fn marks_that_are_left_or_committed_are_named() {
    let user = World::with(&[("f", "1\n"), ("g", "1\n")]);
    let task = conflicting(&user);
    assert!(!agent(&task, &["merge", "other"]));
    assert!(agent(&task, &["commit", "-q", "-a", "-m", "merged"]));
    // A heading in plain text is no mark, nor is half a pair.
    task.write("g", "Title\n=======\n<<<<<<< text\n");
    let said = first_warning(&task);
    assert!(said.contains("marks of a conflict in `f`: look"), "{said}");
}
