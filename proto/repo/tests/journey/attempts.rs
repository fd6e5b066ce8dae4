//! Attempts of one task that are applied one after the other.

use std::fs;

use crate::common::{Done, LINES, Task, World, apply, git, import_branch, lines};
use orchestra_repo::{Applied, ApplyError, Change};

pub type Put = Result<Applied, ApplyError>;

/// What the task has left by now; the next attempt starts from the same snapshot.
pub fn attempt(user: &World, task: &Task, number: u32) -> Done {
    let mut done = task.done();
    let keep = |from: &std::path::Path, kind: &str| {
        let to = user.tmp.path().join(format!("{number}.{kind}"));
        fs::copy(from, &to).unwrap();
        to
    };
    done.bundle = done.bundle.map(|bundle| keep(&bundle, "bundle"));
    done.patch = keep(&done.patch, "patch");
    done
}

/// As `ctl apply` does it: with its branch.
pub fn put(user: &World, done: &Done, attempts: &[String]) -> Put {
    let change = Change {
        attempts,
        ..done.change(&[])
    };
    let applied = apply(&user.checkout(), &change)?;
    import_branch(&user.checkout(), &done.change(&[]), attempts).unwrap();
    Ok(applied)
}

pub fn read(user: &World, name: &str) -> String {
    fs::read_to_string(user.user().join(name)).unwrap()
}

pub fn commits(dones: &[&Done]) -> Vec<String> {
    dones.iter().map(|done| done.commit.clone()).collect()
}

/// One that stops half way, and one that goes on from there and thinks better of some of it.
pub fn halves(user: &World) -> (Done, Done, Vec<String>) {
    let task = user.start();
    task.write("f", &lines(&[(2, "two"), (3, "half")]));
    task.write("new", "half\n");
    task.write("scratch", "notes\n");
    let first = attempt(user, &task, 1);
    task.write("f", &lines(&[(2, "two"), (3, "whole"), (4, "four")]));
    task.write("new", "half\nand half\n");
    fs::remove_file(task.dir().join("scratch")).unwrap();
    let second = attempt(user, &task, 2);
    let attempts = commits(&[&first, &second]);
    (first, second, attempts)
}

/// The files of the second one, with this line of the user's.
pub fn is_whole(user: &World, ninth: &str) {
    let whole = lines(&[(2, "two"), (3, "whole"), (4, "four"), (9, ninth)]);
    assert_eq!(read(user, "f"), whole);
    assert_eq!(read(user, "new"), "half\nand half\n");
    assert!(!user.user().join("scratch").exists());
}

#[test]
fn a_later_attempt_takes_the_place_of_the_one_that_was_applied() {
    let user = World::with(&[("f", LINES)]);
    let (first, second, attempts) = halves(&user);
    put(&user, &first, &attempts).unwrap();
    assert_eq!(read(&user, "scratch"), "notes\n");
    // Another task's change comes between.
    let beside = user.start_after(&user.checkout().snapshot().unwrap(), 2, &[]);
    beside.write("f", &lines(&[(2, "two"), (3, "half"), (9, "beside")]));
    put(&user, &beside.done(), &[]).unwrap();
    let applied = put(&user, &second, &attempts).unwrap();
    assert_eq!((applied.files, applied.already), (3, false));
    is_whole(&user, "beside");
    assert!(put(&user, &second, &attempts).unwrap().already);
}

#[test]
fn it_does_so_where_that_one_was_committed_and_edited_since() {
    let user = World::with(&[("f", LINES)]);
    let (first, second, attempts) = halves(&user);
    put(&user, &first, &attempts).unwrap();
    user.commit("half");
    user.write("f", &read(&user, "f").replace('9', "mine"));
    user.commit("mine");
    put(&user, &second, &attempts).unwrap();
    is_whole(&user, "mine");
}

#[test]
fn what_was_merged_and_reverted_comes_back_with_the_later_attempt() {
    let user = World::with(&[("f", LINES)]);
    let (first, second, attempts) = halves(&user);
    import_branch(&user.checkout(), &first.change(&[]), &attempts).unwrap();
    git(
        &user.user(),
        &["merge", "-q", "--no-ff", "-m", "m", &first.branch],
    );
    git(&user.user(), &["revert", "--no-edit", "-m", "1", "HEAD"]);
    assert_eq!(read(&user, "f"), LINES);
    put(&user, &second, &attempts).unwrap();
    is_whole(&user, "9");
}

#[test]
fn an_attempt_that_is_there_in_part_is_named_where_the_later_one_conflicts() {
    let user = World::with(&[("f", LINES)]);
    let (first, second, attempts) = halves(&user);
    put(&user, &first, &attempts).unwrap();
    fs::remove_file(user.user().join("scratch")).unwrap();
    let refused = put(&user, &second, &attempts).unwrap_err();
    let said = refused.to_string();
    assert!(
        said.contains("an earlier attempt of the same task"),
        "{said}"
    );
    match refused {
        ApplyError::Conflict {
            attempt, makers, ..
        } => {
            let attempt = attempt.expect("it is named");
            assert_eq!((attempt.commit, makers), (first.commit, Vec::new()));
            assert_eq!(attempt.differ, ["scratch"]);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(read(&user, "new"), "half\n");
    // What is advised then. It says that `scratch` is not there.
    let mut back = std::process::Command::new("git");
    back.args(["apply", "-R", "--reject"]).arg(&first.patch);
    assert!(!back.current_dir(user.user()).status().unwrap().success());
    put(&user, &second, &attempts).unwrap();
    is_whole(&user, "9");
}

#[test]
fn an_attempt_that_was_taken_back_for_something_else_takes_nothing_out_of_the_later_one() {
    let user = World::with(&[("f", LINES)]);
    let task = user.start();
    task.write("f", &lines(&[(2, "two"), (6, "six")]));
    let first = attempt(&user, &task, 1);
    task.write("f", &lines(&[(2, "two"), (6, "six"), (9, "nine")]));
    let second = attempt(&user, &task, 2);
    let attempts = commits(&[&first, &second]);
    put(&user, &first, &attempts).unwrap();
    let mine = lines(&[(2, "mine")]);
    user.write("f", &mine);
    user.commit("mine");
    let refused = put(&user, &second, &attempts);
    assert!(
        matches!(refused, Err(ApplyError::Conflict { .. })),
        "{refused:?}"
    );
    assert_eq!(read(&user, "f"), mine);
}

#[test]
fn a_file_of_the_users_that_an_attempt_also_made_is_not_taken_away_with_it() {
    let user = World::with(&[("f", LINES)]);
    let (_, second, attempts) = halves(&user);
    user.write("scratch", "notes\n");
    put(&user, &second, &attempts).unwrap();
    assert_eq!(read(&user, "scratch"), "notes\n");
    assert_eq!(read(&user, "new"), "half\nand half\n");
}
