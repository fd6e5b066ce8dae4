//! Changes that a person brought in without `ctl apply`, and the attempts that come after them.

use std::fs;

use crate::{
    attempts::{Put, attempt, commits, halves, is_whole, put, read},
    common::{Done, LINES, World, git, lines},
};
use orchestra_repo::{ApplyError, Change, Received, apply};

/// `ctl diff TASK | git apply`.
fn by_hand(user: &World, done: &Done) {
    let patch = done.patch.to_string_lossy().into_owned();
    git(&user.user(), &["apply", &patch]);
}

/// As `ctl apply` does it where the change alone was refused: with the first attempt at hand.
fn put_with(user: &World, done: &Done, first: &Done, attempts: &[String]) -> Put {
    put_for(user, done, first, attempts, true)
}

/// The same, `attended` by a person or not.
fn put_for(user: &World, done: &Done, first: &Done, attempts: &[String], attended: bool) -> Put {
    let change = Change {
        attempts,
        attended,
        ..done.change(&[])
    };
    let received = Received::take(&user.checkout(), &change)?;
    received.take_attempt(&first.change(&[]))?;
    apply(&user.checkout(), &received)
}

#[test]
fn a_later_attempt_takes_the_place_of_one_that_was_brought_in_by_hand() {
    for is_committed in [false, true] {
        let user = World::with(&[("f", LINES)]);
        let (first, second, attempts) = halves(&user);
        by_hand(&user, &first);
        if is_committed {
            user.commit("by hand");
        }
        let applied = put_with(&user, &second, &first, &attempts).unwrap();
        assert_eq!((applied.files, applied.already), (3, false));
        is_whole(&user, "9");
    }
}

#[test]
fn what_was_brought_in_by_hand_is_known_once_it_was_applied_again() {
    let user = World::with(&[("f", LINES)]);
    let task = user.start();
    task.write("f", &lines(&[(2, "two")]));
    task.write("scratch", "notes\n");
    let first = attempt(&user, &task, 1);
    task.write("f", &lines(&[(2, "two"), (9, "nine")]));
    fs::remove_file(task.dir().join("scratch")).unwrap();
    let second = attempt(&user, &task, 2);
    by_hand(&user, &first);
    assert!(put(&user, &first, &commits(&[&first])).unwrap().already);
    put(&user, &second, &commits(&[&first, &second])).unwrap();
    assert_eq!(read(&user, "f"), lines(&[(2, "two"), (9, "nine")]));
    assert!(!user.user().join("scratch").exists());
}

#[test]
fn a_change_that_is_there_is_there_already_whatever_else_was_renamed() {
    let user = World::with(&[("a", LINES), ("keep", "k\n")]);
    let task = user.start();
    fs::rename(task.dir().join("a"), task.dir().join("b")).unwrap();
    let done = task.done();
    by_hand(&user, &done);
    user.commit("by hand");
    // Git takes the other one for the new name of `a`.
    user.write("b", &lines(&[(1, "x")]));
    user.commit("edit");
    user.write("b", LINES);
    user.write("a2", LINES);
    user.commit("back");
    assert!(put(&user, &done, &commits(&[&done])).unwrap().already);
}

#[test]
fn an_attempt_that_is_there_in_part_is_told_with_what_differs() {
    for is_committed in [false, true] {
        let user = World::with(&[("f", LINES)]);
        let (first, second, attempts) = halves(&user);
        by_hand(&user, &first);
        fs::remove_file(user.user().join("scratch")).unwrap();
        if is_committed {
            user.commit("some of it");
        }
        let refused = put_with(&user, &second, &first, &attempts).unwrap_err();
        let said = refused.to_string();
        let why = "an earlier attempt of the same task, applied before, changed the same; of its files \
                   these are not as it made them: `scratch`";
        assert!(said.ends_with(why), "{said}");
        let ApplyError::Conflict { attempt, .. } = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(attempt.unwrap().commit, first.commit);
        assert_eq!(read(&user, "new"), "half\n");
    }
}

#[test]
fn an_edit_over_what_was_brought_in_by_hand_is_not_written_over() {
    let user = World::with(&[("f", LINES)]);
    let (first, second, attempts) = halves(&user);
    by_hand(&user, &first);
    let mine = read(&user, "f").replace('9', "mine");
    user.write("f", &mine);
    let refused = put_with(&user, &second, &first, &attempts);
    let named = matches!(&refused, Err(ApplyError::InTheWay { paths }) if paths == &["f"]);
    assert!(named, "{refused:?}");
    assert_eq!(read(&user, "f"), mine);
}

#[test]
fn what_a_person_has_that_an_attempt_also_made_stays_where_the_change_fits_beside_it() {
    let user = World::with(&[("f", LINES), ("old", "o\n")]);
    let task = user.start();
    fs::remove_file(task.dir().join("old")).unwrap();
    let first = attempt(&user, &task, 1);
    task.write("old", "o\n");
    task.write("f", &lines(&[(2, "two")]));
    let second = attempt(&user, &task, 2);
    fs::remove_file(user.user().join("old")).unwrap();
    user.commit("mine");
    let attempts = commits(&[&first, &second]);
    put_with(&user, &second, &first, &attempts).unwrap();
    assert!(!user.user().join("old").exists());
}

/// A person has done the same as the first attempt, and committed it: who takes that for the attempt says so.
#[test]
fn the_place_of_what_a_person_may_have_done_is_taken_under_the_persons_eyes_alone() {
    let user = World::with(&[("f", LINES), ("old", "o\n")]);
    let task = user.start();
    fs::remove_file(task.dir().join("old")).unwrap();
    let first = attempt(&user, &task, 1);
    task.write("old", "edited\n");
    let second = attempt(&user, &task, 2);
    fs::remove_file(user.user().join("old")).unwrap();
    user.commit("mine");
    let attempts = commits(&[&first, &second]);
    let unattended = put_for(&user, &second, &first, &attempts, false);
    let refused = matches!(unattended, Err(ApplyError::Conflict { .. }));
    assert!(refused && !user.user().join("old").exists());
    let applied = put_with(&user, &second, &first, &attempts).unwrap();
    assert_eq!(applied.replaced, Some(first.commit));
    assert_eq!(read(&user, "old"), "edited\n");
}

#[test]
fn what_was_there_of_a_change_that_was_written_is_known_too() {
    let user = World::with(&[("f", LINES)]);
    let snapshot = user.checkout().snapshot().unwrap();
    let task = user.start_from(&snapshot);
    let other = user.start_after(&snapshot, 2, &[]);
    task.write("f", &lines(&[(2, "two")]));
    task.write("new", "n\n");
    let done = task.done();
    user.write("f", &lines(&[(2, "two")]));
    let applied = put(&user, &done, &commits(&[&done])).unwrap();
    assert!(!applied.already && applied.replaced.is_none());
    other.write("f", &lines(&[(9, "nine")]));
    let other = other.done();
    put(&user, &other, &commits(&[&other])).unwrap();
    assert_eq!(read(&user, "f"), lines(&[(2, "two"), (9, "nine")]));
}
