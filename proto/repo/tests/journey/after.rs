//! Tasks that come after others begin with their changes.

use std::{fs, path::Path};

use crate::common::{Done, LINES, Task, World, git, import_branch, lines};
use orchestra_repo::{ApplyError, Earlier, Removal, remove_branch, task_branches};

fn read(dir: &Path, name: &str) -> String {
    fs::read_to_string(dir.join(name)).unwrap()
}

/// A task that writes one file.
fn task(user: &World, number: u64, before: &[&Done], file: &str, text: &str) -> Task {
    let task = user.start_after(&user.checkout().snapshot().unwrap(), number, before);
    task.write(file, text);
    task
}

fn done(user: &World, number: u64, before: &[&Done], file: &str, text: &str) -> Done {
    task(user, number, before, file, text).done()
}

/// One that adds a file, one after it that edits that file.
fn chain(user: &World) -> (Done, Done) {
    let first = done(user, 1, &[], "new.txt", LINES);
    let second = done(user, 2, &[&first], "new.txt", &lines(&[(5, "five")]));
    (first, second)
}

/// One that adds a file. The one after it, which removes that file and adds another, is applied and has a branch.
fn applied_with_one_that_undoes_it(user: &World) -> Done {
    let first = done(user, 1, &[], "old.txt", LINES);
    let task = task(user, 2, &[&first], "new.txt", LINES);
    fs::remove_file(task.dir().join("old.txt")).unwrap();
    let second = task.done();
    second.apply(user, &before(&second, &first, false)).unwrap();
    import_branch(&user.checkout(), &second.change(&[]), &[]).unwrap();
    first
}

fn entries(task: &Task) -> Vec<(String, &'static str)> {
    let rows = crate::common::rows(&task.collect()).into_iter();
    rows.map(|(path, change, _, _)| (path, change)).collect()
}

/// What `apply` is told of a chain's first task when the second is applied.
fn before(second: &Done, first: &Done, applied: bool) -> [Earlier; 2] {
    let all = Earlier {
        start: second.start.clone(),
        base: second.start.clone(),
        commit: second.base.clone(),
        applied: false,
    };
    [all, first.earlier(applied)]
}

#[test]
fn a_task_begins_with_the_change_before_it_and_tells_its_own() {
    let user = World::with(&[("a.txt", "one\n")]);
    user.write("a.txt", "not committed\n");
    let first = done(&user, 1, &[], "new.txt", LINES);
    let second = task(&user, 2, &[&first], "new.txt", &lines(&[(5, "five")]));
    assert_eq!(second.conflicts, [None]);
    assert_eq!(read(second.dir(), "a.txt"), "not committed\n");
    assert_eq!(entries(&second), [("new.txt".to_owned(), "modified")]);
    let patch = read(&second.out, "change.patch");
    assert!(patch.contains("+five") && !patch.contains("+9"), "{patch}");
    let log = git(second.dir(), &["log", "--format=%s", "HEAD"]);
    assert_eq!(log, "work\nUncommitted work\nfirst");
}

#[test]
fn the_branch_has_the_whole_chain() {
    let user = World::with(&[("a.txt", "one\n")]);
    let (first, second) = chain(&user);
    import_branch(&user.checkout(), &second.change(&[]), &[]).unwrap();
    let tree = |name: &str| {
        git(
            &user.user(),
            &["show", &format!("{}:{name}", second.branch)],
        )
    };
    assert_eq!(tree("new.txt") + "\n", lines(&[(5, "five")]));
    git(
        &user.user(),
        &["merge-base", "--is-ancestor", &first.commit, &second.branch],
    );
}

#[test]
fn a_task_that_changed_nothing_passes_on_what_it_was_given() {
    let user = World::with(&[("a.txt", "one\n")]);
    let first = done(&user, 1, &[], "new.txt", LINES);
    let snapshot = user.checkout().snapshot().unwrap();
    let review = user.start_after(&snapshot, 2, &[&first]).done();
    assert_eq!(review.commit, review.base);
    let fix = user.start_after(&snapshot, 3, &[&review]);
    assert_eq!(read(fix.dir(), "new.txt"), LINES);
    assert!(user.start_after(&snapshot, 4, &[]).done().bundle.is_none());
}

#[test]
fn changes_of_several_tasks_are_merged() {
    let user = World::with(&[("a.txt", LINES)]);
    let first = done(&user, 1, &[], "a.txt", &lines(&[(1, "one")]));
    let second = done(&user, 2, &[], "a.txt", &lines(&[(9, "nine")]));
    let both = user.start_after(&user.checkout().snapshot().unwrap(), 3, &[&first, &second]);
    assert_eq!(both.conflicts, [None, None]);
    assert_eq!(read(both.dir(), "a.txt"), lines(&[(1, "one"), (9, "nine")]));
    let again = user.start_after(&user.checkout().snapshot().unwrap(), 4, &[&first, &second]);
    assert_eq!(again.workspace.base(), both.workspace.base());
}

