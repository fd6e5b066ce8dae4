//! Tasks that come each after the one before and are applied each when they are done, while later ones are added.

use std::fs;

use crate::common::{Done, World};
use orchestra_repo::{Earlier, Snapshot};

/// A task that adds a line to what there is.
fn line(user: &World, snapshot: &Snapshot, number: u64, before: &[&Done]) -> Done {
    let task = user.start_after(snapshot, number, before);
    let left_out: Vec<_> = task.conflicts.iter().flatten().collect();
    assert!(left_out.is_empty(), "{number} lacks what it comes after");
    let file = task.dir().join("new.txt");
    let text = fs::read_to_string(file).unwrap_or_default();
    task.write("new.txt", &format!("{text}{number}\n"));
    task.done()
}

fn now(user: &World) -> Snapshot {
    user.checkout().snapshot().unwrap()
}

/// Applies it after the others of the chain, which are there.
fn apply(user: &World, done: &Done) {
    let all = Earlier {
        start: done.start.clone(),
        base: done.start.clone(),
        commit: done.base.clone(),
        applied: false,
    };
    let earlier: Vec<Earlier> = [all].into_iter().chain(done.below.clone()).collect();
    done.apply(user, &earlier).unwrap();
}

/// The same for a chain whose first two are applied and whose last two were added when one was: the last one
/// is applied, and brings the one before it.
fn last_of_four(between: impl Fn(&World)) -> String {
    let user = World::with(&[("a.txt", "one\n")]);
    let first = now(&user);
    let a = line(&user, &first, 1, &[]);
    let b = line(&user, &first, 2, &[&a]);
    apply(&user, &a);
    between(&user);
    let second = now(&user);
    let c = line(&user, &second, 3, &[&b]);
    let d = line(&user, &second, 4, &[&c]);
    apply(&user, &b);
    between(&user);
    apply(&user, &d);
    fs::read_to_string(user.user().join("new.txt")).unwrap()
}

/// What the user has at the end, with something between two applies.
fn pipeline(between: impl Fn(&World)) -> String {
    let user = World::with(&[("a.txt", "one\n")]);
    let first = now(&user);
    let a = line(&user, &first, 1, &[]);
    let b = line(&user, &first, 2, &[&a]);
    let c = line(&user, &first, 3, &[&b]);
    apply(&user, &a);
    between(&user);
    let d = line(&user, &now(&user), 4, &[&c]);
    apply(&user, &b);
    between(&user);
    let e = line(&user, &now(&user), 5, &[&d]);
    for done in [&c, &d, &e] {
        apply(&user, done);
        between(&user);
    }
    fs::read_to_string(user.user().join("new.txt")).unwrap()
}

#[test]
fn what_is_added_when_a_part_of_a_chain_is_applied_begins_with_all_of_it() {
    assert_eq!(pipeline(|_| ()), "1\n2\n3\n4\n5\n");
}

#[test]
fn the_last_of_a_chain_that_is_applied_in_part_can_be_applied_alone() {
    assert_eq!(last_of_four(|_| ()), "1\n2\n3\n4\n");
    assert_eq!(last_of_four(|user| user.commit("done")), "1\n2\n3\n4\n");
}

#[test]
fn what_is_added_when_a_part_of_a_chain_is_committed_begins_with_all_of_it() {
    assert_eq!(pipeline(|user| user.commit("done")), "1\n2\n3\n4\n5\n");
}
