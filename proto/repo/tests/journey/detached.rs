//! Commits that an agent made on a detached HEAD and left.

use std::{fs, os::unix::fs::symlink, path::Path};

use crate::{
    common::{BRANCH, Task, git, rows},
    others::{import, names, show, warning, world},
};

/// Commits one file where HEAD is.
fn commit(task: &Task, file: &str) -> String {
    task.write(file, "work\n");
    git(task.dir(), &["add", "-f", file]);
    git(task.dir(), &["commit", "-q", "-m", "left"]);
    git(task.dir(), &["rev-parse", "HEAD"])
}

fn checkout(task: &Task, to: &[&str]) {
    git(task.dir(), &[&["checkout", "-q"], to].concat());
}

/// Commits one file on a detached HEAD and goes back to the branch.
fn leave(task: &Task, file: &str) -> String {
    checkout(task, &["--detach"]);
    let made = commit(task, file);
    checkout(task, &[BRANCH]);
    made
}

#[test]
fn what_only_a_detached_head_had_is_kept_and_named() {
    let user = world();
    let task = user.start();
    let left = leave(&task, "work.txt");
    let branch = format!("{BRANCH}-1-detached");
    for change in [0, 1] {
        let collected = task.collect();
        assert_eq!(rows(&collected).len(), change);
        assert_eq!(
            warning(&collected),
            format!(
                "commits on the detached HEAD `{}` that the agent left are not in the result; they are the branch \
                 `{branch}`",
                &left[..12]
            )
        );
        assert_eq!(names(&collected), [branch.as_str()]);
        import(&user, &collected);
        assert_eq!(show(&user, &format!("{branch}:work.txt")), "work");
        task.write("kept.txt", "kept\n");
    }
}

#[test]
fn each_that_was_left_is_one_and_what_went_on_from_there_is_in_it() {
    let user = world();
    let task = user.start();
    let first = leave(&task, "one.txt");
    leave(&task, "other.txt");
    checkout(&task, &[&first]);
    commit(&task, "two.txt");
    checkout(&task, &[BRANCH]);
    let collected = task.collect();
    let both = [
        format!("{BRANCH}-1-detached"),
        format!("{BRANCH}-1-detached-2"),
    ];
    assert_eq!(names(&collected), both);
    import(&user, &collected);
    for file in ["one.txt", "two.txt"] {
        assert_eq!(show(&user, &format!("{}:{file}", both[0])), "work");
    }
    assert_eq!(show(&user, &format!("{}:other.txt", both[1])), "work");
}

#[test]
fn what_is_elsewhere_or_was_replaced_or_only_looked_at_is_none() {
    type Act = fn(&Task);
    let acts: [(&str, usize, Act); 8] = [
        ("merged", 0, |task| {
            let left = leave(task, "work.txt");
            git(task.dir(), &["merge", "-q", &left]);
        }),
        ("on a branch", 1, |task| {
            let left = leave(task, "work.txt");
            git(task.dir(), &["branch", "side", &left]);
        }),
        ("below a tag", 1, |task| {
            let left = leave(task, "work.txt");
            git(task.dir(), &["tag", "-a", "-m", "t", "side", &left]);
        }),
        ("below a stash", 1, |task| {
            checkout(task, &["--detach"]);
            commit(task, "work.txt");
            task.write("a.txt", "stashed\n");
            git(task.dir(), &["stash", "-q"]);
            checkout(task, &[BRANCH]);
        }),
        ("replaced", 0, |task| {
            commit(task, "work.txt");
            git(task.dir(), &["commit", "-q", "--amend", "-m", "again"]);
            git(task.dir(), &["rebase", "-q", "--force-rebase", "HEAD~1"]);
            commit(task, "more.txt");
            git(task.dir(), &["reset", "-q", "--hard", "HEAD~1"]);
        }),
        ("a branch that was left and deleted", 0, |task| {
            checkout(task, &["-b", "side"]);
            commit(task, "work.txt");
            checkout(task, &[BRANCH]);
            git(task.dir(), &["branch", "-D", "side"]);
        }),
        ("looked at", 0, |task| {
            let tree = git(task.dir(), &["rev-parse", "HEAD^{tree}"]);
            let given = ["commit-tree", &tree, "-p", "HEAD", "-m", "theirs"];
            let theirs = git(task.dir(), &given);
            checkout(task, &["--detach", &theirs]);
            checkout(task, &[BRANCH]);
        }),
        ("looked back at", 0, |task| {
            commit(task, "one.txt");
            commit(task, "two.txt");
            checkout(task, &["HEAD~1"]);
            checkout(task, &["HEAD~1"]);
            checkout(task, &[BRANCH]);
        }),
    ];
    for (name, beside, act) in acts {
        let user = world();
        let task = user.start();
        act(&task);
        let collected = task.collect();
        let found = names(&collected);
        assert_eq!(found.len(), beside, "{name}: {found:?}");
        let warnings = &collected.manifest.warnings;
        assert!(
            !warnings.iter().any(|w| w.contains("detached")),
            "{name}: {warnings:#?}"
        );
    }
}