#[test]
fn a_diamond_has_what_both_sides_made_of_a_new_file() {
    let user = World::with(&[("a.txt", "one\n")]);
    let top = done(&user, 1, &[], "new.txt", LINES);
    let left = done(&user, 2, &[&top], "new.txt", &lines(&[(1, "one")]));
    // The user goes on between two submissions.
    user.write("a.txt", "two\n");
    let right = done(&user, 3, &[&top], "new.txt", &lines(&[(9, "nine")]));
    user.write("a.txt", "three\n");
    let end = user.start_after(&user.checkout().snapshot().unwrap(), 4, &[&left, &right]);
    assert_eq!(end.conflicts, [None, None]);
    assert_eq!(
        read(end.dir(), "new.txt"),
        lines(&[(1, "one"), (9, "nine")])
    );
    assert_eq!(
        read(end.dir(), "a.txt"),
        "three\n",
        "what the user changed stands"
    );
}

#[test]
fn a_change_that_does_not_go_together_is_left_out_and_at_hand() {
    let user = World::with(&[("a.txt", LINES)]);
    let first = done(&user, 1, &[], "a.txt", &lines(&[(5, "five")]));
    let second = done(&user, 2, &[], "a.txt", &lines(&[(5, "V")]));
    let third = user.start_after(&user.checkout().snapshot().unwrap(), 3, &[&first, &second]);
    assert_eq!(third.conflicts, [None, Some(vec!["a.txt".to_owned()])]);
    assert_eq!(read(third.dir(), "a.txt"), lines(&[(5, "five")]));
    let shown = git(third.dir(), &["show", "orchestra/task_002:a.txt"]);
    assert_eq!(shown + "\n", lines(&[(5, "V")]));
    // An agent that takes it over itself: its merge is its own change.
    git(
        third.dir(),
        &["merge", "-q", "-X", "theirs", "orchestra/task_002"],
    );
    assert_eq!(entries(&third), [("a.txt".to_owned(), "modified")]);
    third.done().apply(&user, &[]).unwrap();
    assert_eq!(read(&user.user(), "a.txt"), lines(&[(5, "V")]));
}

#[test]
fn applying_the_last_of_a_chain_brings_what_it_builds_on() {
    let user = World::with(&[("a.txt", "one\n")]);
    let (first, second) = chain(&user);
    let applied = second
        .apply(&user, &before(&second, &first, false))
        .unwrap();
    assert_eq!((applied.files, applied.was_in), (1, vec![false, false]));
    assert_eq!(read(&user.user(), "new.txt"), lines(&[(5, "five")]));
}

#[test]
fn a_change_that_is_there_within_a_later_one_undoes_nothing_of_that() {
    let user = World::with(&[("a.txt", "one\n")]);
    let first = applied_with_one_that_undoes_it(&user);
    let is_as_the_second_left_it = || {
        let again = first.apply_again(&user, &[]).unwrap();
        assert_eq!(again.within.as_deref(), Some("orchestra/task_002"));
        assert!(!user.user().join("old.txt").exists());
    };
    is_as_the_second_left_it();
    user.commit("both");
    is_as_the_second_left_it();
    user.write("new.txt", "edited since\n");
    is_as_the_second_left_it();
    // Taken back, it is not there any more.
    fs::remove_file(user.user().join("new.txt")).unwrap();
    let again = first.apply_again(&user, &[]).unwrap();
    assert_eq!(again.within, None);
    assert_eq!(read(&user.user(), "old.txt"), LINES);
}

#[test]
fn a_chain_is_applied_one_after_the_other_without_a_commit_between() {
    let user = World::with(&[("a.txt", "one\n")]);
    let (first, second) = chain(&user);
    first.apply(&user, &[]).unwrap();
    let applied = second.apply(&user, &before(&second, &first, true)).unwrap();
    assert_eq!((applied.files, applied.was_in), (1, vec![true, true]));
    assert_eq!(read(&user.user(), "new.txt"), lines(&[(5, "five")]));
    let again = second.apply(&user, &before(&second, &first, true)).unwrap();
    assert_eq!(again.files, 1, "again is no error");
}

#[test]
fn a_chain_is_applied_over_what_was_committed_and_edited_meanwhile() {
    let user = World::with(&[("a.txt", "one\n")]);
    let (first, second) = chain(&user);
    first.apply(&user, &[]).unwrap();
    user.write("new.txt", &lines(&[(1, "mine")]));
    user.commit("the first task, and mine");
    second.apply(&user, &before(&second, &first, true)).unwrap();
    assert_eq!(
        read(&user.user(), "new.txt"),
        lines(&[(1, "mine"), (5, "five")])
    );
}

#[test]
fn a_branch_that_was_merged_counts_as_applied() {
    let user = World::with(&[("a.txt", "one\n")]);
    let (first, second) = chain(&user);
    import_branch(&user.checkout(), &first.change(&[]), &[]).unwrap();
    git(&user.user(), &["merge", "-q", &first.branch]);
    user.write("new.txt", &lines(&[(1, "mine")]));
    user.commit("mine");
    let applied = second
        .apply(&user, &before(&second, &first, false))
        .unwrap();
    assert_eq!(applied.was_in, [true, true]);
    assert_eq!(
        read(&user.user(), "new.txt"),
        lines(&[(1, "mine"), (5, "five")])
    );
}

#[test]
fn edits_over_an_applied_change_are_never_written_over() {
    let user = World::with(&[("a.txt", "one\n")]);
    let (first, second) = chain(&user);
    first.apply(&user, &[]).unwrap();
    let mine = lines(&[(1, "mine")]);
    user.write("new.txt", &mine);
    let refused = second
        .apply(&user, &before(&second, &first, true))
        .unwrap_err();
    assert!(
        matches!(&refused, ApplyError::InTheWay { paths } if paths == &["new.txt"]),
        "{refused:?}"
    );
    assert_eq!(read(&user.user(), "new.txt"), mine);
}

#[test]
fn what_was_applied_elsewhere_does_not_count_here() {
    let user = World::with(&[("a.txt", "one\n")]);
    let (first, second) = chain(&user);
    // The record says so, of another checkout.
    second.apply(&user, &before(&second, &first, true)).unwrap();
    assert_eq!(read(&user.user(), "new.txt"), lines(&[(5, "five")]));
}

#[test]
fn one_of_two_changes_below_may_be_there() {
    let user = World::with(&[("a.txt", LINES), ("b.txt", LINES)]);
    let first = done(&user, 1, &[], "a.txt", &lines(&[(5, "five")]));
    let second = done(&user, 2, &[], "b.txt", &lines(&[(5, "V")]));
    let third = done(
        &user,
        3,
        &[&first, &second],
        "a.txt",
        &lines(&[(5, "FIVE")]),
    );
    first.apply(&user, &[]).unwrap();
    user.commit("the first");
    let all = Earlier {
        start: third.start.clone(),
        base: third.start.clone(),
        commit: third.base.clone(),
        applied: false,
    };
    let earlier = [all, first.earlier(true), second.earlier(false)];
    let applied = third.apply(&user, &earlier).unwrap();
    assert_eq!(applied.was_in, [false, true, false]);
    assert_eq!(read(&user.user(), "a.txt"), lines(&[(5, "FIVE")]));
    assert_eq!(read(&user.user(), "b.txt"), lines(&[(5, "V")]));
}

#[test]
fn what_was_applied_before_the_snapshot_is_not_merged_again() {
    let user = World::with(&[("a.txt", "one\n")]);
    let (first, second) = chain(&user);
    // Queued when the first is in the checkout already, and the second not.
    first.apply(&user, &[]).unwrap();
    let third = user.start_after(&user.checkout().snapshot().unwrap(), 3, &[&second]);
    assert_eq!(third.conflicts, [None]);
    assert_eq!(read(third.dir(), "new.txt"), lines(&[(5, "five")]));
    // And when both are, and committed.
    second.apply(&user, &before(&second, &first, true)).unwrap();
    user.commit("both");
    let fourth = user.start_after(&user.checkout().snapshot().unwrap(), 4, &[&second]);
    assert_eq!(fourth.conflicts, [None]);
    assert_eq!(read(fourth.dir(), "new.txt"), lines(&[(5, "five")]));
}

#[test]
fn what_was_applied_after_the_snapshot_is_merged() {
    let user = World::with(&[("a.txt", "one\n")]);
    let (first, second) = chain(&user);
    first.apply(&user, &[]).unwrap();
    let snapshot = user.checkout().snapshot().unwrap();
    // It is known to be applied when the third starts, and the file is other than it began with.
    second.apply(&user, &before(&second, &first, true)).unwrap();
    let third = user.start_after(&snapshot, 3, &[&second]);
    assert_eq!(third.conflicts, [None]);
    assert_eq!(read(third.dir(), "new.txt"), lines(&[(5, "five")]));
}

#[test]
fn a_change_that_was_taken_back_comes_again_with_what_builds_on_it() {
    let user = World::with(&[("a.txt", "one\n")]);
    let (first, second) = chain(&user);
    let third = done(&user, 3, &[&second], "more.txt", "more\n");
    first.apply(&user, &[]).unwrap();
    second.apply(&user, &before(&second, &first, true)).unwrap();
    user.write("new.txt", LINES);
    let mut earlier = before(&third, &second, true).to_vec();
    earlier.push(first.earlier(true));
    let applied = third.apply(&user, &earlier).unwrap();
    assert_eq!(applied.was_in, [false, false, true]);
    assert_eq!(read(&user.user(), "new.txt"), lines(&[(5, "five")]));
}

/// What the help of `ctl branches` says of it.
#[test]
fn without_the_branch_of_a_later_change_what_that_undid_comes_back() {
    let user = World::with(&[("a.txt", "one\n")]);
    let first = applied_with_one_that_undoes_it(&user);
    let seen = task_branches(&user.checkout()).unwrap();
    let [later] = &seen[..] else {
        panic!("there is one");
    };
    let removed = remove_branch(&user.checkout(), later).unwrap();
    assert_eq!(removed, Removal::Done);
    let again = first.apply_again(&user, &[]).unwrap();
    assert_eq!((again.within, again.files), (None, 1));
    assert!(user.user().join("old.txt").exists());
    assert!(user.user().join("new.txt").exists());
}