#[test]
fn a_log_of_head_that_is_a_mess_costs_no_result() {
    type Spoil = fn(&Path);
    let spoils: [(&str, bool, Spoil); 5] = [
        ("a link", true, |log| {
            fs::remove_file(log).unwrap();
            symlink("/etc/hostname", log).unwrap();
        }),
        ("a pipe", true, |log| {
            fs::remove_file(log).unwrap();
            let made = std::process::Command::new("mkfifo").arg(log).status();
            assert!(made.unwrap().success());
        }),
        ("logs elsewhere", true, |log| {
            let logs = log.parent().unwrap();
            fs::rename(logs, logs.with_extension("away")).unwrap();
            symlink(logs.with_extension("away"), logs).unwrap();
        }),
        ("commits that are not there", false, |log| {
            let all: String = (1..900)
                .map(|n| left_in_log(&format!("{n:040x}")))
                .collect();
            fs::write(log, all).unwrap();
        }),
        ("options and bytes", false, |log| {
            let text = left_in_log("--all").into_bytes();
            fs::write(log, [&text[..], b"\xff\0\t\n", b"no end"].concat()).unwrap();
        }),
    ];
    for (name, is_told, spoil) in spoils {
        let user = world();
        let task = user.start();
        task.write("b.txt", "two\n");
        leave(&task, "work.txt");
        spoil(&task.dir().join(".git/logs/HEAD"));
        let collected = task.collect();
        assert_eq!(rows(&collected).len(), 1, "{name}");
        let warnings = &collected.manifest.warnings;
        let is_said = warnings
            .iter()
            .any(|w| w.contains("detached HEADs that the agent left are not all looked for"));
        assert_eq!(is_said, is_told, "{name}: {warnings:#?}");
        crate::common::apply(&user.checkout(), &task.change(&collected)).unwrap();
    }
}

#[test]
fn of_very_many_some_are_kept_and_a_foreign_history_is_none() {
    let user = world();
    let task = user.start();
    let log = task.dir().join(".git/logs/HEAD");
    let mut text = fs::read_to_string(&log).unwrap();
    let tree = git(task.dir(), &["rev-parse", "HEAD^{tree}"]);
    let orphan = git(task.dir(), &["commit-tree", &tree, "-m", "orphan"]);
    for number in 0..20 {
        let message = format!("commit {number}");
        let made = ["commit-tree", &tree, "-p", "HEAD", "-m", &message];
        text += &left_in_log(&git(task.dir(), &made));
    }
    fs::write(&log, text + &left_in_log(&orphan)).unwrap();
    let collected = task.collect();
    assert_eq!(names(&collected).len(), 16);
    let warnings = collected.manifest.warnings;
    let one = format!("`{}` that the agent left", &orphan[..12]);
    assert!(
        warnings
            .iter()
            .any(|w| w.contains(&one) && w.contains("not kept")),
        "{warnings:#?}"
    );
    assert!(warnings.iter().any(|w| w.contains("more branches beside")));
}

#[test]
fn a_secret_never_leaves_by_a_detached_head() {
    let user = world();
    let task = user.start();
    leave(&task, "local/.env");
    let collected = task.collect();
    assert_eq!(collected.bundle, None);
    assert!(warning(&collected).contains("for the agent alone"));
}

/// Two lines: made, and left.
fn left_in_log(commit: &str) -> String {
    let none = "0".repeat(40);
    let who = "A <a@a> 1 +0000";
    let moved = format!("checkout: moving from {commit} to main");
    format!("{none} {commit} {who}\tcommit: x\n{commit} {none} {who}\t{moved}\n")
}
